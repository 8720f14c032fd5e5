//! The memory broker: topics, durable named subscriptions, order per key, locks that run out.
//!
//! What it promises is data, so that the engine can be tried against brokers that promise more or
//! less: it behaves as its [`Promises`] say and no better.

mod publisher;
mod queue;
mod settle;
mod subscriber;
mod topic;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Promises, Publisher, Subscriber, Subscription};
use posthaste_core::finding::{Finding, Severity};
use posthaste_core::limits::PAYLOAD_BYTES_MOST;
use posthaste_core::{BrokerError, Message};
use tokio::sync::Notify;

use publisher::MemoryPublisher;
use subscriber::MemorySubscriber;
use topic::Topics;

/// How long a delivery is locked unless something else is said.
const LOCK: Duration = Duration::from_secs(30);

/// A broker in memory. Clones are handles to the same broker.
#[derive(Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

struct Shared {
    topics: Mutex<Topics>,
    /// Fires when something may be there to deliver.
    arrived: Notify,
    promises: Promises,
    lock: Duration,
    /// Whether it returns what no subscription is there for.
    returns: bool,
}

/// A message that the broker has given up on because a consumer said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerDeadLetter {
    /// The message.
    pub message: Message,
    /// The code that was given.
    pub reason: String,
    /// What was said, for people.
    pub detail: String,
}

impl MemoryBroker {
    /// A broker that promises order, counted deliveries and prefixes per key.
    pub fn new() -> Self {
        Self::promising(Promises {
            prefix_per_key: true,
            durable: false,
            ordered: true,
            dedupe_window: None,
            max_batch: 1024,
            max_payload: PAYLOAD_BYTES_MOST,
            counts_deliveries: true,
        })
    }

    /// A broker that behaves as these promises say.
    pub fn promising(promises: Promises) -> Self {
        Self::build(promises, LOCK, false)
    }

    /// The same broker, still without messages, whose deliveries are locked for `lock`.
    #[must_use]
    pub fn with_lock(self, lock: Duration) -> Self {
        Self::build(self.shared.promises, lock, self.shared.returns)
    }

    /// The same broker, still without messages, that returns what no subscription is there for. By
    /// itself it keeps that for the first one.
    #[must_use]
    pub fn returning(self) -> Self {
        Self::build(self.shared.promises, self.shared.lock, true)
    }

    fn build(promises: Promises, lock: Duration, returns: bool) -> Self {
        let (topics, arrived) = (Mutex::new(Topics::default()), Notify::new());
        Self { shared: Arc::new(Shared { topics, arrived, promises, lock, returns }) }
    }

    /// Everything that was accepted on a topic, oldest first, whether it was consumed or not.
    pub fn published(&self, topic: &str) -> Vec<Message> {
        self.shared.lock().published(topic)
    }

    /// Everything that was accepted on any topic, oldest first.
    pub fn published_anywhere(&self) -> Vec<Message> {
        self.shared.lock().published_anywhere()
    }

    /// What subscription `name` of `topic` has not settled yet, in its order.
    pub fn unsettled(&self, topic: &str, name: &str) -> Vec<Message> {
        self.shared.lock().queue(topic, name).map(|queue| queue.unsettled()).unwrap_or_default()
    }

    /// What consumers of the subscription have deferred, in its order.
    pub fn deferred(&self, topic: &str, name: &str) -> Vec<Message> {
        self.shared.lock().queue(topic, name).map(|queue| queue.deferred()).unwrap_or_default()
    }

    /// The dead letters of the subscription, oldest first.
    pub fn dead_letters(&self, topic: &str, name: &str) -> Vec<BrokerDeadLetter> {
        self.shared.lock().queue(topic, name).map(|queue| queue.dead.clone()).unwrap_or_default()
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("promises", &self.shared.promises).finish()
    }
}

impl Shared {
    /// The topics. A panic of another thread cannot have left them half changed.
    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(MemoryPublisher { shared: self.shared.clone() })
    }

    async fn subscriber(
        &self,
        subscription: &Subscription,
    ) -> Result<Box<dyn Subscriber>, BrokerError> {
        for (field, value) in [("topic", &subscription.topic), ("name", &subscription.name)] {
            posthaste_core::limits::check_name(field, value)
                .map_err(|invalid| BrokerError::rejected(invalid.to_string()))?;
        }
        let holder = self.shared.lock().open(&subscription.topic, &subscription.name);
        let subscription = subscription.clone();
        Ok(Box::new(MemorySubscriber { shared: self.shared.clone(), subscription, holder }))
    }

    fn promises(&self) -> Promises {
        self.shared.promises
    }

    async fn check(&self) -> Vec<Finding> {
        let what = "a broker in memory: nothing in it outlives the process";
        vec![Finding::new(Severity::Warning, "broker", what)]
    }
}
