//! A vhost of a server for each test, and handles on it.

use std::sync::Arc;
use std::time::Duration;

use posthaste_core::broker::{Broker, Subscriber, Subscription};
use posthaste_core::{Delivery, Message, MessageId, Outcome, Refusal};
use posthaste_rabbitmq::{RabbitMq, RabbitMqOptions};
use posthaste_servers::TestVhost;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything takes that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Most bytes of a message on the server with limits.
pub(crate) const LEAST: usize = 64 * 1024;

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

/// A vhost of the server that all tests share; without a server the test ends here, skipped.
pub(crate) async fn vhost() -> TestVhost {
    match posthaste_servers::rabbitmq_or_skip().await {
        Some(server) => server.vhost().await,
        None => posthaste_conformance::skipped(),
    }
}

/// A server for one test alone, because the test harms it.
pub(crate) async fn server() -> posthaste_servers::RabbitMq {
    server_with(posthaste_servers::RabbitMqOptions::new()).await
}

async fn server_with(options: posthaste_servers::RabbitMqOptions) -> posthaste_servers::RabbitMq {
    if let Some(reason) = posthaste_servers::RabbitMq::missing() {
        posthaste_servers::skip(&reason);
        posthaste_conformance::skipped();
    }
    posthaste_servers::RabbitMq::start(options).await
}

/// The server with TLS that takes small messages only.
pub(crate) async fn strict() -> &'static posthaste_servers::RabbitMq {
    static STRICT: OnceCell<posthaste_servers::RabbitMq> = OnceCell::const_new();
    let options =
        posthaste_servers::RabbitMqOptions::new().set("max_message_size", &LEAST.to_string()).tls();
    STRICT.get_or_init(|| server_with(options)).await
}

/// The subscription `one` of a topic.
pub(crate) async fn subscribe(rabbit: &Arc<RabbitMq>, topic: &str) -> Box<dyn Subscriber> {
    let subscription = Subscription::new(topic, "one");
    let opening = rabbit.subscriber(&subscription);
    within("a subscription opens", opening).await.expect("a subscription")
}

/// Publishes in one call.
pub(crate) async fn publish(rabbit: &Arc<RabbitMq>, messages: &[Message]) -> Vec<Outcome> {
    let publisher = rabbit.publisher();
    let outcomes = within("a publish ends", publisher.publish(messages)).await.expect("reachable");
    assert_eq!(outcomes.len(), messages.len());
    outcomes
}

/// Publishes what must be accepted.
pub(crate) async fn accept(rabbit: &Arc<RabbitMq>, messages: &[Message]) {
    let outcomes = publish(rabbit, messages).await;
    assert!(outcomes.iter().all(is_accepted), "{outcomes:?}");
}

pub(crate) fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted(_))
}

pub(crate) fn is_unroutable(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unroutable { .. })
}

pub(crate) fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unknown { .. })
}

/// The words of a refusal.
pub(crate) fn refusal(outcome: &Outcome) -> &Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("to be refused: {other:?}"),
    }
}

/// Receives one delivery.
pub(crate) async fn one(subscriber: &mut dyn Subscriber) -> Delivery {
    let mut got = within("a delivery arrives", subscriber.receive(1)).await.expect("receive");
    got.swap_remove(0)
}

/// Receives and completes until every one of these has arrived, whatever the broker says meanwhile.
pub(crate) async fn arrive(subscriber: &mut dyn Subscriber, ids: &[MessageId]) {
    let deadline = Instant::now() + PATIENCE;
    let mut missing: std::collections::BTreeSet<_> = ids.iter().copied().collect();
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "{} have not arrived", missing.len());
        match timeout(Duration::from_secs(1), subscriber.receive(100)).await {
            Ok(Ok(got)) => {
                for delivery in got {
                    missing.remove(&delivery.message.id);
                    drop(delivery.complete().await);
                }
            }
            Ok(Err(error)) => {
                assert!(error.is_transient(), "{error}");
                sleep(Duration::from_millis(20)).await;
            }
            Err(_) => {}
        }
    }
}

pub(crate) fn ids(messages: &[Message]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}

/// Waits for something that must end.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Looks again and again until it is so.
pub(crate) async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
