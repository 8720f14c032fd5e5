//! A redelivery that comes under another id, past the inbox.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Subscriber};
use posthaste_core::delivery::{Disposition, Settle};
use posthaste_core::{BrokerError, Delivery};

use super::invent_message::another;
use crate::testing::fault::{RewiredBroker, rewrap, settle};

/// Breaks "the id is the same on every delivery": loses the first settlement of every message, and
/// gives it another id when it comes again. The inbox cannot know it; whoever counts effects by
/// what was stated must find them doubled.
pub struct NewIdentity {
    inner: Box<dyn Subscriber>,
}

impl NewIdentity {
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
impl Subscriber for NewIdentity {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let mut changed = Vec::new();
        for mut delivery in self.inner.receive(max).await? {
            if delivery.is_redelivered() {
                delivery.message.id = another(delivery.message.id);
                changed.push(delivery);
            } else {
                changed.push(rewrap(delivery, |inner| Box::new(LostSettlement(inner))));
            }
        }
        Ok(changed)
    }
}

struct LostSettlement(Delivery);

#[async_trait]
impl Settle for LostSettlement {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), BrokerError> {
        if disposition == Disposition::Complete {
            drop(self.0);
            return Ok(());
        }
        settle(self.0, disposition).await
    }

    async fn renew(&self) -> Result<Option<std::time::Duration>, BrokerError> {
        self.0.renew().await
    }
}
