//! The memory database: every seam of a database, with many transactions open at a time.
//!
//! Rows take their numbers when they are stated and become visible when their transaction
//! commits, so that numbers may become visible out of their order, as in a large database server.
//! Reading follows the core's [`frontier`](posthaste_core::frontier) rule.

mod dead_letters;
mod inbox;
mod lanes;
mod leases;
mod locks;
mod monitor;
mod outbox;
mod routes;
mod schema;
mod settlement;
mod side_table;
mod signal;
mod state;
mod transaction;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_core::{Limits, Message, StoreError, Timestamp};
use tokio::sync::{Notify, watch};

use super::clock::Clock;
use state::State;

pub use state::{AuditAct, AuditRecord};
pub use transaction::{MemoryConnection, MemoryTransaction};

/// A database in memory. Clones are handles to the same database.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use posthaste::core::transaction::Transactional;
/// use posthaste::memory::MemoryDatabase;
///
/// let database = MemoryDatabase::new();
/// let mut tx = database.begin().await.unwrap();
/// tx.record("credited account 7"); // the application's own write
/// database.commit(tx).await.unwrap();
/// assert_eq!(database.records(), ["credited account 7"]);
/// # }
/// ```
pub struct MemoryDatabase {
    shared: Arc<Shared>,
    /// The change that this handle has been told of.
    told: AtomicU64,
}

struct Shared {
    state: Mutex<State>,
    /// Counts what may interest a relay.
    changes: watch::Sender<u64>,
    /// Fires when a transaction has ended and its row locks are free.
    freed: Notify,
    clock: Clock,
    limits: Limits,
}

impl MemoryDatabase {
    /// An empty database with its schema in place, whose clock starts at the time of this machine.
    pub fn new() -> Self {
        Self::build(State::migrated(), Clock::new(), Limits::default())
    }

    /// The same with a clock that starts at `start`, for tests that state calendar times.
    pub fn starting_at(start: Timestamp) -> Self {
        Self::build(State::migrated(), Clock::starting_at(start), Limits::default())
    }

    /// The same with a limit on payloads of its own.
    pub fn with_limits(limits: Limits) -> Self {
        Self::build(State::migrated(), Clock::new(), limits)
    }

    /// A database before its first migration: every call but a migration is an error.
    pub fn unmigrated() -> Self {
        Self::build(State::default(), Clock::new(), Limits::default())
    }

    fn build(state: State, clock: Clock, limits: Limits) -> Self {
        let state = Mutex::new(state);
        let (changes, freed) = (watch::Sender::new(0), Notify::new());
        let shared = Arc::new(Shared { state, changes, freed, clock, limits });
        Self { shared, told: AtomicU64::new(0) }
    }

    /// The time by this database's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// The messages that are committed and were not pruned, in the order of their positions.
    pub fn messages(&self) -> Vec<Message> {
        let state = self.shared.lock();
        state.rows.values().filter_map(|row| row.body.as_ref().ok()).cloned().collect()
    }

    /// What the application has recorded in committed transactions, in the order of the commits.
    /// See [`MemoryConnection::record`].
    pub fn records(&self) -> Vec<String> {
        self.shared.lock().records.clone()
    }

    /// The ids that `consumer` is done with, in the order of their commits.
    pub fn accepted(&self, consumer: &str) -> Vec<posthaste_core::MessageId> {
        self.shared.lock().accepted_by(consumer)
    }

    /// Every repost and discard of a dead letter, oldest first.
    pub fn audit(&self) -> Vec<AuditRecord> {
        self.shared.lock().audit.clone()
    }

    /// Writes a row that is not a message, as a program could that bypasses the table's checks.
    ///
    /// # Errors
    /// [`StoreError::Schema`] if the schema is missing.
    pub fn insert_malformed(&self, detail: impl Into<String>) -> Result<(), StoreError> {
        let now = self.now();
        self.shared.migrated()?.insert_malformed(detail.into(), now);
        self.shared.announce();
        Ok(())
    }
}

impl Default for MemoryDatabase {
    fn default() -> Self {
        Self::new()
    }
}

/// Another handle: it is told of changes for itself.
impl Clone for MemoryDatabase {
    fn clone(&self) -> Self {
        let told = AtomicU64::new(self.told.load(Ordering::Acquire));
        Self { shared: self.shared.clone(), told }
    }
}

impl fmt::Debug for MemoryDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDatabase").finish_non_exhaustive()
    }
}

impl Shared {
    /// The state. A panic of another thread cannot have left it half changed: every change is
    /// computed before it is made.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if the schema is there.
    fn migrated(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        if state.version.is_some() {
            return Ok(state);
        }
        let advice = "the database has no posthaste schema; run `posthaste migrate` first";
        let advice = advice.to_owned();
        Err(StoreError::Schema { found: None, needed: schema::VERSION, advice })
    }

    /// Tells every handle that something may have changed.
    fn announce(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}
