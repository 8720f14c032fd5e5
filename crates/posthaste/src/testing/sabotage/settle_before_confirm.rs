//! Says that the broker has a message before it is handed over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Publisher};
use posthaste_core::{Message, Outcome, Unavailable};
use tokio::sync::mpsc;

use crate::testing::fault::RewiredBroker;

/// Breaks "accepted means that the broker has it": answers at once, and hands over later in the
/// background, whatever the outcome. Whoever kills the process in between, or has the broker
/// refuse, must find that messages are lost.
pub struct SettleBeforeConfirm {
    inner: Arc<dyn Publisher>,
    delay: Duration,
    queue: Mutex<Option<mpsc::UnboundedSender<Vec<Message>>>>,
}

impl SettleBeforeConfirm {
    /// Hands over `delay` after it has answered.
    pub fn new(inner: Arc<dyn Publisher>, delay: Duration) -> Self {
        Self { inner, delay, queue: Mutex::new(None) }
    }

    /// A broker all of whose publishers do it.
    pub fn broker(inner: Arc<dyn Broker>, delay: Duration) -> RewiredBroker {
        RewiredBroker::new(inner).publishing(move |inner| Arc::new(Self::new(inner, delay)))
    }

    /// The queue of a task that hands over in order; it ends with the last sender.
    fn start(inner: Arc<dyn Publisher>, delay: Duration) -> mpsc::UnboundedSender<Vec<Message>> {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<Message>>();
        tokio::spawn(async move {
            while let Some(messages) = receiver.recv().await {
                tokio::time::sleep(delay).await;
                drop(inner.publish(&messages).await);
            }
        });
        sender
    }
}

#[async_trait]
impl Publisher for SettleBeforeConfirm {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = queue.get_or_insert_with(|| Self::start(self.inner.clone(), self.delay));
        drop(sender.send(messages.to_vec()));
        Ok(messages.iter().map(|_| Outcome::accepted()).collect())
    }
}
