//! A connection for our own statements, and how it goes back to its pool.
//!
//! It goes back outside of transactions and with all replies read, or not at all: what a call that
//! was given up has left under way is cut off.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::patience::is_given_up;

/// How long a connection may take to become ready for the next borrower. A silent one keeps its
/// place in the pool for that time.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(5);

const IS_THERE: &str = "a connection is there until it is dropped";

/// A connection that is lent by a pool.
#[derive(Debug)]
pub(crate) struct Lent {
    connection: Option<PoolConnection<sqlx::Postgres>>,
    /// Whether it is, or may be, inside a transaction.
    pub(crate) inside: bool,
}

impl Lent {
    pub(crate) fn new(connection: PoolConnection<sqlx::Postgres>) -> Self {
        Self { connection: Some(connection), inside: false }
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_deref().expect(IS_THERE)
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_deref_mut().expect(IS_THERE)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match Handle::try_current() {
            Ok(runtime) if !is_given_up() => {
                let returning = Returning(Some(connection)).arrive(self.inside);
                runtime.spawn(timeout(READY_WITHIN, returning));
            }
            _ => drop(connection.detach()),
        }
    }
}

/// A connection on its way back to its pool. It is closed unless it gets there.
struct Returning(Option<PoolConnection<sqlx::Postgres>>);

impl Drop for Returning {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl Returning {
    async fn arrive(mut self, inside: bool) {
        let Some(connection) = &mut self.0 else { return };
        if inside && sqlx::raw_sql("rollback").execute(&mut **connection).await.is_err() {
            return;
        }
        // The driver reads what is left of earlier replies; dropped half way, it closes.
        let back = connection.return_to_pool();
        self.0 = None;
        back.await;
    }
}
