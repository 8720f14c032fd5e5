//! The handle on a database: a pool, and what its clones share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use posthaste_core::{Limits, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions};

use crate::options::Options;
use crate::signal::Changes;
use crate::{error, schema, transaction, url};

/// A SQLite database with the tables of Posthaste. Clones are cheap and share connections; each
/// clone keeps its own place in the [`Signal`](posthaste_core::outbox::Signal), so give every
/// loop that waits its own.
#[derive(Clone, Debug)]
pub struct Sqlite {
    pub(crate) store: Arc<Store>,
    pub(crate) seen: crate::signal::Seen,
}

impl Sqlite {
    /// A handle on the file that `url` names (`sqlite:///absolute/path.db`,
    /// `sqlite:relative.db`). Connects when it is first used, durably (`synchronous = FULL`).
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if the URL names no SQLite file.
    pub fn open(url: &str, options: Options) -> Result<Self, StoreError> {
        let connect = url::parse(url, &options)?;
        let pool = SqlitePoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.acquire_timeout)
            .before_acquire(|connection, _| {
                let sound = transaction::is_sound(connection);
                Box::pin(async move { Ok(sound) })
            })
            .connect_lazy_with(connect);
        Ok(Self::with_options(pool, options))
    }

    /// A handle on the pool of a service that has one, whose settings stay the service's. SQLite
    /// ends a transaction by itself when a disk is full; a pool whose `before_acquire` refuses a
    /// connection for which `is_in_transaction()` is true does not stumble over that; the pool of
    /// [`Sqlite::open`] is one, and this handle looks for itself whenever it begins. How durable a
    /// commit is, is then decided by the service: leave `synchronous` at `FULL`, its default.
    pub fn new(pool: SqlitePool) -> Self {
        Self::with_options(pool, Options::default())
    }

    /// Like [`Sqlite::new`], with a payload limit of its own and leave to create the file; the
    /// other options belong to the pool.
    pub fn with_options(pool: SqlitePool, options: Options) -> Self {
        let changes = Changes::new();
        let store = Store { pool, options, changes, schema_is_ours: AtomicBool::new(false) };
        Self { store: Arc::new(store), seen: crate::signal::Seen::default() }
    }

    /// The pool, for the service's own statements.
    pub fn pool(&self) -> &SqlitePool {
        &self.store.pool
    }
}

/// What clones share.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) pool: SqlitePool,
    pub(crate) options: Options,
    pub(crate) changes: Changes,
    /// Set once the schema was seen to be of our version, so that it is not looked at each time.
    schema_is_ours: AtomicBool,
}

impl Store {
    /// How connections of the pool are made.
    pub(crate) fn connect_options(&self) -> Arc<SqliteConnectOptions> {
        self.pool.connect_options()
    }

    /// The limits of messages.
    pub(crate) fn limits(&self) -> Limits {
        Limits::with_payload(self.options.payload_limit)
    }

    /// Classifies what the driver said when `doing` failed.
    pub(crate) fn error(&self, doing: &str, cause: sqlx::Error) -> StoreError {
        error::classify(doing, self.connect_options().get_filename(), cause)
    }

    /// The same as a closure, for `map_err`.
    pub(crate) fn failed(&self, doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError + '_ {
        move |cause| self.error(doing, cause)
    }

    /// The database file.
    pub(crate) fn path(&self) -> PathBuf {
        self.connect_options().get_filename().to_path_buf()
    }

    /// Refuses a schema that is missing, older or newer.
    pub(crate) async fn check_schema(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<(), StoreError> {
        if self.schema_is_ours.load(Ordering::Acquire) {
            return Ok(());
        }
        let found =
            schema::version(connection).await.map_err(self.failed("looking at the schema"))?;
        schema::refuse_other(found)?;
        self.schema_is_ours.store(true, Ordering::Release);
        Ok(())
    }
}
