//! A database whose calls fail, hang or lose their reply when a fault says so.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::database::{
    EntryFilter, HeldLease, Listed, Migrated, Monitor, Schema, Status, Upkeep,
};
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters};
use posthaste_core::finding::Finding;
use posthaste_core::inbox::{Acceptance, Attempts, Burial, Inbox, InboxUpkeep, InboxWindow};
use posthaste_core::lane::{Division, Lanes};
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::outbox::{Batch, OutboxReader, Pace, ReadLimit, Ready, Settlement, Signal};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Checkpoint, Lane, Limits, Message, MessageId, StoreError};

use super::{Call, Fault, Strike, Struck, When, suffer};

/// Passes every call on to `D` unless the fault strikes. Implements each seam that `D` does;
/// `D` may be `dyn Database`.
pub struct FaultyDatabase<D: ?Sized> {
    inner: Arc<D>,
    fault: Arc<dyn Fault>,
}

impl<D: ?Sized> FaultyDatabase<D> {
    /// A database that goes wrong when `fault` says so.
    pub fn new(inner: Arc<D>, fault: impl Fault + 'static) -> Self {
        Self { inner, fault: Arc::new(fault) }
    }

    async fn guard<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let unavailable = |Struck| StoreError::unavailable(format!("a fault struck {call:?}"));
        suffer(&*self.fault, call, When::Before).await.map_err(unavailable)?;
        let result = work.await;
        suffer(&*self.fault, call, When::After).await.map_err(unavailable)?;
        result
    }
}

impl<D: ?Sized> Clone for FaultyDatabase<D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), fault: self.fault.clone() }
    }
}

impl<D: ?Sized> fmt::Debug for FaultyDatabase<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyDatabase").finish_non_exhaustive()
    }
}

impl<D: Transactional> Transactional for FaultyDatabase<D> {
    type Connection = D::Connection;
    type Transaction = D::Transaction;

    async fn begin(&self) -> Result<D::Transaction, StoreError> {
        self.guard(Call::Begin, self.inner.begin()).await
    }

    fn connection(transaction: &mut D::Transaction) -> &mut D::Connection {
        D::connection(transaction)
    }

    async fn commit(&self, transaction: D::Transaction) -> Result<(), StoreError> {
        self.guard(Call::Commit, self.inner.commit(transaction)).await
    }
}

impl<D: OutboxWriter> OutboxWriter for FaultyDatabase<D> {
    const UNIQUE_IDS: bool = D::UNIQUE_IDS;

    async fn enqueue(
        &self,
        connection: &mut D::Connection,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        self.guard(Call::Enqueue, self.inner.enqueue(connection, messages)).await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}

impl<D: Inbox> Attempts for FaultyDatabase<D> {
    async fn begin_attempt(&self, consumer: &str, id: MessageId) -> Result<u32, StoreError> {
        self.guard(Call::BeginAttempt, self.inner.begin_attempt(consumer, id)).await
    }

    async fn record_failure(
        &self,
        consumer: &str,
        id: MessageId,
        attempt: u32,
        detail: &str,
    ) -> Result<(), StoreError> {
        let work = self.inner.record_failure(consumer, id, attempt, detail);
        self.guard(Call::RecordFailure, work).await
    }
}

impl<D: Inbox> Inbox for FaultyDatabase<D> {
    async fn accept(
        &self,
        connection: &mut D::Connection,
        consumer: &str,
        ids: &[MessageId],
    ) -> Result<Vec<Acceptance>, StoreError> {
        self.guard(Call::Accept, self.inner.accept(connection, consumer, ids)).await
    }

    async fn holds(
        &self,
        connection: &mut D::Connection,
        consumer: &str,
        id: MessageId,
    ) -> Result<bool, StoreError> {
        self.inner.holds(connection, consumer, id).await
    }

    async fn bury(
        &self,
        connection: &mut D::Connection,
        consumer: &str,
        message: &Message,
        burial: &Burial,
    ) -> Result<(), StoreError> {
        self.guard(Call::Bury, self.inner.bury(connection, consumer, message, burial)).await
    }
}

#[async_trait]
impl<D: ?Sized + InboxUpkeep> InboxUpkeep for FaultyDatabase<D> {
    async fn reposted(&self, consumer: &str, limit: usize) -> Result<Vec<Message>, StoreError> {
        self.guard(Call::Reposted, self.inner.reposted(consumer, limit)).await
    }

    async fn prune_inbox(
        &self,
        consumer: &str,
        window: InboxWindow,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.guard(Call::PruneInbox, self.inner.prune_inbox(consumer, window, limit)).await
    }
}

#[async_trait]
impl<D: ?Sized + OutboxReader> OutboxReader for FaultyDatabase<D> {
    async fn checkpoint(&self, lane: &Lane) -> Result<Checkpoint, StoreError> {
        self.guard(Call::Checkpoint, self.inner.checkpoint(lane)).await
    }

    async fn read(
        &self,
        lane: &Lane,
        from: &Checkpoint,
        limit: ReadLimit,
    ) -> Result<Batch, StoreError> {
        self.guard(Call::Read, self.inner.read(lane, from, limit)).await
    }

    async fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError> {
        self.guard(Call::Ready, self.inner.ready(lane, limit)).await
    }

    async fn settle(&self, lease: &Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.guard(Call::Settle, self.inner.settle(lease, settlement)).await
    }
}

#[async_trait]
impl<D: ?Sized + Signal> Signal for FaultyDatabase<D> {
    /// A fault that fails or hangs loses the hint.
    async fn changed(&self) {
        match self.fault.strike(Call::Changed, When::Before) {
            Strike::Fail | Strike::Hang => std::future::pending().await,
            Strike::Delay(delay) => tokio::time::sleep(delay).await,
            Strike::Pass => {}
        }
        self.inner.changed().await;
    }

    fn wake(&self) {
        self.inner.wake();
    }

    fn pace(&self) -> Pace {
        self.inner.pace()
    }
}

#[async_trait]
impl<D: ?Sized + Leases> Leases for FaultyDatabase<D> {
    async fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<Claim, StoreError> {
        self.guard(Call::Acquire, self.inner.acquire(name, owner, ttl)).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), StoreError> {
        self.guard(Call::Renew, self.inner.renew(lease, ttl)).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.guard(Call::Release, self.inner.release(lease)).await
    }

    async fn held(&self, prefix: &str) -> Result<Vec<HeldLease>, StoreError> {
        self.guard(Call::Leases, self.inner.held(prefix)).await
    }
}

#[async_trait]
impl<D: ?Sized + Lanes> Lanes for FaultyDatabase<D> {
    async fn division(&self, destination: &str) -> Result<Division, StoreError> {
        self.guard(Call::Division, self.inner.division(destination)).await
    }

    async fn can_divide(&self, destination: &str) -> Result<bool, StoreError> {
        self.guard(Call::Division, self.inner.can_divide(destination)).await
    }

    async fn want_lanes(&self, destination: &str, lanes: u16) -> Result<(), StoreError> {
        self.guard(Call::WantLanes, self.inner.want_lanes(destination, lanes)).await
    }

    async fn divide(&self, destination: &str, leases: &[Lease]) -> Result<(), StoreError> {
        self.guard(Call::Divide, self.inner.divide(destination, leases)).await
    }
}

#[async_trait]
impl<D: ?Sized + DeadLetters> DeadLetters for FaultyDatabase<D> {
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.guard(Call::ListDeadLetters, self.inner.list(filter)).await
    }

    async fn get(&self, reference: &str) -> Result<Option<DeadLetter>, StoreError> {
        self.guard(Call::GetDeadLetter, self.inner.get(reference)).await
    }

    async fn repost(&self, references: &[String], actor: &str) -> Result<(), StoreError> {
        self.guard(Call::Repost, self.inner.repost(references, actor)).await
    }

    async fn discard(
        &self,
        references: &[String],
        actor: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.guard(Call::Discard, self.inner.discard(references, actor, reason)).await
    }
}

#[async_trait]
impl<D: ?Sized + Schema> Schema for FaultyDatabase<D> {
    async fn version(&self) -> Result<Option<u32>, StoreError> {
        self.guard(Call::Version, self.inner.version()).await
    }

    async fn migrate(&self) -> Result<Migrated, StoreError> {
        self.guard(Call::Migrate, self.inner.migrate()).await
    }

    fn script(&self) -> String {
        self.inner.script()
    }

    async fn adopt(&self, actor: &str) -> Result<Vec<String>, StoreError> {
        self.guard(Call::Adopt, self.inner.adopt(actor)).await
    }
}

#[async_trait]
impl<D: ?Sized + Monitor> Monitor for FaultyDatabase<D> {
    async fn status(&self, destination: &str) -> Result<Status, StoreError> {
        self.guard(Call::Status, self.inner.status(destination)).await
    }

    async fn entries(&self, filter: &EntryFilter) -> Result<Vec<Listed>, StoreError> {
        self.guard(Call::Entries, self.inner.entries(filter)).await
    }

    async fn findings(&self) -> Vec<Finding> {
        self.inner.findings().await
    }
}

#[async_trait]
impl<D: ?Sized + Upkeep> Upkeep for FaultyDatabase<D> {
    async fn enqueue_alone(&self, messages: &[Message]) -> Result<(), StoreError> {
        self.guard(Call::EnqueueAlone, self.inner.enqueue_alone(messages)).await
    }

    async fn prune_sent(
        &self,
        lease: &Lease,
        keep: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.guard(Call::PruneSent, self.inner.prune_sent(lease, keep, limit)).await
    }
}
