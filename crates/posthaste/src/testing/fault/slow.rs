//! A broker that takes its time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Publisher, Subscriber};
use posthaste_core::{BrokerError, Delivery, Message, Outcome, Unavailable};

use super::RewiredBroker;

/// Makes brokers whose answers come late. Breaks no rule; nothing but throughput may suffer.
pub struct SlowBroker;

impl SlowBroker {
    /// Messages are published at once and confirmed `confirm` later; deliveries come `receive`
    /// late.
    #[expect(clippy::new_ret_no_self, reason = "a slow broker is a rewired one")]
    pub fn new(inner: Arc<dyn Broker>, confirm: Duration, receive: Duration) -> RewiredBroker {
        RewiredBroker::new(inner)
            .publishing(move |inner| Arc::new(SlowPublisher { inner, confirm }))
            .receiving(move |inner| Box::new(SlowSubscriber { inner, receive }))
    }
}

struct SlowPublisher {
    inner: Arc<dyn Publisher>,
    confirm: Duration,
}

#[async_trait]
impl Publisher for SlowPublisher {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        let outcomes = self.inner.publish(messages).await;
        tokio::time::sleep(self.confirm).await;
        outcomes
    }
}

struct SlowSubscriber {
    inner: Box<dyn Subscriber>,
    receive: Duration,
}

#[async_trait]
impl Subscriber for SlowSubscriber {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        // Waits before it has anything in its hands, so that it may be dropped at any point.
        tokio::time::sleep(self.receive).await;
        self.inner.receive(max).await
    }
}
