//! Settles deliveries on receipt, before anything is committed.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Subscriber};
use posthaste_core::{BrokerError, Delivery};

use crate::testing::fault::{RewiredBroker, Settled};

/// Breaks "commit, then settle": completes every delivery as it hands it out. Whoever kills the
/// consumer before its commit must find that messages are lost.
pub struct AckBeforeCommit {
    inner: Box<dyn Subscriber>,
}

impl AckBeforeCommit {
    /// A subscriber that does it.
    pub fn new(inner: Box<dyn Subscriber>) -> Self {
        Self { inner }
    }

    /// A broker all of whose subscribers do it.
    pub fn broker(inner: Arc<dyn Broker>) -> RewiredBroker {
        RewiredBroker::new(inner).receiving(|inner| Box::new(Self::new(inner)))
    }
}

#[async_trait]
impl Subscriber for AckBeforeCommit {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let mut settled = Vec::new();
        for delivery in self.inner.receive(max).await? {
            let (message, attempt) = (delivery.message.clone(), delivery.attempt);
            delivery.complete().await?;
            settled.push(Delivery::new(message, attempt, None, Box::new(Settled)));
        }
        Ok(settled)
    }
}
