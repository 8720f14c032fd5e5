//! The line of one key: who flies, who waits, and whether the line is blocked.

use std::collections::VecDeque;

use super::window::Ticket;

/// The entries of one (topic, key) in the window.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Entries that wait for those before them, in order.
    pub(super) waiting: VecDeque<Ticket>,
    /// Entries that may fly or do.
    pub(super) ahead: usize,
    /// An entry of this key went, or goes with the next settlement, to the side table: later ones
    /// that are read past the checkpoint have to go there too.
    pub(super) blocked: bool,
    /// Entries of this key in the window that are not settled yet. The line is forgotten when
    /// there are none: from then on the database knows whether the key is blocked.
    pub(super) members: usize,
}

impl Line {
    /// Whether the next entry need not wait for another one in memory.
    pub(super) fn is_free(&self) -> bool {
        self.ahead == 0 && self.waiting.is_empty()
    }
}
