//! The broker as its users hold it.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::finding::Finding;
use posthaste_core::{Broker, BrokerError, Promises, Publisher, Subscriber, Subscription};

use crate::address::Address;
use crate::check;
use crate::link::Link;
use crate::options::RabbitMqOptions;
use crate::publisher::{Publishing, RabbitPublisher};
use crate::subscriber::{Consuming, RabbitSubscriber};

/// Most messages of one call.
const MOST: usize = 1024;

/// A RabbitMQ broker; clones are handles of the same two connections, one to publish and one to
/// consume. Connections are opened when they are first needed.
#[derive(Clone)]
pub struct RabbitMq {
    pub(crate) address: Arc<Address>,
    pub(crate) options: Arc<RabbitMqOptions>,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) consuming: Arc<Consuming>,
}

impl RabbitMq {
    /// A client of the broker at `amqp://user:password@host:port/vhost`, or `amqps://` for an
    /// encrypted connection. Without user and password it is `guest` with `guest`. The URL may say
    /// `heartbeat` (1 to 3600 seconds), `connection_timeout` (milliseconds) and `cacertfile` (a
    /// path). Does not connect yet.
    ///
    /// # Errors
    /// [`BrokerError::Rejected`] for a URL that makes no sense; it never shows the password.
    pub fn open(url: &str, options: RabbitMqOptions) -> Result<Self, BrokerError> {
        let (address, options) = (Arc::new(Address::parse(url)?), Arc::new(options.bounded()));
        let link = |purpose| Link::new(Arc::clone(&address), Arc::clone(&options), purpose);
        let publishing = Publishing::new(link("publisher"), Arc::clone(&options));
        let consuming = Consuming::new(link("consumer"), &publishing, &options);
        Ok(Self { address, options, publishing, consuming })
    }

    /// Ends its connections. Whatever is unsettled is delivered again; using this handle
    /// afterwards connects again.
    pub async fn close(&self) {
        self.publishing.link.close().await;
        self.consuming.close().await;
    }
}

impl std::fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitMq").field("address", &self.address).finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for RabbitMq {
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(RabbitPublisher { publishing: Arc::clone(&self.publishing) })
    }

    async fn subscriber(
        &self,
        subscription: &Subscription,
    ) -> Result<Box<dyn Subscriber>, BrokerError> {
        let consuming = Arc::clone(&self.consuming);
        Ok(Box::new(RabbitSubscriber::open(consuming, subscription).await?))
    }

    fn promises(&self) -> Promises {
        Promises {
            prefix_per_key: false,
            durable: true,
            ordered: true,
            dedupe_window: None,
            max_batch: MOST,
            max_payload: self.options.max_payload,
            counts_deliveries: true,
        }
    }

    async fn check(&self) -> Vec<Finding> {
        check::findings(self).await
    }
}
