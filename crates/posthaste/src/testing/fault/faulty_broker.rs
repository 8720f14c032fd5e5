//! A broker whose calls fail, hang or lose their answer when a fault says so.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Promises, Publisher, Subscriber, Subscription};
use posthaste_core::delivery::{Disposition, Settle};
use posthaste_core::finding::Finding;
use posthaste_core::{BrokerError, Delivery, Message, Outcome, Unavailable};

use super::rewired::{rewrap, settle};
use super::{Call, Fault, Struck, When, suffer};

/// Passes every call on unless the fault strikes. A publish that fails before it is unavailable,
/// one that fails after it has unknown outcomes.
#[derive(Clone)]
pub struct FaultyBroker {
    inner: Arc<dyn Broker>,
    fault: Arc<dyn Fault>,
}

impl FaultyBroker {
    /// A broker that goes wrong when `fault` says so.
    pub fn new(inner: Arc<dyn Broker>, fault: impl Fault + 'static) -> Self {
        Self { inner, fault: Arc::new(fault) }
    }
}

impl fmt::Debug for FaultyBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyBroker").finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for FaultyBroker {
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(FaultyPublisher { inner: self.inner.publisher(), fault: self.fault.clone() })
    }

    async fn subscriber(
        &self,
        subscription: &Subscription,
    ) -> Result<Box<dyn Subscriber>, BrokerError> {
        guard(&*self.fault, Call::Subscribe, When::Before).await?;
        let inner = self.inner.subscriber(subscription).await?;
        guard(&*self.fault, Call::Subscribe, When::After).await?;
        Ok(Box::new(FaultySubscriber { inner, fault: self.fault.clone() }))
    }

    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    async fn check(&self) -> Vec<Finding> {
        self.inner.check().await
    }
}

async fn guard(fault: &dyn Fault, call: Call, when: When) -> Result<(), BrokerError> {
    let unavailable = |Struck| BrokerError::unavailable(format!("a fault struck {call:?}"));
    suffer(fault, call, when).await.map_err(unavailable)
}

struct FaultyPublisher {
    inner: Arc<dyn Publisher>,
    fault: Arc<dyn Fault>,
}

#[async_trait]
impl Publisher for FaultyPublisher {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        let unavailable = |Struck| Unavailable::new("a fault struck before anything was sent");
        suffer(&*self.fault, Call::Publish, When::Before).await.map_err(unavailable)?;
        let outcomes = self.inner.publish(messages).await?;
        match suffer(&*self.fault, Call::Publish, When::After).await {
            Ok(()) => Ok(outcomes),
            Err(Struck) => {
                Ok(messages.iter().map(|_| Outcome::unknown("the answer was lost")).collect())
            }
        }
    }
}

struct FaultySubscriber {
    inner: Box<dyn Subscriber>,
    fault: Arc<dyn Fault>,
}

#[async_trait]
impl Subscriber for FaultySubscriber {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        guard(&*self.fault, Call::Receive, When::Before).await?;
        let deliveries = self.inner.receive(max).await?;
        guard(&*self.fault, Call::Receive, When::After).await?;
        let wrap = |inner| -> Box<dyn Settle> {
            Box::new(FaultySettle { inner, fault: self.fault.clone() })
        };
        Ok(deliveries.into_iter().map(|delivery| rewrap(delivery, wrap)).collect())
    }
}

struct FaultySettle {
    inner: Delivery,
    fault: Arc<dyn Fault>,
}

#[async_trait]
impl Settle for FaultySettle {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), BrokerError> {
        guard(&*self.fault, Call::SettleDelivery, When::Before).await?;
        settle(self.inner, disposition).await?;
        guard(&*self.fault, Call::SettleDelivery, When::After).await
    }

    async fn renew(&self) -> Result<Option<Duration>, BrokerError> {
        guard(&*self.fault, Call::RenewDelivery, When::Before).await?;
        let lock = self.inner.renew().await?;
        guard(&*self.fault, Call::RenewDelivery, When::After).await?;
        Ok(lock)
    }
}
