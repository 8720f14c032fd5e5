//! A consumer's effects are committed without their inbox entries.

use std::sync::Arc;

use posthaste_core::inbox::{Acceptance, Attempts, Burial, Inbox};
use posthaste_core::{Message, MessageId, StoreError};

use crate::testing::fault::delegate_seams;

/// Breaks "effect and inbox entry are one": writes no entry and says of every message that it is
/// the first time. A redelivery after a crash takes effect again; whoever counts effects must find
/// some of them doubled.
pub struct CommitBeforeInbox<D: ?Sized> {
    inner: Arc<D>,
}

impl<D: ?Sized> CommitBeforeInbox<D> {
    /// A database whose inbox remembers nothing.
    pub fn new(inner: Arc<D>) -> Self {
        Self { inner }
    }
}

impl<D: ?Sized> Clone for CommitBeforeInbox<D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<D: Inbox> Attempts for CommitBeforeInbox<D> {
    async fn begin_attempt(&self, consumer: &str, id: MessageId) -> Result<u32, StoreError> {
        self.inner.begin_attempt(consumer, id).await
    }

    async fn record_failure(
        &self,
        consumer: &str,
        id: MessageId,
        attempt: u32,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.inner.record_failure(consumer, id, attempt, detail).await
    }
}

impl<D: Inbox> Inbox for CommitBeforeInbox<D> {
    async fn accept(
        &self,
        _connection: &mut D::Connection,
        _consumer: &str,
        ids: &[MessageId],
    ) -> Result<Vec<Acceptance>, StoreError> {
        Ok(vec![Acceptance::First; ids.len()])
    }

    async fn holds(
        &self,
        _connection: &mut D::Connection,
        _consumer: &str,
        _id: MessageId,
    ) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn bury(
        &self,
        connection: &mut D::Connection,
        consumer: &str,
        message: &Message,
        burial: &Burial,
    ) -> Result<(), StoreError> {
        self.inner.bury(connection, consumer, message, burial).await
    }
}

delegate_seams!(CommitBeforeInbox: Transactional, OutboxWriter, InboxUpkeep);
delegate_seams!(
    CommitBeforeInbox: OutboxReader, Signal, Leases, Lanes, DeadLetters, Schema, Monitor, Upkeep,
);
