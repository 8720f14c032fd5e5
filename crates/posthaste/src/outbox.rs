//! The verb of the product: publish inside the transaction you already have.

use posthaste_core::transaction::OutboxWriter;
use posthaste_core::{Message, MessageId, StoreError};

use crate::draft::Draft;
use crate::error::PublishError;
use crate::event::Event;

/// States messages in the application's own transaction. Cheap to clone where the database handle
/// is.
///
/// What is published exists if and only if the transaction commits. Either `commit` will do:
/// [`Outbox::commit`] also wakes a relay in this process, a plain `tx.commit()` is seen by the
/// relay a moment later.
#[derive(Clone, Debug)]
pub struct Outbox<D> {
    database: D,
}

impl<D: OutboxWriter> Outbox<D> {
    /// An outbox in this database.
    pub fn new(database: D) -> Self {
        Self { database }
    }

    /// Opens a transaction that may write: the application's own `begin` does as well.
    ///
    /// # Errors
    /// If no connection is to be had.
    pub async fn begin(&self) -> Result<D::Transaction, StoreError> {
        self.database.begin().await
    }

    /// States one event and returns its id.
    ///
    /// # Errors
    /// If it breaks a limit or cannot be written; nothing of it was.
    pub async fn publish<E: Event>(
        &self,
        transaction: &mut D::Connection,
        event: &E,
    ) -> Result<MessageId, PublishError> {
        let message = Draft::of(event)?.into_message();
        let id = message.id;
        self.write(transaction, &[message]).await?;
        Ok(id)
    }

    /// States events in the order given, in one statement, and returns their ids.
    ///
    /// # Errors
    /// If any of them breaks a limit or cannot be written; nothing of any was.
    pub async fn publish_all<'e, E: Event + 'e>(
        &self,
        transaction: &mut D::Connection,
        events: impl IntoIterator<Item = &'e E>,
    ) -> Result<Vec<MessageId>, PublishError> {
        let drafts = events.into_iter().map(Draft::of).collect::<Result<Vec<_>, _>>()?;
        self.publish_drafts(transaction, drafts).await
    }

    /// States raw messages in the order given, in one statement, and returns their ids.
    ///
    /// # Errors
    /// If any of them breaks a limit or cannot be written; nothing of any was.
    pub async fn publish_drafts(
        &self,
        transaction: &mut D::Connection,
        drafts: impl IntoIterator<Item = Draft>,
    ) -> Result<Vec<MessageId>, PublishError> {
        let messages: Vec<Message> = drafts.into_iter().map(Draft::into_message).collect();
        self.write(transaction, &messages).await?;
        Ok(messages.iter().map(|message| message.id).collect())
    }

    /// States one raw message and returns its id.
    ///
    /// # Errors
    /// As [`Outbox::publish`].
    pub async fn publish_draft(
        &self,
        transaction: &mut D::Connection,
        draft: Draft,
    ) -> Result<MessageId, PublishError> {
        let message = draft.into_message();
        let id = message.id;
        self.write(transaction, &[message]).await?;
        Ok(id)
    }

    /// Commits, and wakes a relay in this process at once.
    ///
    /// # Errors
    /// If the commit failed, or its outcome is not known.
    pub async fn commit(&self, transaction: D::Transaction) -> Result<(), StoreError> {
        self.database.commit(transaction).await
    }

    async fn write(
        &self,
        transaction: &mut D::Connection,
        messages: &[Message],
    ) -> Result<(), PublishError> {
        let limits = self.database.limits();
        for message in messages {
            limits.check(message)?;
        }
        if !messages.is_empty() {
            self.database.enqueue(transaction, messages).await?;
        }
        Ok(())
    }
}
