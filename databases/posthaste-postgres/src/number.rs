//! Numbers between Rust's types and PostgreSQL's, which are signed.

use std::time::Duration;

use posthaste_core::frontier::Frontier;
use posthaste_core::{Checkpoint, Position, StoreError};

/// A count or a size, clamped to what PostgreSQL holds.
pub(crate) fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A sequence number or a transaction id, clamped to what PostgreSQL hands out.
pub(crate) fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count that came out of PostgreSQL.
pub(crate) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A count of attempts that came out of PostgreSQL.
pub(crate) fn attempts(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A token or a settlement number; above the range of PostgreSQL there is none that could match.
pub(crate) fn token(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number)
        .map_err(|_| StoreError::rejected(format!("{number} is out of the range of PostgreSQL")))
}

/// Whole microseconds, rounded up so that nothing happens early, and bounded by a thousand years
/// so that sums stay in range.
pub(crate) fn micros(duration: Duration) -> i64 {
    const MOST: i64 = 1000 * 365 * 24 * 3600 * 1_000_000;
    let rounded = duration.as_nanos().div_ceil(1000);
    i64::try_from(rounded).unwrap_or(MOST).min(MOST)
}

/// A duration from microseconds that came out of PostgreSQL; zero for what is past.
pub(crate) fn duration(micros: i64) -> Duration {
    Duration::from_micros(count(micros))
}

/// The position of a row.
pub(crate) fn position(seq: i64) -> Position {
    Position::new(seq.to_string())
}

/// The row at a position.
pub(crate) fn seq(position: &Position) -> Result<i64, StoreError> {
    position.as_str().parse().map_err(|_| {
        StoreError::rejected(format!("'{position}' is not a position of a PostgreSQL outbox"))
    })
}

/// How far a checkpoint reaches.
pub(crate) fn frontier(checkpoint: &Checkpoint) -> Result<Frontier, StoreError> {
    Frontier::parse(checkpoint).map_err(|error| StoreError::Failed {
        context: error.to_string(),
        source: Some(Box::new(error)),
    })
}
