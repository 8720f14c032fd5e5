//! What the tests share: a bus in a folder of its own, messages, and waiting with a deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use posthaste_bus::{Bus, BusOptions, SubscriptionStatus};
use posthaste_core::{
    Broker, Delivery, Message, MessageId, Outcome, Subscriber, Subscription, Timestamp,
};
use tempfile::TempDir;

/// Longer than anything takes on a slow and busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Time in which something that must not happen would have happened.
pub(crate) const MOMENT: Duration = Duration::from_millis(60);

/// A folder for one test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn url(&self) -> String {
        format!("bus://{}", self.file("bus.db").display())
    }

    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn open(&self) -> Bus {
        self.open_with(|_| {})
    }

    pub(crate) fn open_with(&self, change: impl FnOnce(&mut BusOptions)) -> Bus {
        let mut options = BusOptions::default();
        change(&mut options);
        Bus::open(&self.url(), options).expect("the bus opens")
    }
}

/// Runs a test on a runtime with a deadline.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(within(test));
    runtime.shutdown_background();
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("ended within the deadline")
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A message with an id of its own; the text is its payload.
pub(crate) fn message(topic: &str, key: Option<&str>, text: &str) -> Message {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&NUMBERS.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let at = Timestamp::from_millis(1_700_000_000_000);
    let mut message = Message::new(MessageId::from_bytes(bytes), topic, "order.placed", text, at);
    message.key = key.map(str::to_owned);
    message
}

pub(crate) fn messages(topic: &str, key: Option<&str>, count: usize) -> Vec<Message> {
    (0..count).map(|number| message(topic, key, &number.to_string())).collect()
}

pub(crate) async fn publish(bus: &Bus, messages: &[Message]) {
    for outcome in bus.publisher().publish(messages).await.expect("available") {
        assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    }
}

pub(crate) async fn subscribe(bus: &Bus, topic: &str, name: &str) -> Box<dyn Subscriber> {
    bus.subscriber(&Subscription::new(topic, name)).await.expect("a subscriber")
}

/// The next `count` deliveries, however they are cut.
pub(crate) async fn take(subscriber: &mut dyn Subscriber, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let more = within(subscriber.receive(count - taken.len())).await.expect("received");
        taken.extend(more);
    }
    taken
}

pub(crate) async fn one(subscriber: &mut dyn Subscriber) -> Delivery {
    take(subscriber, 1).await.remove(0)
}

/// Takes and completes `count` deliveries and returns their payloads.
pub(crate) async fn drain(subscriber: &mut dyn Subscriber, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        for delivery in take(subscriber, 1).await {
            texts.push(text(&delivery));
            delivery.complete().await.expect("completed");
        }
    }
    texts
}

/// Asserts that nothing comes for a moment.
pub(crate) async fn silent(subscriber: &mut dyn Subscriber) {
    let got = tokio::time::timeout(MOMENT, subscriber.receive(1)).await;
    assert!(got.is_err(), "{got:?}");
}

pub(crate) fn text(delivery: &Delivery) -> String {
    delivery.message.payload.as_text().expect("text").to_owned()
}

pub(crate) async fn status(bus: &Bus, name: &str) -> SubscriptionStatus {
    let figures = bus.status().await.expect("status");
    figures.into_iter().find(|one| one.name == name).expect("the subscription is there")
}

/// Waits until `holds` says so, looking again and again up to a deadline.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    within(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Polls a future once.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Runs a future until it ends or has been polled `polls` times, and drops it then.
pub(crate) async fn polled_at_most<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
