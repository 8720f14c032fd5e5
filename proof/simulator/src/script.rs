//! What writers do: transactions, one step after the other, each at a moment of its own.

use posthaste_core::Moment;

/// A transaction of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// When it begins.
    pub(crate) begins: Moment,
    /// What it does, and when.
    pub(crate) steps: Vec<(Moment, Step)>,
    /// When it ends.
    pub(crate) ends: Moment,
    /// Whether it is committed.
    pub(crate) commits: bool,
}

/// A step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Writes something else.
    Touch,
    /// States a message.
    State(Stated),
    /// Sets a savepoint.
    Savepoint,
    /// Takes back what was done since the savepoint.
    RollBack,
}

/// A message to be stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    /// Its name in this world.
    pub(crate) number: u32,
    /// Its key; 0 is none.
    pub(crate) key: u8,
    /// Its topic and its kind, by their place in the lists of the world.
    pub(crate) topic: usize,
    /// See `topic`.
    pub(crate) kind: usize,
    /// Milliseconds after it is stated before which it must not be sent; 0 if it is due at once.
    pub(crate) due_in: u64,
}
