//! A vhost of the shared server for each test, and handles on it.

use std::sync::Arc;

use posthaste_rabbitmq::{RabbitMq, RabbitMqOptions};
use posthaste_servers::TestVhost;

/// A client of a vhost.
pub(crate) fn open(url: &str) -> Arc<RabbitMq> {
    open_with(url, |_| {})
}

/// A client with options of its own.
pub(crate) fn open_with(url: &str, set: impl FnOnce(&mut RabbitMqOptions)) -> Arc<RabbitMq> {
    let mut options = RabbitMqOptions::default();
    set(&mut options);
    Arc::new(RabbitMq::open(url, options).expect("a good URL"))
}

/// A vhost of the server that all tests share.
pub(crate) async fn vhost() -> TestVhost {
    posthaste_servers::RabbitMq::shared().await.vhost().await
}
