//! The nouns, the seams and the decisions of Posthaste.
//!
//! Everything here is a value, a trait or a pure function: this crate has no tokio, performs no
//! I/O, reads no clock and draws no randomness, so that a decision can be tested by calling it and
//! the whole relay can be driven by a simulator. Backends (`posthaste-sqlite`, `posthaste-bus`, …)
//! depend on this crate and on nothing else of Posthaste; the engine (`posthaste`) turns the
//! decisions into I/O.
//!
//! The path of a message names the modules:
//! [`message`] is stated with [`transaction::OutboxWriter`] inside the application's transaction;
//! [`outbox::OutboxReader`] reads it as an [`outbox::Entry`]; the [`relay`] hands it to a
//! [`broker::Publisher`], whose [`outcome::Outcome`] is turned by [`judge`] into a
//! [`verdict::Verdict`], which is settled under a [`lease`]; a [`broker::Subscriber`] brings it as
//! a [`delivery::Delivery`] to the [`consumer`], which records it in the [`inbox`].

pub mod broker;
pub mod consumer;
pub mod database;
pub mod dead_letter;
pub mod delivery;
pub mod error;
pub mod finding;
pub mod frontier;
pub mod headers;
pub mod inbox;
pub mod judge;
pub mod lane;
pub mod lease;
pub mod limits;
pub mod message;
pub mod outbox;
pub mod outcome;
pub mod payload;
pub mod position;
pub mod relay;
pub mod retry;
pub mod time;
pub mod transaction;
pub mod verdict;

pub use broker::{Broker, Promises, Publisher, Subscriber, Subscription};
pub use database::Database;
pub use delivery::Delivery;
pub use error::{BrokerError, StoreError, Unavailable};
pub use headers::Headers;
pub use lane::Lane;
pub use limits::{Invalid, Limits};
pub use message::{Message, MessageId};
pub use outcome::{Outcome, Receipt, Refusal};
pub use payload::Payload;
pub use position::{Checkpoint, Position};
pub use retry::RetryPolicy;
pub use time::{Moment, Timestamp};
pub use verdict::Verdict;
