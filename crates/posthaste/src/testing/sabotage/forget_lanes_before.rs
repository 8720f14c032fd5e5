//! A division that begins anew.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::lane::Lanes;
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::{Checkpoint, Lane, StoreError};

use crate::testing::fault::delegate_seams;

/// Breaks "a change of their number sends nothing again that was settled": every lane of a divided
/// destination begins where the outbox does. Must be noticed by the laws of lanes, and by whoever
/// counts copies.
pub struct ForgetLanesBefore<D: ?Sized> {
    inner: Arc<D>,
}

impl<D: ?Sized> ForgetLanesBefore<D> {
    /// A database whose lanes inherit nothing.
    pub fn new(inner: Arc<D>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl<D: ?Sized + OutboxReader + Lanes> OutboxReader for ForgetLanesBefore<D> {
    async fn checkpoint(&self, lane: &Lane) -> Result<Checkpoint, StoreError> {
        if lane.of > 1 {
            return Ok(Checkpoint::start());
        }
        self.inner.checkpoint(lane).await
    }

    async fn read(
        &self,
        lane: &Lane,
        from: &Checkpoint,
        limit: ReadLimit,
    ) -> Result<Batch, StoreError> {
        self.inner.read(lane, from, limit).await
    }

    async fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError> {
        self.inner.ready(lane, limit).await
    }

    async fn settle(&self, lease: &Lease, settlement: &Settlement) -> Result<(), StoreError> {
        self.inner.settle(lease, settlement).await
    }
}

delegate_seams!(ForgetLanesBefore: Signal, Leases, Lanes, DeadLetters, Schema, Monitor, Upkeep);
delegate_seams!(ForgetLanesBefore: Transactional, OutboxWriter, Inbox, InboxUpkeep);
