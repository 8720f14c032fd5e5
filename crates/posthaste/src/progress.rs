//! What a running relay has done so far, for health pages and metrics.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

/// Live figures of one relay since it started. Cheap to read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    leading: AtomicBool,
    sent: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
    window: AtomicU64,
    broker: Trouble,
    database: Trouble,
}

/// When something went away and what it said, while it is away.
#[derive(Debug, Default)]
struct Trouble(Mutex<Option<(SystemTime, String)>>);

/// A copy of the figures at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether this relay holds the lease.
    pub leading: bool,
    /// Messages that the broker has accepted and that are settled.
    pub sent: u64,
    /// Attempts that were counted as failures.
    pub failed: u64,
    /// Messages that became dead letters.
    pub dead: u64,
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
        Snapshot {
            leading: self.leading.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dead: self.dead.load(Ordering::Relaxed),
            window: self.window.load(Ordering::Relaxed),
            broker_away: self.broker.read(),
            database_away: self.database.read(),
        }
    }

    pub(crate) fn set_leading(&self, leading: bool) -> bool {
        self.leading.swap(leading, Ordering::Relaxed) != leading
    }

    pub(crate) fn set_window(&self, entries: usize) {
        self.window.store(entries as u64, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, sent: u64, failed: u64, dead: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
        self.dead.fetch_add(dead, Ordering::Relaxed);
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
