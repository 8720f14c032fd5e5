//! Receiving from memory: waits for arrivals, for delays to end and for locks to run out.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::broker::{Subscriber, Subscription};
use posthaste_core::{BrokerError, Delivery};
use tokio::time::Instant;

use super::Shared;
use super::queue::{Taken, Taking};
use super::settle::MemorySettle;

pub(super) struct MemorySubscriber {
    pub(super) shared: Arc<Shared>,
    pub(super) subscription: Subscription,
    /// Who holds the locks of these deliveries.
    pub(super) holder: u64,
}

#[async_trait]
impl Subscriber for MemorySubscriber {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        loop {
            let mut arrived = std::pin::pin!(self.shared.arrived.notified());
            arrived.as_mut().enable();
            let (taken, next_at) = self.take(max.max(1));
            if !taken.is_empty() {
                return Ok(taken.into_iter().map(|taken| self.delivery(taken)).collect());
            }
            // Nothing is held across this wait, so it may be dropped.
            match next_at {
                Some(at) => drop(tokio::time::timeout_at(at, arrived).await),
                None => arrived.await,
            }
        }
    }
}

impl MemorySubscriber {
    fn take(&self, max: usize) -> (Vec<Taken>, Option<Instant>) {
        let taking = Taking {
            holder: self.holder,
            max,
            prefetch: self.subscription.prefetch.max(1),
            ordered: self.subscription.ordered && self.shared.promises.ordered,
            now: Instant::now(),
            lock: self.shared.lock,
        };
        let mut topics = self.shared.lock();
        let Subscription { topic, name, .. } = &self.subscription;
        topics
            .queue_mut(topic, name)
            .map(|queue| (queue.take(&taking), queue.next_at()))
            .unwrap_or_default()
    }

    fn delivery(&self, taken: Taken) -> Delivery {
        let counts = self.shared.promises.counts_deliveries;
        let attempt = if counts { taken.deliveries } else { taken.deliveries.min(2) };
        let settle = MemorySettle {
            shared: self.shared.clone(),
            topic: self.subscription.topic.clone(),
            name: self.subscription.name.clone(),
            number: taken.number,
            lock: taken.lock,
        };
        Delivery::new(taken.message, attempt, Some(self.shared.lock), Box::new(settle))
    }
}
