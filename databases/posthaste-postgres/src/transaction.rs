//! Transactions that may write, and the rule that no caller can abandon one half way: beginning,
//! committing and every write of this crate run in tasks of their own.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use posthaste_core::StoreError;
use posthaste_core::transaction::Transactional;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::Postgres;
use crate::connect::{Session, USUAL_SETTINGS, settings};
use crate::store::Store;

/// An open transaction of the driver.
pub(crate) type Transaction = sqlx::Transaction<'static, sqlx::Postgres>;

/// The driver does not say whether `commit` committed: in a transaction that an error has ended,
/// PostgreSQL answers it with a rollback. The first statement fails there, so that the second is
/// not reached. `and chain` leaves the driver what it believes in, an open transaction, which is
/// empty and rolled back when the connection goes back to its pool, off the caller's path.
const COMMIT: &str = "select 1; commit and chain";

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

/// A connection for single statements: inside a transaction where the steps of one have to be held
/// together on one connection of the server.
#[derive(Debug)]
pub(crate) enum Reading {
    Plain(PoolConnection<sqlx::Postgres>),
    Inside(Transaction),
}

impl Reading {
    /// Makes what a statement has changed last, where it stands in a transaction.
    pub(crate) async fn keep(self, store: &Store) -> Result<(), StoreError> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Inside(transaction) => store.commit_quietly(transaction).await,
        }
    }
}

impl Deref for Reading {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Plain(connection) => connection,
            Self::Inside(transaction) => transaction,
        }
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Plain(connection) => connection,
            Self::Inside(transaction) => transaction,
        }
    }
}

impl Store {
    /// Begins a transaction for our own statements, on a schema of our version. To be called in a
    /// task of its own.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        let mut transaction = self.begin_unchecked().await?;
        self.check_schema(&mut transaction).await?;
        Ok(transaction)
    }

    /// The same on whatever schema is there.
    pub(crate) async fn begin_unchecked(&self) -> Result<Transaction, StoreError> {
        let begin = match self.session {
            Session::Own => "begin".into_sql_str(),
            Session::Foreign | Session::Pooled => {
                let settings = settings("local", self.options.lock_timeout);
                AssertSqlSafe(format!("begin; {settings}")).into_sql_str()
            }
        };
        self.begin_with(begin).await
    }

    /// Begins a transaction for the service's statements, under the service's settings. To be
    /// called in a task of its own.
    async fn begin_usual(&self) -> Result<Transaction, StoreError> {
        let begin = match self.session {
            Session::Own => AssertSqlSafe(format!("begin; {USUAL_SETTINGS}")).into_sql_str(),
            Session::Foreign | Session::Pooled => "begin".into_sql_str(),
        };
        self.begin_with(begin).await
    }

    async fn begin_with(&self, begin: SqlStr) -> Result<Transaction, StoreError> {
        self.pool.begin_with(begin).await.map_err(self.failed("beginning a transaction"))
    }

    /// A connection to read with, on a schema of our version. Dropping the future is harmless: what
    /// may begin a transaction runs in a task of its own.
    pub(crate) async fn reading(self: &Arc<Self>) -> Result<Reading, StoreError> {
        let mut reading = match self.session {
            Session::Own | Session::Foreign => {
                Reading::Plain(self.pool.acquire().await.map_err(self.failed("connecting"))?)
            }
            Session::Pooled => {
                let store = Arc::clone(self);
                Reading::Inside(detached(async move { store.begin_unchecked().await }).await?)
            }
        };
        self.check_schema(&mut reading).await?;
        Ok(reading)
    }

    /// A connection for one statement that writes and is a transaction by itself; see
    /// [`Store::finish`]. To be called in a task of its own.
    pub(crate) async fn alone(self: &Arc<Self>) -> Result<Reading, StoreError> {
        self.reading().await
    }

    /// Commits what [`Store::alone`] began, where that began anything.
    pub(crate) async fn finish(&self, alone: Reading) -> Result<(), StoreError> {
        match alone {
            Reading::Plain(_) => Ok(()),
            Reading::Inside(transaction) => self.commit_quietly(transaction).await,
        }
    }

    /// Commits and says so to whoever waits for messages. To be called in a task of its own.
    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<(), StoreError> {
        self.commit_quietly(transaction).await?;
        self.committed();
        Ok(())
    }

    /// Commits what no reader of the outbox waits for.
    pub(crate) async fn commit_quietly(
        &self,
        mut transaction: Transaction,
    ) -> Result<(), StoreError> {
        let committed = sqlx::raw_sql(COMMIT).execute(&mut *transaction).await;
        committed.map(|_| ()).map_err(self.failed("committing a transaction"))
    }
}

impl Transactional for Postgres {
    type Connection = PgConnection;
    type Transaction = Transaction;

    async fn begin(&self) -> Result<Transaction, StoreError> {
        let store = Arc::clone(&self.store);
        detached(async move { store.begin_usual().await }).await
    }

    fn connection(transaction: &mut Transaction) -> &mut PgConnection {
        transaction
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        detached(async move { store.commit(transaction).await }).await
    }
}
