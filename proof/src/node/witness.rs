//! Notes what arrives from the bus before the consumer gets to see it.

use async_trait::async_trait;
use posthaste::core::{BrokerError, Delivery, Subscriber};
use posthaste_history::event::Delivered;

use crate::evidence::Evidence;
use crate::shop;

/// A subscriber that notes.
pub struct Witness {
    /// Who is written down as the consumer.
    pub consumer: String,
    /// Where the messages come from.
    pub inner: Box<dyn Subscriber>,
    /// Where they are noted.
    pub evidence: Evidence,
}

#[async_trait]
impl Subscriber for Witness {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let deliveries = self.inner.receive(max).await?;
        for delivery in &deliveries {
            let noted = self.evidence.note(Delivered {
                consumer: self.consumer.clone(),
                id: delivery.message.id.to_string(),
                digest: shop::digest(&delivery.message),
                attempt: Some(delivery.attempt),
                database_time: None,
            });
            noted.map_err(|cause| BrokerError::failed(format!("no evidence: {cause}")))?;
        }
        Ok(deliveries)
    }
}
