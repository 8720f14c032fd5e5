//! Notes what arrives before the consumer sees it.

use async_trait::async_trait;
use posthaste_core::{BrokerError, Delivery, Subscriber};

use super::arrivals::ArrivalLog;

/// A subscriber that writes down what it passes on.
pub(super) struct Recorder {
    pub(super) inner: Box<dyn Subscriber>,
    pub(super) log: ArrivalLog,
}

#[async_trait]
impl Subscriber for Recorder {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let deliveries = self.inner.receive(max).await?;
        match self.log.note(&deliveries) {
            Ok(()) => Ok(deliveries),
            Err(error) => Err(BrokerError::Failed {
                context: "cannot note what arrived".to_owned(),
                source: Some(Box::new(error)),
            }),
        }
    }
}
