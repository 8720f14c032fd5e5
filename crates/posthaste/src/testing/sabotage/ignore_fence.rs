//! A database that lets a relay settle whose lease is over.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::database::Monitor;
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::{Checkpoint, Lane, StoreError};

use crate::testing::fault::delegate_seams;

/// Breaks "only under the current token": a settlement that is fenced off is carried out under
/// whatever token is the current one. Must be noticed by the law on old tokens, and by a relay that
/// is paused beyond its lease and resumed.
pub struct IgnoreFence<D: ?Sized> {
    inner: Arc<D>,
}

impl<D: ?Sized> IgnoreFence<D> {
    /// A database without a fence.
    pub fn new(inner: Arc<D>) -> Self {
        Self { inner }
    }
}

impl<D: ?Sized> Clone for IgnoreFence<D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

#[async_trait]
impl<D: ?Sized + OutboxReader + Monitor> OutboxReader for IgnoreFence<D> {
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
        match self.inner.settle(lease, settlement).await {
            Err(StoreError::Fenced) => {}
            other => return other,
        }
        let held = self.inner.status(&settlement.lane.destination).await?.leases;
        let held = held.into_iter().find(|held| held.name == lease.name);
        let held = held.ok_or(StoreError::Fenced)?;
        let lease = Lease { name: held.name, owner: held.owner, token: held.token };
        self.inner.settle(&lease, settlement).await
    }
}

delegate_seams!(IgnoreFence: Signal, Leases, Lanes, DeadLetters, Schema, Monitor, Upkeep);
delegate_seams!(IgnoreFence: Transactional, OutboxWriter, Inbox, InboxUpkeep);
