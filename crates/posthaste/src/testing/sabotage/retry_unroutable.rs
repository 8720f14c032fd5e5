//! A database that treats what nobody is bound to as a failure.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::{Checkpoint, Lane, StoreError, Verdict};

use crate::testing::fault::delegate_seams;

/// Breaks "what nobody is bound to holds nobody else back": files it as failed, so that its key
/// waits, its attempts are counted and all of it is tried over and over. Must be noticed by the
/// laws of routes.
pub struct RetryUnroutable<D: ?Sized> {
    inner: Arc<D>,
}

impl<D: ?Sized> RetryUnroutable<D> {
    /// A database without routes.
    pub fn new(inner: Arc<D>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl<D: ?Sized + OutboxReader> OutboxReader for RetryUnroutable<D> {
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
        for settled in &mut settlement.verdicts {
            if let Verdict::Unroutable { probe_in, detail } = &settled.verdict {
                let (delay, detail) = (*probe_in, detail.clone());
                settled.verdict = Verdict::Retry { attempts: 1, delay, detail };
            }
        }
        self.inner.settle(lease, &settlement).await
    }
}

delegate_seams!(RetryUnroutable: Signal, Leases, Lanes, DeadLetters, Schema, Monitor, Upkeep);
delegate_seams!(RetryUnroutable: Transactional, OutboxWriter, Inbox, InboxUpkeep);
