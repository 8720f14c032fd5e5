//! The bus: where messages go to, and where they come from.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::finding::Finding;
use crate::{BrokerError, Delivery, Message, Outcome, Unavailable};

/// What a broker promises, as data: the relay reads it, the conformance suite tests exactly this,
/// and the table in the docs is printed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Promises {
    /// Of messages of one key that are handed over in one [`Publisher::publish`] call, the accepted
    /// ones are a prefix: a failure fails its followers. Then several of a key may fly at once.
    pub prefix_per_key: bool,
    /// Accepted means that it survives a power cut of the broker.
    pub durable: bool,
    /// A subscription delivers messages of one key in the order of their acceptance, one at a time.
    pub ordered: bool,
    /// Repeated ids are dropped for at least this long; `None` if they are not.
    pub dedupe_window: Option<Duration>,
    /// Most messages of one call.
    pub max_batch: usize,
    /// Most bytes of one payload.
    pub max_payload: usize,
    /// Deliveries are counted, also over a crash of the broker.
    pub counts_deliveries: bool,
}

/// Hands messages to a broker.
///
/// Laws (suite `publisher`):
/// 1. One outcome for each message, in the order given.
/// 2. `Unavailable` means that nothing left this process.
/// 3. An accepted message is delivered to every subscription that was there, byte for byte.
/// 4. A refusal of one message does not touch the others, except its followers where
///    [`Promises::prefix_per_key`] says so.
/// 5. The call ends within the publisher's own time limit, whatever the broker does; what is not
///    known by then is [`Outcome::Unknown`].
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Hands over messages and waits for the broker's answer to each. Calls may overlap.
    ///
    /// # Errors
    /// [`Unavailable`] if the broker could not be reached and nothing was sent.
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable>;
}

/// What to receive, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic, or the queue.
    pub topic: String,
    /// The durable name; the same name competes for messages, different names each get all.
    pub name: String,
    /// Messages of one key one after the other, in order.
    pub ordered: bool,
    /// Most deliveries in hand at once.
    pub prefetch: usize,
}

impl Subscription {
    /// An ordered subscription with room for 256 deliveries.
    pub fn new(topic: impl Into<String>, name: impl Into<String>) -> Self {
        Self { topic: topic.into(), name: name.into(), ordered: true, prefetch: 256 }
    }
}

/// Receives messages of one subscription.
///
/// Laws (suite `subscriber`):
/// 1. Every accepted message is delivered until it is settled.
/// 2. An unsettled delivery that is dropped, or whose lock runs out, is delivered again, counted.
/// 3. On an ordered subscription, while a message of a key is unsettled, later ones of it wait.
/// 4. Competing subscribers of one name never hold the same message at once.
/// 5. [`Subscriber::receive`] may be dropped at any point; nothing is lost by it.
/// 6. After the broker was away, receiving goes on by itself.
#[async_trait]
pub trait Subscriber: Send {
    /// Waits for at least one delivery and returns up to `max` that are there.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] while the broker is away; calling again is the way to wait.
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError>;
}

/// A message broker.
#[async_trait]
pub trait Broker: Send + Sync {
    /// A publisher; it connects when it is first used and again whenever it has to.
    fn publisher(&self) -> Arc<dyn Publisher>;

    /// Opens a subscription, creating it durably if it is new, and returns once messages published
    /// from now on will reach it.
    async fn subscriber(
        &self,
        subscription: &Subscription,
    ) -> Result<Box<dyn Subscriber>, BrokerError>;

    /// What it promises.
    fn promises(&self) -> Promises;

    /// Looks at the broker as `doctor` does.
    async fn check(&self) -> Vec<Finding>;
}
