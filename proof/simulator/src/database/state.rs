//! What the database keeps: everything here is committed, and forgotten together if a standby takes
//! over that had not received it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::verdict::DeadReason;
use posthaste_core::{Checkpoint, Message, Timestamp};

/// A committed row of the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The transaction that stated it; 0 where there is one writer.
    pub(crate) xid: u64,
    /// What decides about its lane.
    pub(crate) hash: u64,
    pub(crate) message: Arc<Message>,
}

/// How an entry waits in the side table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// Not due.
    Due,
    /// To be tried again.
    Retry,
    /// Behind its key.
    Behind,
    /// Set aside with its topic and kind.
    Unroutable,
    /// Behind a dead letter: the dead letter itself.
    Parked,
}

impl Wait {
    /// Whether later entries of the key have to wait for it.
    pub(crate) fn blocks(self) -> bool {
        matches!(self, Self::Retry | Self::Behind | Self::Parked)
    }
}

/// A row of the side table.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) lane: u16,
    pub(crate) hash: u64,
    pub(crate) topic: String,
    pub(crate) kind: String,
    pub(crate) key: Option<String>,
    pub(crate) wait: Wait,
    pub(crate) attempts: u32,
    pub(crate) ready_at: Option<Timestamp>,
}

impl Held {
    pub(crate) fn is_in_line(&self, topic: &str, key: &str) -> bool {
        self.wait.blocks() && self.topic == topic && self.key.as_deref() == Some(key)
    }

    pub(crate) fn is_aside(&self, lane: u16, topic: &str, kind: &str) -> bool {
        let route = self.topic == topic && self.kind == kind;
        self.wait == Wait::Unroutable && self.lane == lane && route
    }

    pub(crate) fn is_ready(&self, now: Timestamp) -> bool {
        self.ready_at.is_some_and(|at| at <= now)
    }
}

/// A dead letter of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Why.
    pub reason: DeadReason,
    /// Counted attempts.
    pub attempts: u32,
    /// Whether its key waits with it.
    pub parked: bool,
}

/// A lease as it stands in its table.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) owner: String,
    pub(crate) token: u64,
    /// The beginning of time once it was given back.
    pub(crate) expires_at: Timestamp,
    pub(crate) ttl: Duration,
    /// In which life of the server it was granted.
    pub(crate) life: u64,
    /// The number of the last settlement under it.
    pub(crate) settlement: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) outbox: BTreeMap<u64, Row>,
    pub(crate) held: BTreeMap<u64, Held>,
    pub(crate) letters: BTreeMap<u64, Letter>,
    /// By lane of the present division.
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) wanted: u16,
    pub(crate) leases: BTreeMap<String, Grant>,
    /// State changes that were committed together with messages.
    pub(crate) business: BTreeSet<usize>,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            outbox: BTreeMap::new(),
            held: BTreeMap::new(),
            letters: BTreeMap::new(),
            checkpoints: vec![Checkpoint::start()],
            wanted: 1,
            leases: BTreeMap::new(),
            business: BTreeSet::new(),
        }
    }

    /// How many lanes there are.
    pub(crate) fn lanes(&self) -> u16 {
        u16::try_from(self.checkpoints.len()).unwrap_or(u16::MAX)
    }

    /// Whether entries wait that a new one of this key has to wait behind.
    pub(crate) fn is_blocked(&self, topic: &str, key: Option<&str>) -> bool {
        key.is_some_and(|key| self.held.values().any(|held| held.is_in_line(topic, key)))
    }
}
