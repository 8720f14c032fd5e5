//! A database whose lanes overlap.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::{Checkpoint, Lane, StoreError};

use crate::testing::fault::delegate_seams;

/// Breaks "every message in exactly one lane": gives what belongs to the first lane to the others
/// as well. Must be noticed by the laws of lanes, and by whoever counts copies.
pub struct ShareLanes<D: ?Sized> {
    inner: Arc<D>,
}

impl<D: ?Sized> ShareLanes<D> {
    /// A database whose lanes overlap.
    pub fn new(inner: Arc<D>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl<D: ?Sized + OutboxReader> OutboxReader for ShareLanes<D> {
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
        if lane.index > 0 {
            let first = Lane { index: 0, ..lane.clone() };
            let shared = self.inner.read(&first, from, limit).await?;
            batch.entries.extend(shared.entries);
            batch.entries.sort_by(|a, b| a.position.cmp(&b.position));
            batch.entries.truncate(limit.messages.max(1));
        }
        Ok(batch)
    }

    async fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError> {
        self.inner.ready(lane, limit).await
    }

    async fn settle(&self, lease: &Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.inner.settle(lease, settlement).await
    }
}

delegate_seams!(ShareLanes: Signal, Leases, Lanes, DeadLetters, Schema, Monitor, Upkeep);
delegate_seams!(ShareLanes: Transactional, OutboxWriter, Inbox, InboxUpkeep);
