//! Transactions that may write, and the rule that no caller can abandon one half way: beginning,
//! committing and every write of this crate run in tasks of their own.

use std::future::Future;
use std::sync::Arc;

use posthaste_core::StoreError;
use posthaste_core::transaction::Transactional;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::Postgres;
use crate::connect::{Session, USUAL_SETTINGS, settings};
use crate::lent::Lent;
use crate::patience::Patience;
use crate::store::Store;

/// An open transaction of the driver, for the service's statements.
type Transaction = sqlx::Transaction<'static, sqlx::Postgres>;

/// Each of our statements sees what was committed before it.
const BEGIN: &str = "begin isolation level read committed";

/// The driver does not say whether `commit` committed: in a transaction that an error has ended,
/// PostgreSQL answers it with a rollback. The first statement fails there, so that the second is
/// not reached.
const COMMIT: &str = "select 1; commit";

/// The same with a new transaction behind it: `and chain` leaves the driver what it believes in,
/// an open transaction, which is empty and rolled back when the connection goes back to its pool,
/// off the caller's path.
const COMMIT_OF_DRIVER: &str = "select 1; commit and chain";

/// Runs `work` to its end or to the end of the patience, whether or not the caller stays to see it.
pub(crate) async fn detached<T: Send + 'static>(
    patience: Patience,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(async move { patience.during(work).await }).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::Unavailable {
            context: "the runtime stopped before the database answered".to_owned(),
            source: Some(Box::new(error)),
        }),
    }
}

impl Store {
    /// Begins a transaction for our own statements, on a schema of our version. To be called in a
    /// task of its own.
    pub(crate) async fn begin(&self) -> Result<Lent, StoreError> {
        let mut transaction = self.begin_unchecked().await?;
        self.check_schema(&mut transaction).await?;
        Ok(transaction)
    }

    /// The same on whatever schema is there.
    pub(crate) async fn begin_unchecked(&self) -> Result<Lent, StoreError> {
        let begin = match self.session {
            Session::Own => BEGIN.into_sql_str(),
            Session::Foreign | Session::Pooled => {
                let settings = settings("local", self.options.lock_timeout);
                AssertSqlSafe(format!("{BEGIN}; {settings}")).into_sql_str()
            }
        };
        let mut lent = self.lend().await?;
        lent.inside = true;
        let begun = sqlx::raw_sql(begin).execute(&mut *lent).await;
        begun.map(|_| lent).map_err(self.failed("beginning a transaction"))
    }

    /// Begins a transaction for the service's statements, under the service's settings. To be
    /// called in a task of its own.
    async fn begin_usual(&self) -> Result<Transaction, StoreError> {
        let begin = match self.session {
            Session::Own => {
                let begin = self.usual.begin();
                AssertSqlSafe(format!("{begin}; {USUAL_SETTINGS}")).into_sql_str()
            }
            Session::Foreign | Session::Pooled => "begin".into_sql_str(),
        };
        self.pool.begin_with(begin).await.map_err(self.failed("beginning a transaction"))
    }

    /// Lets the statements of a transaction take as long as there are rows to go through, whatever
    /// the role or the database allows for usual ones.
    pub(crate) async fn at_leisure(&self, lent: &mut Lent) -> Result<(), StoreError> {
        let set = sqlx::raw_sql("set local statement_timeout = 0").execute(&mut **lent).await;
        set.map(|_| ()).map_err(self.failed("beginning a transaction"))
    }

    /// A connection as it is.
    pub(crate) async fn lend(&self) -> Result<Lent, StoreError> {
        self.pool.acquire().await.map(Lent::new).map_err(self.failed("connecting"))
    }

    /// A connection for single statements, on a schema of our version: inside a transaction where
    /// the steps of one have to be held together on one connection of the server. Dropping the
    /// future is harmless: what may begin a transaction runs in a task of its own. What a statement
    /// has changed lasts after [`Store::keep`].
    pub(crate) async fn reading(self: &Arc<Self>) -> Result<Lent, StoreError> {
        let mut reading = match self.session {
            Session::Own | Session::Foreign => self.lend().await?,
            Session::Pooled => {
                let store = Arc::clone(self);
                let begin = async move { store.begin_unchecked().await };
                detached(self.promptly(), begin).await?
            }
        };
        self.check_schema(&mut reading).await?;
        Ok(reading)
    }

    /// Makes what single statements have changed last, where they stand in a transaction.
    pub(crate) async fn keep(&self, lent: Lent) -> Result<(), StoreError> {
        if lent.inside { self.commit_quietly(lent).await } else { Ok(()) }
    }

    /// Commits and says so to whoever waits for messages. To be called in a task of its own.
    pub(crate) async fn commit(&self, transaction: Lent) -> Result<(), StoreError> {
        self.commit_quietly(transaction).await?;
        self.committed();
        Ok(())
    }

    /// Commits what no reader of the outbox waits for.
    pub(crate) async fn commit_quietly(&self, mut transaction: Lent) -> Result<(), StoreError> {
        let committed = sqlx::raw_sql(COMMIT).execute(&mut *transaction).await;
        transaction.inside = committed.is_err();
        committed.map(|_| ()).map_err(self.failed("committing a transaction"))
    }

    async fn commit_usual(&self, mut transaction: Transaction) -> Result<(), StoreError> {
        let committed = sqlx::raw_sql(COMMIT_OF_DRIVER).execute(&mut *transaction).await;
        committed.map_err(self.failed("committing a transaction"))?;
        self.committed();
        Ok(())
    }
}

impl Transactional for Postgres {
    type Connection = PgConnection;
    type Transaction = Transaction;

    async fn begin(&self) -> Result<Transaction, StoreError> {
        let store = Arc::clone(&self.store);
        detached(self.store.promptly(), async move { store.begin_usual().await }).await
    }

    fn connection(transaction: &mut Transaction) -> &mut PgConnection {
        transaction
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        let commit = async move { store.commit_usual(transaction).await };
        detached(self.store.promptly(), commit).await
    }
}
