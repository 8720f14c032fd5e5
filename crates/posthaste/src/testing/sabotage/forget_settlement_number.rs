//! A database that does not recognise a settlement that it has carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::{Checkpoint, Lane, StoreError};

use crate::testing::fault::delegate_seams;

/// Breaks "a repeated settlement changes nothing": gives every settlement a number of its own.
/// Must be noticed by the law on repetition, and by a relay that loses replies and then finds dead
/// letters twice or sends what was sent.
pub struct ForgetSettlementNumber<D: ?Sized> {
    inner: Arc<D>,
    number: AtomicU64,
}

impl<D: ?Sized> ForgetSettlementNumber<D> {
    /// A database that counts settlements itself.
    pub fn new(inner: Arc<D>) -> Self {
        Self { inner, number: AtomicU64::new(0) }
    }
}

#[async_trait]
impl<D: ?Sized + OutboxReader> OutboxReader for ForgetSettlementNumber<D> {
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
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        let settlement = Settlement { number, ..settlement.clone() };
        self.inner.settle(lease, &settlement).await
    }
}

delegate_seams!(
    ForgetSettlementNumber: Signal, Leases, Lanes, DeadLetters, Schema, Monitor, Upkeep,
);
delegate_seams!(ForgetSettlementNumber: Transactional, OutboxWriter, Inbox, InboxUpkeep);
