//! What a running relay has done so far, for health pages and metrics.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::relay::unbound::Unbound;

/// Live figures of one relay since it started. Cheap to read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
    set_aside: AtomicU64,
    /// Whether each lane is led by this relay, and how much of it is in memory.
    lanes: Mutex<BTreeMap<u16, (bool, usize)>>,
    broker: Trouble,
    database: Trouble,
    /// What nobody is bound to.
    pub(crate) unbound: Unbound,
}

/// When something went away and what it said, while it is away.
#[derive(Debug, Default)]
struct Trouble(Mutex<Option<(SystemTime, String)>>);

/// A copy of the figures at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether this relay holds the lease of a lane.
    pub leading: bool,
    /// Lanes that it leads.
    pub lanes: Vec<u16>,
    /// Messages that the broker has accepted and that are settled.
    pub sent: u64,
    /// Attempts that were counted as failures.
    pub failed: u64,
    /// Messages that became dead letters.
    pub dead: u64,
    /// New messages that were set aside because nobody is bound to their topic and kind.
    pub set_aside: u64,
    /// Entries in memory.
    pub window: u64,
    /// Since when the broker is away, and what it said.
    pub broker_away: Option<(SystemTime, String)>,
    /// Since when the database is away, and what it said.
    pub database_away: Option<(SystemTime, String)>,
}

impl Progress {
    /// The figures now.
    pub fn snapshot(&self) -> Snapshot {
        let lanes = self.lanes().clone();
        let led: Vec<u16> =
            lanes.iter().filter(|(_, (leading, _))| *leading).map(|(lane, _)| *lane).collect();
        Snapshot {
            leading: !led.is_empty(),
            lanes: led,
            sent: self.sent.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dead: self.dead.load(Ordering::Relaxed),
            set_aside: self.set_aside.load(Ordering::Relaxed),
            window: lanes.values().map(|(_, window)| *window as u64).sum(),
            broker_away: self.broker.read(),
            database_away: self.database.read(),
        }
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, BTreeMap<u16, (bool, usize)>> {
        self.lanes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes how a lane is; whether it is news that this relay leads it, or that it does not.
    pub(crate) fn set_lane(&self, lane: u16, leading: bool, window: usize) -> bool {
        let before = self.lanes().insert(lane, (leading, window));
        before.is_some_and(|(leading, _)| leading) != leading
    }

    /// Notes that nothing of a lane is here any more; whether this relay led it.
    pub(crate) fn end_lane(&self, lane: u16) -> bool {
        self.lanes().remove(&lane).is_some_and(|(leading, _)| leading)
    }

    pub(crate) fn add(&self, sent: u64, failed: u64, dead: u64, set_aside: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
        self.dead.fetch_add(dead, Ordering::Relaxed);
        self.set_aside.fetch_add(set_aside, Ordering::Relaxed);
    }

    /// Notes that the broker is away; whether that is news.
    pub(crate) fn broker_is_away(&self, what: String) -> bool {
        self.broker.set(what)
    }

    /// Notes that the broker answers; whether that is news.
    pub(crate) fn broker_is_back(&self) -> bool {
        self.broker.clear()
    }

    /// Notes that the database is away; whether that is news.
    pub(crate) fn database_is_away(&self, what: String) -> bool {
        self.database.set(what)
    }

    /// Notes that the database answers; whether that is news.
    pub(crate) fn database_is_back(&self) -> bool {
        self.database.clear()
    }
}

impl Trouble {
    fn slot(&self) -> std::sync::MutexGuard<'_, Option<(SystemTime, String)>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn read(&self) -> Option<(SystemTime, String)> {
        self.slot().clone()
    }

    fn set(&self, what: String) -> bool {
        let mut slot = self.slot();
        let news = slot.as_ref().is_none_or(|(_, before)| *before != what);
        let since = slot.as_ref().map_or_else(SystemTime::now, |(since, _)| *since);
        *slot = Some((since, what));
        news
    }

    fn clear(&self) -> bool {
        self.slot().take().is_some()
    }
}
