//! Hands over messages that nobody has committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Publisher};
use posthaste_core::{Message, MessageId, Outcome, Unavailable};

use crate::testing::fault::RewiredBroker;

/// Breaks "nothing is delivered that was not committed": after every n-th message it hands over a
/// copy under an id of its own. Whoever compares what arrived with what was committed must find a
/// phantom.
pub struct InventMessage {
    inner: Arc<dyn Publisher>,
    every: u64,
    seen: Arc<AtomicU64>,
}

impl InventMessage {
    /// Invents one after every `every`-th message; none if that is 0.
    pub fn new(inner: Arc<dyn Publisher>, every: u64) -> Self {
        Self { inner, every, seen: Arc::new(AtomicU64::new(0)) }
    }

    /// A broker all of whose publishers do it.
    pub fn broker(inner: Arc<dyn Broker>, every: u64) -> RewiredBroker {
        let seen = Arc::new(AtomicU64::new(0));
        RewiredBroker::new(inner).publishing(move |inner| {
            let seen = seen.clone();
            Arc::new(Self { inner, every, seen })
        })
    }
}

#[async_trait]
impl Publisher for InventMessage {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        let outcomes = self.inner.publish(messages).await?;
        for message in messages {
            let number = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
            if self.every > 0 && number.is_multiple_of(self.every) {
                let phantom = Message { id: another(message.id), ..message.clone() };
                drop(self.inner.publish(&[phantom]).await);
            }
        }
        Ok(outcomes)
    }
}

/// An id that differs from this one and is the same each time.
pub(super) fn another(id: MessageId) -> MessageId {
    let mut bytes = *id.as_bytes();
    for byte in &mut bytes[9..] {
        *byte = !*byte;
    }
    MessageId::from_bytes(bytes)
}
