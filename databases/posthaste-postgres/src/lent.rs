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
                runtime.spawn(timeout(READY_WITHIN, give_back(connection, self.inside)));
            }
            _ => drop(connection.detach()),
        }
    }
}

/// If this is dropped half way, the connection is closed.
async fn give_back(mut connection: PoolConnection<sqlx::Postgres>, inside: bool) {
    // Dropping the guard of a connection whose place it holds gives the place back, and closes it.
    let mut back = Closing(Some(connection));
    todo()
}
