//! A reader that leaves out entries and moves on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::{Checkpoint, Lane, StoreError};

use crate::testing::fault::delegate_seams;

/// Breaks "every committed entry is read": leaves out every n-th entry that it reads, as a cursor
/// over sequence numbers does with what commits late. The relay cannot know; whoever compares what
/// was committed with what arrived must find that messages are lost.
pub struct CursorThatSkips<D: ?Sized> {
    inner: Arc<D>,
    every: u64,
    read: AtomicU64,
}

impl<D: ?Sized> CursorThatSkips<D> {
    /// Leaves out every `every`-th entry; none if that is 0.
    pub fn new(inner: Arc<D>, every: u64) -> Self {
        Self { inner, every, read: AtomicU64::new(0) }
    }
}

impl<D: ?Sized> Clone for CursorThatSkips<D> {
    fn clone(&self) -> Self {
        let read = AtomicU64::new(self.read.load(Ordering::Relaxed));
        Self { inner: self.inner.clone(), every: self.every, read }
    }
}

#[async_trait]
impl<D: ?Sized + OutboxReader> OutboxReader for CursorThatSkips<D> {
    async fn checkpoint(&self, lane: &Lane) -> Result<Checkpoint, StoreError> {
        self.inner.checkpoint(lane).await
    }

    async fn read(
        &self,
        lane: &Lane,
        from: &Checkpoint,
        limit: ReadLimit,
    ) -> Result<Batch, StoreError> {
        let mut batch = self.inner.read(lane, from, limit).await?;
        batch.entries.retain(|_| {
            let number = self.read.fetch_add(1, Ordering::Relaxed) + 1;
            self.every == 0 || !number.is_multiple_of(self.every)
        });
        Ok(batch)
    }

    async fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError> {
        self.inner.ready(lane, limit).await
    }

    async fn settle(&self, lease: &Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.inner.settle(lease, settlement).await
    }
}

delegate_seams!(CursorThatSkips: Signal, Leases, Lanes, DeadLetters, Schema, Monitor, Upkeep);
delegate_seams!(CursorThatSkips: Transactional, OutboxWriter, Inbox, InboxUpkeep);
