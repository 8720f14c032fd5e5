//! What users test their services with: assertions, faults on every seam, and broken rules.
//!
//! A test of a service takes [`MemoryDatabase`](crate::memory::MemoryDatabase) and
//! [`MemoryBroker`](crate::memory::MemoryBroker) in place of the real ones and asserts what was
//! stated:
//!
//! ```
//! use posthaste::memory::MemoryDatabase;
//! use posthaste::testing::{assert_not_published, assert_published};
//! use posthaste::{Event, Outbox};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct OrderPlaced { order: u64 }
//!
//! impl Event for OrderPlaced {
//!     const TOPIC: &'static str = "orders";
//!     const KIND: &'static str = "order.placed";
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let database = MemoryDatabase::new();
//! let outbox = Outbox::new(database.clone());
//! let mut tx = outbox.begin().await.unwrap();
//! outbox.publish(&mut tx, &OrderPlaced { order: 7 }).await.unwrap();
//! assert_not_published::<OrderPlaced>(&database); // not before the commit
//! outbox.commit(tx).await.unwrap();
//! assert_published(&database, &OrderPlaced { order: 7 });
//! # }
//! ```
//!
//! Time: the memory backends run on tokio's clock. With `tokio::time::pause()` at the beginning
//! of a test (tokio's `test-util` feature), hours of retries and locks pass in an instant.
//!
//! Faults ([`fault`]) and broken rules ([`sabotage`]) are wrappers around the seams. Nothing in the
//! engine or in a backend knows that they exist.

pub mod fault;
mod published;
pub mod sabotage;

pub use published::{
    Published, assert_not_published, assert_nothing_published, assert_published,
    assert_published_in_order, assert_published_once, published,
};
