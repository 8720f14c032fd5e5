//! The laws of every seam of Posthaste as async functions whose names are sentences.
//!
//! A backend shows that it keeps the laws by running the suites in its own tests. It gives a
//! function that makes a fresh, empty store, and one macro call makes a test of every law:
//!
//! ```text
//! use posthaste_conformance::{BrokerCase, DatabaseCase};
//!
//! /// A fresh database that is migrated already, seen through two handles.
//! async fn migrated() -> DatabaseCase<SqliteDatabase> {
//!     let folder = tempfile::tempdir().unwrap();
//!     let url = format!("sqlite://{}/app.db", folder.path().display());
//!     let database = SqliteDatabase::open(&url).await.unwrap();
//!     database.migrate().await.unwrap();
//!     let second = SqliteDatabase::open(&url).await.unwrap();
//!     DatabaseCase::new(database, second).keep(folder)
//! }
//! posthaste_conformance::database_suite!(migrated);
//!
//! /// The same before its first migration.
//! async fn empty() -> DatabaseCase<SqliteDatabase> { … }
//! posthaste_conformance::schema_suite!(empty);
//!
//! /// A fresh broker whose locks on deliveries last `lock`, where that can be chosen.
//! async fn broker(lock: Duration) -> BrokerCase { … }
//! posthaste_conformance::broker_suite!(broker);
//!
//! /// A fresh broker that can be taken away and brought back ([`Outage`]).
//! async fn broker_with_outages() -> OutageCase { … }
//! posthaste_conformance::outage_suite!(broker_with_outages);
//! ```
//!
//! The argument of a suite is the name of a function in the calling module: an async one that
//! returns a [`DatabaseCase`], or takes the length of locks and returns a [`BrokerCase`]. A macro
//! may be called once in a module, because it makes a module for each seam. The caller needs no
//! dependency beside this crate: every law runs on a runtime of its own with a deadline.
//!
//! A function that cannot make its store, because a server is not installed here, says so and calls
//! [`skipped`].
//!
//! Every law is a public function, so that it can be run alone as well. A law panics where it is
//! broken. Laws run on real time with short durations and wait for conditions, never for luck: a
//! slow machine makes them slower, not wrong.

mod case;
mod hand;
mod run;
mod suites;
mod timing;

pub mod dead_letters;
pub mod inbox;
pub mod lanes;
pub mod leases;
pub mod monitor;
pub mod outage;
pub mod outbox;
pub mod publisher;
pub mod routes;
pub mod sample;
pub mod schema;
pub mod settlement;
pub mod subscriber;
pub mod topics;
pub mod writer;

pub use case::{BrokerCase, DatabaseCase, Outage, OutageCase, Store};
pub use run::{run, skipped};
