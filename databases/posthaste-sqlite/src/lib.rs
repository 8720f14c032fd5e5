//! SQLite for Posthaste: outbox, inbox, leases and dead letters as tables `posthaste_…` in the
//! application's own file.
//!
//! SQLite has one writer at a time, so the order of `seq` is the order of commits and the
//! checkpoint of a destination is one number: everything up to it has a verdict. The outbox is
//! insert-only; what cannot be sent at once stands in `posthaste_held`.
//!
//! ```no_run
//! use posthaste_core::transaction::OutboxWriter as _;
//!
//! # async fn place(pool: sqlx::SqlitePool, message: posthaste_core::Message)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let outbox = posthaste_sqlite::Sqlite::new(pool.clone());
//! let mut tx = pool.begin().await?;
//! sqlx::query("insert into orders (total) values (42)").execute(&mut *tx).await?;
//! outbox.enqueue(&mut tx, &[message]).await?;
//! tx.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What must hold here:
//! - Nothing but [`Schema::migrate`](posthaste_core::database::Schema::migrate) creates or changes
//!   tables, creates the file or changes its journal mode.
//! - Every write of this crate is one `BEGIN IMMEDIATE` transaction that runs in a task of its
//!   own: a caller that goes away leaves it wholly done or not done, and no pooled connection
//!   inside a transaction.
//! - Whether something is due, expired or old is decided by the clock of the database, never by a
//!   number that came from elsewhere.

/// Milliseconds since 1970 by the database's clock, as an expression.
macro_rules! now {
    () => {
        "cast((julianday('now') - 2440587.5) * 86400000 + 0.5 as integer)"
    };
}

mod act;
mod dead_letters;
mod doctor;
mod error;
mod inbox;
mod lanes;
mod leases;
mod monitor;
mod number;
mod options;
mod reader;
mod routes;
mod row;
mod schema;
mod settle;
mod signal;
mod store;
mod trace;
mod transaction;
mod upkeep;
mod url;
mod watch;
mod writer;

pub use options::Options;
pub use schema::VERSION;
pub use store::Sqlite;
