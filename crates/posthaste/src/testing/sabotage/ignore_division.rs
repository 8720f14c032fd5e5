//! A database that lets a relay settle in a lane that is no more.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::lane::Lanes;
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::{Checkpoint, Lane, StoreError};

use crate::testing::fault::delegate_seams;

/// Breaks "a settlement in a lane of an earlier division is refused": carries it out in the lane of
/// that number. Must be noticed by the laws of lanes, and by a relay that is paused while lanes
/// change, because messages of other lanes are passed over.
pub struct IgnoreDivision<D: ?Sized> {
    inner: Arc<D>,
}

impl<D: ?Sized> IgnoreDivision<D> {
    /// A database that takes one division for another.
    pub fn new(inner: Arc<D>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl<D: ?Sized + OutboxReader + Lanes> OutboxReader for IgnoreDivision<D> {
    async fn checkpoint(&self, lane: &Lane) -> Result<Checkpoint, StoreError> {
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
        let mut settlement = settlement.clone();
        let of = self.inner.division(&settlement.lane.destination).await?.now;
        settlement.lane.index %= of.max(1);
        settlement.lane.of = of;
        self.inner.settle(lease, &settlement).await
    }
}

delegate_seams!(IgnoreDivision: Signal, Leases, Lanes, DeadLetters, Schema, Monitor, Upkeep);
delegate_seams!(IgnoreDivision: Transactional, OutboxWriter, Inbox, InboxUpkeep);
