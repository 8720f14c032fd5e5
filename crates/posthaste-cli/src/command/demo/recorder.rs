//! Notes what arrives before the consumer sees it.

use async_trait::async_trait;
use posthaste_core::{BrokerError, Delivery, Subscriber};
use posthaste_history::Journal;

use super::arrivals;

/// A subscriber that writes down what it passes on.
pub(super) struct Recorder {
    pub(super) inner: Box<dyn Subscriber>,
    pub(super) consumer: &'static str,
    pub(super) journal: Journal,
}

#[async_trait]
impl Subscriber for Recorder {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let deliveries = self.inner.receive(max).await?;
        match arrivals::note(&self.journal, self.consumer, &deliveries) {
            Ok(()) => Ok(deliveries),
            Err(error) => Err(BrokerError::Failed {
                context: "cannot note what arrived".to_owned(),
                source: Some(Box::new(error)),
            }),
        }
    }
}
