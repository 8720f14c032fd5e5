//! PostgreSQL for Posthaste: outbox, inbox, leases and dead letters in a schema of the
//! application's own database.
//!
//! Writers run side by side, so a row with a low number can commit after one with a higher number.
//! The checkpoint of a reader is therefore a frontier and a snapshot, see
//! [`posthaste_core::frontier`]; the outbox is insert-only, and what cannot be sent at once stands
//! in `posthaste.held`.
//!
//! ```no_run
//! use posthaste_core::transaction::OutboxWriter as _;
//!
//! # async fn place(pool: sqlx::PgPool, message: posthaste_core::Message)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let outbox = posthaste_postgres::Postgres::new(pool.clone());
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
//!   tables, apart from partitions of the outbox, which the upkeep of the relay makes and removes.
//! - Every write of this crate is one transaction that runs in a task of its own: a caller that
//!   goes away leaves it wholly done or not done, and no pooled connection inside a transaction.
//! - A writer needs the rights to execute `publish` and to insert into named columns, no others.
//! - Every name in a statement is qualified with its schema; connections of our own look up
//!   everything else in `pg_catalog` only.
//! - Whether something is due, expired or old is decided by the clock of the database, never by a
//!   number that came from elsewhere.

mod adoption;
mod checkpoint;
mod checkup;
mod columns;
mod connect;
mod cursor;
mod dead_letters;
mod detail;
mod doctor;
mod emptying;
mod error;
mod inbox;
mod lanes;
mod layout;
mod leases;
mod lent;
mod monitor;
mod namespace;
mod number;
mod options;
mod partitions;
mod patience;
mod pruning;
mod reader;
mod roles;
mod row;
mod schema;
mod settle;
mod signal;
mod store;
mod time;
#[cfg(feature = "tokio-postgres")]
mod tokio_postgres;
mod transaction;
mod upkeep;
mod url;
mod writer;

pub use options::Options;
pub use roles::{Roles, grants};
pub use schema::VERSION;
pub use store::Postgres;
#[cfg(feature = "tokio-postgres")]
pub use tokio_postgres::{TokioOutbox, TokioTransaction};
