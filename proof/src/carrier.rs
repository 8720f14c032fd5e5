//! The brokers that a world can use, opened by their URLs.

use std::sync::Arc;
use std::time::Duration;

use posthaste::core::{Broker, BrokerError};
use posthaste_bus::Bus;
use posthaste_rabbitmq::{RabbitMq, RabbitMqOptions};

use crate::Failure;
use crate::node::{BusTuning, RabbitTuning};

/// An open broker. Clones share it.
#[derive(Clone, Debug)]
pub enum Carrier {
    /// A file.
    Bus(Bus),
    /// A server.
    Rabbit(RabbitMq),
}

impl Carrier {
    /// The broker at a URL.
    ///
    /// # Errors
    /// If the URL makes no sense, or a file cannot be opened.
    pub fn at(url: &str, bus: BusTuning, rabbit: RabbitTuning) -> Result<Self, Failure> {
        if url.starts_with("amqp") {
            return Ok(Self::Rabbit(rabbit.open(url)?));
        }
        Ok(Self::Bus(Bus::open(url, bus.into())?))
    }

    /// The broker.
    pub fn broker(&self) -> Arc<dyn Broker> {
        match self {
            Self::Bus(bus) => Arc::new(bus.clone()),
            Self::Rabbit(rabbit) => Arc::new(rabbit.clone()),
        }
    }

    /// Ends it in order.
    pub async fn close(&self) {
        match self {
            Self::Bus(bus) => bus.close().await,
            Self::Rabbit(rabbit) => rabbit.close().await,
        }
    }
}

impl RabbitTuning {
    /// A client of the server at a URL.
    ///
    /// # Errors
    /// If the URL makes no sense.
    pub fn open(self, url: &str) -> Result<RabbitMq, BrokerError> {
        let mut options = RabbitMqOptions::default();
        options.declare = self.declare;
        options.max_payload = self.max_payload;
        options.publish_within = Duration::from_millis(self.publish_within_ms);
        options.connect_within = Duration::from_millis(self.connect_within_ms);
        options.heartbeat = Duration::from_secs(self.heartbeat_s);
        options.delivery_limit = self.delivery_limit;
        RabbitMq::open(url, options)
    }
}
