//! Where something is, and how far a reader has come. Both are tokens that only their backend
//! reads into: a sequence number here, a log position or a resume token elsewhere.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The place of an entry in its source: opaque, printable, and ordered within one source.
///
/// The order is by length, then by bytes, so that decimal numbers without leading zeros and
/// fixed-width hexadecimal both sort as numbers do; a backend must print its tokens so that this
/// holds. The engine never computes with them.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(Box<str>);

impl Position {
    /// From a backend's token.
    pub fn new(token: impl Into<Box<str>>) -> Self {
        Self(token.into())
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far the reader of a source has come for one destination: everything up to here has a
/// verdict. Unlike a [`Position`] it has no order; a backend may keep more than one number in it
/// (PostgreSQL: a frontier and a snapshot).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checkpoint(Box<str>);

impl Checkpoint {
    /// From a backend's token.
    pub fn new(token: impl Into<Box<str>>) -> Self {
        Self(token.into())
    }

    /// Before the first entry.
    pub fn start() -> Self {
        Self("".into())
    }

    /// Whether nothing has been read yet.
    pub fn is_start(&self) -> bool {
        self.0.is_empty()
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint({})", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_sort_as_numbers_do() {
        let position = |text: &str| Position::new(text);
        assert!(position("9") < position("10"));
        assert!(position("0000000A") < position("0000000B"));
    }
}
