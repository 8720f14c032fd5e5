//! Posthaste on RabbitMQ: confirmed publishing and ordered subscriptions over AMQP 0-9-1.
//!
//! A topic is a durable topic exchange of the same name, the kind is the routing key. A
//! subscription
//! `NAME` of a topic is the durable quorum queue `TOPIC.NAME`, bound with `#`; its dead letters are
//! in `TOPIC.NAME.dead`. All of them get the prefix of [`RabbitMqOptions::prefix`].
//!
//! | message | AMQP |
//! | --- | --- |
//! | id | `message_id` |
//! | kind | `type`, and the routing key |
//! | key | header `posthaste-key` |
//! | headers | headers, as long strings |
//! | content type | `content_type` |
//! | stated at | `timestamp` (seconds), and header `posthaste-stated-at` (microseconds) |
//! | due at | header `posthaste-due-at` (microseconds) |
//!
//! **Publishing** uses confirms and `mandatory`. Accepted means that every queue that is bound has
//! it on disk. A message that comes back is [`Outcome::Unroutable`](posthaste_core::Outcome). What
//! was not confirmed when a channel, a connection or the time of a call ended is unknown.
//!
//! **Ordered subscriptions** have one active consumer at a time, which gets at most one unsettled
//! delivery of a key; retries are held here, so that the key waits and others go on. Held
//! deliveries count towards the prefetch. A consumer that holds a delivery for longer than the
//! broker's
//! `consumer_timeout` (30 minutes) is cut off, and gets everything again.
//!
//! **Completing** returns once the broker has read the acknowledgement. AMQP 0-9-1 has no answer to
//! it: a broker that fails in the moment between reading and storing it delivers the message again.
//!
//! **What others publish** is delivered if its `message_id` is a UUID; otherwise it could not be
//! told from a copy, and becomes a dead letter (`malformed`).
//!
//! The client library logs at its own discretion; at the level of warnings it shows messages that
//! come back with their payload. Whoever keeps logs filters `lapin` to errors.
//!
//! ```no_run
//! use posthaste_core::{Broker, Subscription};
//! use posthaste_rabbitmq::{RabbitMq, RabbitMqOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let rabbit = RabbitMq::open("amqp://localhost", RabbitMqOptions::default())?;
//! let mut shipping = rabbit.subscriber(&Subscription::new("orders", "shipping")).await?;
//! for delivery in shipping.receive(10).await? {
//!     println!("{}", delivery.message.kind);
//!     delivery.complete().await?;
//! }
//! # Ok(())
//! # }
//! ```

mod address;
mod caution;
mod check;
mod confirms;
mod connection;
mod dead_letters;
mod echo;
mod envelope;
mod error;
mod greeting;
mod grip;
mod hold;
mod link;
mod options;
mod outlet;
mod publisher;
mod rabbit;
mod removal;
mod settlement;
mod subscriber;
mod topology;

pub use dead_letters::RabbitDeadLetters;
pub use options::{QueueType, RabbitMqOptions};
pub use rabbit::RabbitMq;
pub use removal::Depth;
