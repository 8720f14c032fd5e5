//! The handle on a database: a pool, and what its clones share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use posthaste_core::{Limits, StoreError};
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{FromRow, SqlStr};

use crate::connect::{Session, Usual};
use crate::namespace::Namespace;
use crate::options::Options;
use crate::pruning::Pruning;
use crate::signal::Changes;
use crate::{connect, error, schema, url};

/// A PostgreSQL database with the tables of Posthaste. Clones are cheap and share connections; each
/// clone keeps its own place in the [`Signal`](posthaste_core::outbox::Signal), so give every
/// loop that waits its own.
#[derive(Clone, Debug)]
pub struct Postgres {
    pub(crate) store: Arc<Store>,
    pub(crate) seen: crate::signal::Seen,
}

impl Postgres {
    /// A handle on the database that `url` names, with a pool of its own. Connects when it is first
    /// used.
    ///
    /// The forms are those of libpq: `postgres://user:password@host:port/database?sslmode=…`, with
    /// `host=/run/postgresql` for a folder with a socket. A server elsewhere must show a
    /// certificate that is valid for its name (`sslmode=verify-full`, with `sslrootcert=FILE` for a
    /// CA of one's own) unless `sslmode` says otherwise. Two parameters are ours: `schema=NAME` as
    /// in [`Options::schema`], and `pgbouncer=true` for a PgBouncer that pools transactions.
    ///
    /// Connections of this pool look up names in `pg_catalog` only, and their transactions are read
    /// committed, outside of those that were begun by [`begin`](posthaste_core::transaction::Transactional::begin).
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if the URL names no PostgreSQL database or the schema has no
    /// possible name.
    pub fn open(url: &str, options: Options) -> Result<Self, StoreError> {
        let url::Address { connect, session, schema } = url::parse(url)?;
        let options = Options { schema: schema.unwrap_or(options.schema), ..options };
        let usual = Usual::default();
        let pool = connect::pool(connect, session, &options, &usual);
        let namespace = Namespace::new(&options.schema)?;
        Ok(Self::of(Store { usual, ..Store::new(pool, session, namespace, options) }))
    }

    /// A handle on the pool of a service that has one, whose settings stay the service's, in the
    /// schema `posthaste`.
    ///
    /// Never drop the future of `pool.begin()` of a pool of one's own half way, with a timeout or a
    /// `select!`: it can leave the connection inside a transaction, which the next borrower gets.
    /// Use [`begin`](posthaste_core::transaction::Transactional::begin) of this handle instead.
    pub fn new(pool: PgPool) -> Self {
        Self::over(pool, Namespace::posthaste(), Options::default())
    }

    /// Like [`Postgres::new`], with a schema, a payload limit, a lock timeout, hints, partitions and
    /// a time for answers of its own; the other options belong to the pool.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if the schema has no possible name.
    pub fn with_options(pool: PgPool, options: Options) -> Result<Self, StoreError> {
        let namespace = Namespace::new(&options.schema)?;
        Ok(Self::over(pool, namespace, options))
    }

    /// The pool, for the service's own statements. If it came from [`Postgres::open`], qualify the
    /// names of tables in them with a schema, or run them in a transaction of
    /// [`begin`](posthaste_core::transaction::Transactional::begin).
    pub fn pool(&self) -> &PgPool {
        &self.store.pool
    }

    /// The schema that holds the tables.
    pub fn schema(&self) -> &str {
        self.store.namespace.name()
    }

    fn over(pool: PgPool, namespace: Namespace, options: Options) -> Self {
        Self::of(Store::new(pool, Session::Foreign, namespace, options))
    }

    fn of(store: Store) -> Self {
        Self { store: Arc::new(store), seen: crate::signal::Seen::default() }
    }
}

/// What clones share.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) pool: PgPool,
    pub(crate) session: Session,
    pub(crate) usual: Usual,
    pub(crate) namespace: Namespace,
    pub(crate) options: Options,
    pub(crate) signal: Changes,
    pub(crate) pruning: Pruning,
    /// Set once the schema was seen to be of our version, so that it is not looked at each time.
    schema_is_ours: AtomicBool,
}

impl Store {
    fn new(pool: PgPool, session: Session, namespace: Namespace, options: Options) -> Self {
        let signal = Changes::new();
        let schema_is_ours = AtomicBool::new(false);
        let pruning = Pruning::default();
        let usual = Usual::default();
        Self { pool, session, usual, namespace, options, signal, pruning, schema_is_ours }
    }

    /// The limits of messages.
    pub(crate) fn limits(&self) -> Limits {
        Limits::with_payload(self.options.payload_limit)
    }

    /// A statement for this schema; see [`Namespace`].
    pub(crate) fn sql(&self, template: &'static str) -> SqlStr {
        self.namespace.sql(template)
    }

    /// A query for this schema. Behind a PgBouncer it is not kept prepared, because the next
    /// transaction may run on another connection; then it has to run inside a transaction.
    pub(crate) fn query<'q>(
        &self,
        template: &'static str,
    ) -> Query<'q, sqlx::Postgres, PgArguments> {
        sqlx::query(self.sql(template)).persistent(self.session.is_lasting())
    }

    /// The same for rows as tuples.
    pub(crate) fn query_as<'q, O>(
        &self,
        template: &'static str,
    ) -> QueryAs<'q, sqlx::Postgres, O, PgArguments>
    where
        O: for<'r> FromRow<'r, PgRow>,
    {
        sqlx::query_as(self.sql(template)).persistent(self.session.is_lasting())
    }

    /// The same for single values.
    pub(crate) fn query_scalar<'q, O>(
        &self,
        template: &'static str,
    ) -> QueryScalar<'q, sqlx::Postgres, O, PgArguments>
    where
        (O,): for<'r> FromRow<'r, PgRow>,
    {
        sqlx::query_scalar(self.sql(template)).persistent(self.session.is_lasting())
    }

    /// Classifies what the driver said when `doing` failed.
    pub(crate) fn error(&self, doing: &str, cause: sqlx::Error) -> StoreError {
        let cause = match cause {
            // The driver tries a server that refuses connections, or says nothing, for as long as
            // it may, and says no more of it than of a pool that is in use.
            sqlx::Error::PoolTimedOut if self.pool_has_room() => sqlx::Error::Io(
                std::io::Error::new(std::io::ErrorKind::TimedOut, "nothing answers"),
            ),
            cause => cause,
        };
        error::classify(doing, &self.place(), cause)
    }

    /// Whether there was room for one more connection, so that it was not to be had for another
    /// reason.
    fn pool_has_room(&self) -> bool {
        self.pool.num_idle() > 0 || self.pool.size() < self.pool.options().get_max_connections()
    }

    /// The same as a closure, for `map_err`.
    pub(crate) fn failed(&self, doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError + '_ {
        move |cause| self.error(doing, cause)
    }

    /// Which database, for people; without user and password.
    pub(crate) fn place(&self) -> String {
        connect::place(&self.pool.connect_options())
    }

    /// Refuses a schema that is missing, older or newer.
    pub(crate) async fn check_schema(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        if self.schema_is_ours.load(Ordering::Acquire) {
            return Ok(());
        }
        let found = schema::version(self, connection).await?;
        schema::refuse_other(found)?;
        self.schema_is_ours.store(true, Ordering::Release);
        Ok(())
    }
}
