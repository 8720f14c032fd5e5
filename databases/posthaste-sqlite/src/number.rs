//! Numbers between Rust's types and SQLite's one: signed, 64 bits.

use std::time::Duration;

use posthaste_core::{Checkpoint, Position, StoreError};

/// A count or a size, clamped to what SQLite holds.
pub(crate) fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count that came out of SQLite.
pub(crate) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A count of attempts that came out of SQLite.
pub(crate) fn attempts(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// A token or a settlement number; above the range of SQLite there is none that could match.
pub(crate) fn token(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number)
        .map_err(|_| StoreError::rejected(format!("{number} is out of the range of SQLite")))
}

/// Whole milliseconds, rounded up so that nothing happens early, and bounded by a thousand years
/// so that sums stay in range.
pub(crate) fn millis(duration: Duration) -> i64 {
    const MOST: i64 = 1000 * 365 * 24 * 3600 * 1000;
    let rounded = duration.as_nanos().div_ceil(1_000_000);
    i64::try_from(rounded).unwrap_or(MOST).min(MOST)
}

/// A duration from milliseconds that came out of SQLite; zero for what is past.
pub(crate) fn duration(millis: i64) -> Duration {
    Duration::from_millis(count(millis))
}

/// The position of a row.
pub(crate) fn position(seq: i64) -> Position {
    Position::new(seq.to_string())
}

/// The row at a position.
pub(crate) fn seq(position: &Position) -> Result<i64, StoreError> {
    position.as_str().parse().map_err(|_| {
        StoreError::rejected(format!("'{position}' is not a position of a SQLite outbox"))
    })
}

/// The row up to which a checkpoint reaches.
pub(crate) fn reached(checkpoint: &Checkpoint) -> Result<i64, StoreError> {
    if checkpoint.is_start() {
        return Ok(0);
    }
    checkpoint.as_str().parse().map_err(|_| {
        let token = checkpoint.as_str();
        StoreError::rejected(format!("'{token}' is not a checkpoint of a SQLite outbox"))
    })
}
