//! The columns of messages as parameters of this driver.

use ::tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use bytes::{BufMut as _, BytesMut};

use crate::columns::Columns;
use crate::time::At;

/// A parameter and its type.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// The types of the columns, in the order of the statement.
pub(super) const TYPES: [Type; 10] = [
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::BYTEA_ARRAY,
];

/// The columns, in the order of the statement.
pub(super) fn parameters<'a>(columns: &'a Columns<'_>) -> [&'a (dyn ToSql + Sync); 10] {
    [
        &columns.ids,
        &columns.topics,
        &columns.kinds,
        &columns.keys,
        &columns.content_types,
        &columns.stated_at,
        &columns.due_at,
        &columns.headers,
        &columns.payloads,
        &columns.payloads_of_bytes,
    ]
}

impl ToSql for At {
    fn to_sql(
        &self,
        _type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_i64(self.wire());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}
