//! A broker that is away while a switch says so.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Promises, Publisher, Subscriber, Subscription};
use posthaste_core::delivery::{Disposition, Settle};
use posthaste_core::finding::Finding;
use posthaste_core::{BrokerError, Delivery, Message, Outcome, Unavailable};
use tokio::sync::watch;

use super::rewired::{rewrap, settle};

/// Says whether the broker is there. Clones are the same switch.
#[derive(Clone, Debug)]
pub struct OutageSwitch(Arc<watch::Sender<bool>>);

impl OutageSwitch {
    /// From now on nobody reaches the broker. Calls that wait for it fail; what is in hand can
    /// not be settled and comes again.
    pub fn away(&self) {
        self.0.send_replace(true);
    }

    /// From now on everybody reaches it again.
    pub fn back(&self) {
        self.0.send_replace(false);
    }

    fn is_away(&self) -> bool {
        *self.0.borrow()
    }
}

/// The broker inside, as seen over a line that can be cut.
#[derive(Clone)]
pub struct OutageBroker {
    inner: Arc<dyn Broker>,
    switch: OutageSwitch,
}

impl OutageBroker {
    /// A broker that is there, and the switch for it.
    pub fn new(inner: Arc<dyn Broker>) -> (Self, OutageSwitch) {
        let switch = OutageSwitch(Arc::new(watch::Sender::new(false)));
        (Self { inner, switch: switch.clone() }, switch)
    }
}

impl fmt::Debug for OutageBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutageBroker").field("away", &self.switch.is_away()).finish()
    }
}

fn away() -> BrokerError {
    BrokerError::unavailable("the broker is away because a test says so")
}

#[async_trait]
impl Broker for OutageBroker {
    fn publisher(&self) -> Arc<dyn Publisher> {
        let (inner, switch) = (self.inner.publisher(), self.switch.clone());
        Arc::new(OutagePublisher { inner, switch })
    }

    async fn subscriber(
        &self,
        subscription: &Subscription,
    ) -> Result<Box<dyn Subscriber>, BrokerError> {
        if self.switch.is_away() {
            return Err(away());
        }
        let inner = self.inner.subscriber(subscription).await?;
        Ok(Box::new(OutageSubscriber { inner, switch: self.switch.clone() }))
    }

    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    async fn check(&self) -> Vec<Finding> {
        self.inner.check().await
    }
}

struct OutagePublisher {
    inner: Arc<dyn Publisher>,
    switch: OutageSwitch,
}

#[async_trait]
impl Publisher for OutagePublisher {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        if self.switch.is_away() {
            return Err(Unavailable::new("the broker is away because a test says so"));
        }
        self.inner.publish(messages).await
    }
}

struct OutageSubscriber {
    inner: Box<dyn Subscriber>,
    switch: OutageSwitch,
}

#[async_trait]
impl Subscriber for OutageSubscriber {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let mut switch = self.switch.0.subscribe();
        // Neither branch holds anything when it is dropped: receiving may be dropped at any point.
        let deliveries = tokio::select! {
            biased;
            _ = switch.wait_for(|away| *away) => return Err(away()),
            deliveries = self.inner.receive(max) => deliveries?,
        };
        let wrap = |inner| -> Box<dyn Settle> {
            Box::new(OutageSettle { inner, switch: self.switch.clone() })
        };
        Ok(deliveries.into_iter().map(|delivery| rewrap(delivery, wrap)).collect())
    }
}

struct OutageSettle {
    inner: Delivery,
    switch: OutageSwitch,
}

#[async_trait]
impl Settle for OutageSettle {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), BrokerError> {
        if self.switch.is_away() {
            return Err(away());
        }
        settle(self.inner, disposition).await
    }

    async fn renew(&self) -> Result<Option<Duration>, BrokerError> {
        if self.switch.is_away() {
            return Err(away());
        }
        self.inner.renew().await
    }
}
