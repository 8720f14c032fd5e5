//! A broker whose publishers and subscribers go through wrappers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Promises, Publisher, Subscriber, Subscription};
use posthaste_core::delivery::{Disposition, Settle};
use posthaste_core::finding::Finding;
use posthaste_core::{BrokerError, Delivery};

type Publishing = dyn Fn(Arc<dyn Publisher>) -> Arc<dyn Publisher> + Send + Sync;
type Receiving = dyn Fn(Box<dyn Subscriber>) -> Box<dyn Subscriber> + Send + Sync;

/// The broker inside, with every publisher and every subscriber of it wrapped. What is not
/// wrapped, and what it promises, is as it is inside.
#[derive(Clone)]
pub struct RewiredBroker {
    inner: Arc<dyn Broker>,
    publishing: Arc<Publishing>,
    receiving: Arc<Receiving>,
}

impl RewiredBroker {
    /// Nothing is wrapped yet.
    pub fn new(inner: Arc<dyn Broker>) -> Self {
        Self { inner, publishing: Arc::new(|inner| inner), receiving: Arc::new(|inner| inner) }
    }

    /// Wraps every publisher.
    #[must_use]
    pub fn publishing(
        mut self,
        wrap: impl Fn(Arc<dyn Publisher>) -> Arc<dyn Publisher> + Send + Sync + 'static,
    ) -> Self {
        self.publishing = Arc::new(wrap);
        self
    }

    /// Wraps every subscriber.
    #[must_use]
    pub fn receiving(
        mut self,
        wrap: impl Fn(Box<dyn Subscriber>) -> Box<dyn Subscriber> + Send + Sync + 'static,
    ) -> Self {
        self.receiving = Arc::new(wrap);
        self
    }
}

impl fmt::Debug for RewiredBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RewiredBroker").finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for RewiredBroker {
    fn publisher(&self) -> Arc<dyn Publisher> {
        (self.publishing)(self.inner.publisher())
    }

    async fn subscriber(
        &self,
        subscription: &Subscription,
    ) -> Result<Box<dyn Subscriber>, BrokerError> {
        Ok((self.receiving)(self.inner.subscriber(subscription).await?))
    }

    fn promises(&self) -> Promises {
        self.inner.promises()
    }

    async fn check(&self) -> Vec<Finding> {
        self.inner.check().await
    }
}

/// Puts another way of settling around a delivery.
pub(crate) fn rewrap(
    delivery: Delivery,
    wrap: impl FnOnce(Delivery) -> Box<dyn Settle>,
) -> Delivery {
    let (message, attempt, lock) = (delivery.message.clone(), delivery.attempt, delivery.lock);
    Delivery::new(message, attempt, lock, wrap(delivery))
}

/// Settles the delivery inside a wrapper.
pub(crate) async fn settle(
    delivery: Delivery,
    disposition: Disposition,
) -> Result<(), BrokerError> {
    match disposition {
        Disposition::Complete => delivery.complete().await,
        Disposition::Retry { delay } => delivery.retry(delay).await,
        Disposition::DeadLetter { reason, detail } => delivery.dead_letter(reason, detail).await,
        Disposition::Defer => delivery.defer().await,
    }
}

/// A delivery that has nothing left to settle.
pub(crate) struct Settled;

#[async_trait]
impl Settle for Settled {
    async fn settle(self: Box<Self>, _disposition: Disposition) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn renew(&self) -> Result<Option<Duration>, BrokerError> {
        Ok(None)
    }
}
