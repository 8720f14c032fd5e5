//! Transactions that may write, and the rule that no caller can abandon one half way: beginning,
//! committing and every write of this crate run in tasks of their own.

use std::future::Future;
use std::sync::Arc;

use posthaste_core::StoreError;
use posthaste_core::transaction::Transactional;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, SqlSafeStr as _};

use crate::Sqlite;
use crate::store::Store;

/// An open transaction of the driver.
pub(crate) type Transaction = sqlx::Transaction<'static, sqlx::Sqlite>;

/// Runs `work` to its end, whether or not the caller stays to see it.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::Unavailable {
            context: "the runtime stopped before the database answered".to_owned(),
            source: Some(Box::new(error)),
        }),
    }
}

/// Whether the driver believes a connection that nobody uses to be outside of any transaction.
/// SQLite ends a transaction by itself when a disk is full or fails; the driver does not notice,
/// and would refuse every later transaction on that connection. This is asked when a connection is
/// taken and not when it comes back, because a rollback may still be queued then.
pub(crate) fn is_sound(connection: &SqliteConnection) -> bool {
    let sound = !connection.is_in_transaction();
    if !sound {
        tracing::debug!("closing a connection whose transaction SQLite has ended by itself");
    }
    sound
}

impl Store {
    /// Begins a transaction that may write, on a schema of our version. To be called in a task of
    /// its own.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        let doing = "beginning a transaction";
        let connection = self.sound_connection().await.map_err(self.failed(doing))?;
        let mut transaction =
            Transaction::begin(connection, Some("BEGIN IMMEDIATE".into_sql_str()))
                .await
                .map_err(self.failed(doing))?;
        self.check_schema(&mut transaction).await?;
        Ok(transaction)
    }

    /// A sound connection, also from a pool that does not look at that.
    async fn sound_connection(&self) -> Result<PoolConnection<sqlx::Sqlite>, sqlx::Error> {
        loop {
            let connection = self.pool.acquire().await?;
            if is_sound(&connection) {
                return Ok(connection);
            }
            drop(connection.detach());
        }
    }

    /// Commits and says so to whoever waits in this process. To be called in a task of its own.
    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<(), StoreError> {
        self.commit_quietly(transaction).await?;
        self.changes.wake();
        Ok(())
    }

    /// Commits what no reader of the outbox waits for.
    pub(crate) async fn commit_quietly(&self, transaction: Transaction) -> Result<(), StoreError> {
        transaction.commit().await.map_err(self.failed("committing a transaction"))
    }
}

impl Transactional for Sqlite {
    type Connection = SqliteConnection;
    type Transaction = Transaction;

    async fn begin(&self) -> Result<Transaction, StoreError> {
        let store = Arc::clone(&self.store);
        detached(async move { store.begin().await }).await
    }

    fn connection(transaction: &mut Transaction) -> &mut SqliteConnection {
        transaction
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        detached(async move { store.commit(transaction).await }).await
    }
}
