//! Reliable messaging for services that own a database.
//!
//! A service changes its state and states the messages that follow from it in one transaction of
//! its own ([`Outbox`]); a [`Relay`] carries each committed message to a broker, in order per key;
//! a [`Consumer`] applies each message exactly once, because its inbox entry and its effects are
//! one transaction too.
//!
//! The engine knows no database and no broker by name: `posthaste-sqlite`, `posthaste-bus` and
//! their siblings implement the seams of `posthaste-core`, which is re-exported as [`core`].

pub mod consumer;
pub mod draft;
pub mod error;
pub mod event;
pub mod memory;
pub mod outbox;
pub mod progress;
pub mod relay;
pub mod testing;

pub use consumer::{Consumer, ConsumerOptions, Handler, Others, handler_fn, raw_handler_fn};
pub use draft::Draft;
pub use error::{HandlerError, PublishError, reject, retry_after};
pub use event::Event;
pub use outbox::Outbox;
pub use posthaste_core as core;
pub use posthaste_core::{Headers, Message, MessageId, Payload, RetryPolicy, Subscription};
pub use progress::Progress;
pub use relay::{OnDead, OnUnroutable, Relay, RelayOptions, TopicPolicy};
