//! The embedded bus of Posthaste: durable queues and topics on one SQLite file, without a server.
//!
//! An address is a topic unless it was declared a queue, and its first use creates it. Every
//! subscription of a topic gets every message that was published after the subscription was
//! created; messages published while there is none are held for the first. Consumers of one
//! subscription, and all consumers of a queue, compete. A delivery is locked for a while
//! ([`BusOptions::lock`]) and settled, or comes again, counted. After the owner of the file was
//! killed a count may be too high by one: what was handed out and what was about to be are not told
//! apart then, so that the last delivery that is allowed may be one that nobody has seen.
//!
//! A file that is full or busy makes the bus unavailable: nothing is refused for it, and what is
//! due is delivered when the file can be written again. Only a message that does not fit while
//! others do is refused for now. Of messages whose commit met an input or output error nobody
//! knows.
//!
//! To everyone else it is a [`Broker`](posthaste_core::Broker):
//!
//! ```
//! use posthaste_bus::{Bus, BusOptions};
//! use posthaste_core::{Broker, Message, MessageId, Subscription, Timestamp};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let url = format!("bus://{}/bus.db", folder.path().display());
//! let bus = Bus::open(&url, BusOptions::default())?;
//! let mut shipping = bus.subscriber(&Subscription::new("orders", "shipping")).await?;
//!
//! let id = MessageId::v7(Timestamp::from_millis(0), [7; 10]);
//! let order = Message::new(id, "orders", "order.placed", "{}", Timestamp::from_millis(0));
//! bus.publisher().publish(&[order]).await?;
//!
//! for delivery in shipping.receive(10).await? {
//!     println!("{}", delivery.message.kind);
//!     delivery.complete().await?;
//! }
//! bus.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bus;
#[cfg(unix)]
mod connection;
mod dead_letters;
mod engine;
mod error;
mod keeper;
mod link;
mod options;
mod owned;
mod owner;
mod parcel;
mod protocol;
mod publisher;
#[cfg(unix)]
mod server;
mod settlement;
mod shared;
mod status;
mod store;
mod subscriber;
#[cfg(unix)]
mod wire;

pub use bus::Bus;
pub use options::BusOptions;
pub use protocol::Deferred;
pub use status::{Address, SubscriptionStatus};
