//! Points on the calendar between Rust's type and PostgreSQL's `timestamptz`, exactly: both count
//! microseconds, from 1970 and from 2000.

use posthaste_core::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// From 1970 to 2000, in microseconds.
const TO_2000: i64 = 946_684_800_000_000;

/// A `timestamptz`. Infinities are the ends of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At(pub(crate) Timestamp);

impl At {
    /// Microseconds since 2000; the ends of the range stay ends and do not become infinities.
    pub(crate) fn wire(self) -> i64 {
        self.0.as_micros().saturating_sub(TO_2000).clamp(i64::MIN + 1, i64::MAX - 1)
    }

    pub(crate) fn from_wire(micros: i64) -> Self {
        Self(Timestamp::from_micros(micros.saturating_add(TO_2000)))
    }
}

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for At {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for At {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<'_, Postgres>>::encode_by_ref(&self.wire(), buffer)
    }

    fn size_hint(&self) -> usize {
        size_of::<i64>()
    }
}

impl<'r> Decode<'r, Postgres> for At {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                <i64 as Decode<'r, Postgres>>::decode(value).map(Self::from_wire)
            }
            PgValueFormat::Text => Err("a time came as text; it is asked for in binary".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_through_unchanged_and_never_become_infinite() {
        for micros in [0, 1, -1, TO_2000, 1_800_000_000_123_456] {
            let at = At(Timestamp::from_micros(micros));
            assert_eq!(At::from_wire(at.wire()), at);
        }
        assert_eq!(At(Timestamp::from_micros(TO_2000)).wire(), 0);
        assert!(At(Timestamp::from_micros(i64::MIN)).wire() > i64::MIN);
    }
}
