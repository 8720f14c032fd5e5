//! Hands over a later message of a key before an earlier one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Publisher};
use posthaste_core::retry::Jitter;
use posthaste_core::{Message, Outcome, Unavailable};

use crate::testing::fault::RewiredBroker;

/// Breaks "of one key, in order": turns every call around, and holds back some messages with a key
/// for a while although it says that they are accepted, so that later calls overtake them. Whoever
/// looks at the order of first arrivals must find it wrong.
pub struct IgnoreOrder {
    inner: Arc<dyn Publisher>,
    hold: Duration,
    jitter: Mutex<Jitter>,
}

impl IgnoreOrder {
    /// Holds back about one of eight messages with a key for `hold`; which ones, the seed decides.
    pub fn new(inner: Arc<dyn Publisher>, seed: u64, hold: Duration) -> Self {
        Self { inner, hold, jitter: Mutex::new(Jitter::new(seed)) }
    }

    /// A broker all of whose publishers do it.
    pub fn broker(inner: Arc<dyn Broker>, seed: u64, hold: Duration) -> RewiredBroker {
        RewiredBroker::new(inner).publishing(move |inner| Arc::new(Self::new(inner, seed, hold)))
    }

    fn holds(&self, message: &Message) -> bool {
        let mut jitter = self.jitter.lock().unwrap_or_else(PoisonError::into_inner);
        message.key.is_some() && jitter.draw().is_multiple_of(8)
    }
}

#[async_trait]
impl Publisher for IgnoreOrder {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        let (held, mut sent): (Vec<_>, Vec<_>) =
            messages.iter().cloned().partition(|message| self.holds(message));
        sent.reverse();
        let answers = self.inner.publish(&sent).await?;
        if !held.is_empty() {
            let (inner, hold) = (self.inner.clone(), self.hold);
            tokio::spawn(async move {
                tokio::time::sleep(hold).await;
                drop(inner.publish(&held).await);
            });
        }
        let answer_to = |message: &Message| {
            let place = sent.iter().position(|other| other.id == message.id)?;
            answers.get(place).cloned()
        };
        Ok(messages.iter().map(|m| answer_to(m).unwrap_or_else(Outcome::accepted)).collect())
    }
}
