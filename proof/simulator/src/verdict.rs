//! What can be found wrong with a world, and what came of one.

use std::fmt;

use crate::marker::Markers;
use crate::note::Note;

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What.
    pub what: Wrong,
    /// Which message, where it is about one.
    pub message: Option<u32>,
    /// For people.
    pub detail: String,
}

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A committed message is neither delivered nor kept anywhere.
    Lost,
    /// Something arrived or took effect that was not committed, or not like that.
    Invented,
    /// A message came before one of its key that had been committed when it was stated.
    Overtaken,
    /// After a copy, a key did not go on step by step although the broker fences.
    Interleaved,
    /// A copy that no fault explains.
    Copied,
    /// A message took effect twice within the window of the inbox.
    Twice,
    /// A message was sent before its time.
    Early,
    /// A settlement or a lease was accepted that had to be refused.
    Unfenced,
    /// A settlement was carried out twice.
    Resettled,
    /// Attempts did not count up.
    Uncounted,
    /// All was well and it did not come to rest.
    Stuck,
    /// A process that was asked to stop left something behind.
    LeftBehind,
    /// The checker of histories found something that the simulator did not.
    Judged,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.what, self.detail)
    }
}

/// What came of a world.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The first thing that was wrong.
    pub violation: Option<Violation>,
    /// Where it came by.
    pub markers: Markers,
    /// Of everything that happened, so that two runs can be compared.
    pub digest: u64,
    /// How many things happened.
    pub events: u64,
    /// Messages that were committed.
    pub committed: u64,
    /// What was told, if somebody wanted to hear it.
    pub notes: Vec<Note>,
}
