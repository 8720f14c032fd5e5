//! Publishing into memory, within what the broker promises.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::broker::Publisher;
use posthaste_core::{Message, Outcome, Receipt, Unavailable};
use tokio::time::Instant;

use super::Shared;
use super::topic::Topics;

pub(super) struct MemoryPublisher {
    pub(super) shared: Arc<Shared>,
}

#[async_trait]
impl Publisher for MemoryPublisher {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        let promises = self.shared.promises;
        let now = Instant::now();
        // Topic and key of what was refused: with prefixes per key, their followers are as well.
        let mut failed: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(messages.len());
        {
            let mut topics = self.shared.lock();
            for (place, message) in messages.iter().enumerate() {
                let address = message.key.as_deref().map(|key| (message.topic.as_str(), key));
                let follows = address.is_some_and(|address| failed.contains(&address));
                let outcome = if follows {
                    Outcome::refused("an earlier message of its key was refused")
                } else if place >= promises.max_batch {
                    let most = promises.max_batch;
                    Outcome::refused(format!("more than {most} messages in one call"))
                } else {
                    self.accept(&mut topics, message, now)
                };
                let refused = matches!(outcome, Outcome::Refused(_));
                if refused && promises.prefix_per_key {
                    failed.extend(address);
                }
                outcomes.push(outcome);
            }
        }
        self.shared.arrived.notify_waiters();
        Ok(outcomes)
    }
}

impl MemoryPublisher {
    fn accept(&self, topics: &mut Topics, message: &Message, now: Instant) -> Outcome {
        let promises = &self.shared.promises;
        if message.payload.len() > promises.max_payload {
            let (bytes, most) = (message.payload.len(), promises.max_payload);
            return Outcome::refused_for_good(format!("payload has {bytes} bytes, limit {most}"));
        }
        if self.shared.returns && !topics.is_subscribed(&message.topic) {
            let detail = format!("there is no subscription of '{}'", message.topic);
            return Outcome::unroutable(detail);
        }
        if let Some(window) = promises.dedupe_window
            && topics.has_since(message, now.checked_sub(window))
        {
            return Outcome::accepted();
        }
        let number = topics.accept(message, now);
        Outcome::Accepted(Receipt(Some(number.to_string())))
    }
}
