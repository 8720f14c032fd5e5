//! The user's own transaction: what runs inside it is chosen by the compiler, not by a config file.
//!
//! These seams are generic and take the driver's concrete connection, so that a user writes
//! `outbox.publish(&mut tx, &event)` with the transaction they already have. A capability that a
//! database does not have is a trait it does not implement: a compile error, never a run-time one.

use std::future::Future;

use crate::{Limits, Message, StoreError};

/// A database with transactions of its own driver.
pub trait Transactional: Send + Sync + 'static {
    /// What statements run on: the driver's connection.
    type Connection: Send;
    /// An open transaction. Dropping it rolls it back.
    type Transaction: Send;

    /// Opens a transaction that may write.
    ///
    /// Law: dropping the returned future never leaves a pooled connection inside a transaction.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if no connection is to be had.
    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, StoreError>> + Send;

    /// The connection inside an open transaction.
    fn connection(transaction: &mut Self::Transaction) -> &mut Self::Connection;

    /// Commits, and wakes whoever waits for [`Signal::changed`](crate::outbox::Signal::changed) in
    /// this process.
    ///
    /// Law: once this returns `Ok`, the transaction is as durable as the database is set to be.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the outcome is not known.
    fn commit(
        &self,
        transaction: Self::Transaction,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A database with an outbox.
pub trait OutboxWriter: Transactional {
    /// Whether an id that is in the outbox already is refused. Where it is not, because the index
    /// would cost every message, both are sent and the consumers' inboxes let one through.
    const UNIQUE_IDS: bool;

    /// States messages inside the caller's transaction, in the order given, in one statement (a
    /// driver's limit on parameters may split very long lists).
    ///
    /// Laws: nothing is written if any message breaks a limit; the messages exist if and only if
    /// the caller's transaction commits.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if a message breaks a limit, an id is given twice, or it is there
    /// already and [`OutboxWriter::UNIQUE_IDS`] says that this is looked at.
    fn enqueue(
        &self,
        connection: &mut Self::Connection,
        messages: &[Message],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The limits that [`OutboxWriter::enqueue`] checks.
    fn limits(&self) -> Limits;
}
