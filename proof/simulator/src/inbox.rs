//! The model of a consumer's database: which messages it is done with, how often it tried the
//! others, and transactions that wait for each other over one message.

use std::collections::{BTreeMap, BTreeSet};

use posthaste_core::MessageId;
use posthaste_core::inbox::Acceptance;

/// Names a transaction: the process, its incarnation and the run.
pub(crate) type Holder = (usize, u32, u64);

/// See the module.
#[derive(Debug, Default)]
pub struct Inbox {
    pub(crate) is_up: bool,
    /// In the order in which they were done.
    done: Vec<MessageId>,
    attempts: BTreeMap<MessageId, u32>,
    dead: BTreeSet<MessageId>,
    /// Acceptances that are not committed.
    open: BTreeMap<MessageId, Holder>,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Self {
        Self { is_up: true, ..Self::default() }
    }

    /// Records inside a transaction that these are done; `None` if somebody else's transaction has
    /// to end first.
    pub(crate) fn accept(&mut self, holder: Holder, ids: &[MessageId]) -> Option<Vec<Acceptance>> {
        let foreign = |id| self.open.get(id).is_some_and(|other| *other != holder);
        if ids.iter().any(foreign) {
            return None;
        }
        let accepted = ids.iter().map(|id| {
            let before = self.is_done(*id) || self.open.insert(*id, holder).is_some();
            if before { Acceptance::Before } else { Acceptance::First }
        });
        Some(accepted.collect())
    }

    /// Ends a transaction; its acceptances count only if it commits.
    pub(crate) fn end(&mut self, holder: Holder, commits: bool) -> Vec<MessageId> {
        let held = self.open.iter().filter(|(_, other)| **other == holder);
        let ids: Vec<MessageId> = held.map(|(id, _)| *id).collect();
        for id in &ids {
            self.open.remove(id);
            if commits {
                self.done.push(*id);
                self.attempts.remove(id);
            }
        }
        ids
    }

    pub(crate) fn is_done(&self, id: MessageId) -> bool {
        self.dead.contains(&id) || self.done.contains(&id)
    }

    /// Counts an attempt and returns how many there have been with it.
    pub(crate) fn begin_attempt(&mut self, id: MessageId) -> u32 {
        let attempts = self.attempts.entry(id).or_default();
        *attempts += 1;
        *attempts
    }

    /// Makes a message a dead letter, unless it is done.
    pub(crate) fn bury(&mut self, id: MessageId) -> bool {
        let buried = !self.is_done(id) && self.dead.insert(id);
        self.attempts.remove(&id);
        buried
    }

    pub(crate) fn is_dead(&self, id: MessageId) -> bool {
        self.dead.contains(&id)
    }

    /// Forgets all but the last done ones; what is dead neither goes nor counts.
    pub(crate) fn prune(&mut self, keep: usize) {
        let excess = self.done.len().saturating_sub(keep);
        self.done.drain(..excess);
    }

    /// The server ends at once: open transactions are gone.
    pub(crate) fn crash(&mut self) {
        self.open.clear();
        self.is_up = false;
    }
}
