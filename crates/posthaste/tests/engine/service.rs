//! A small service for the tests: events, a database, a broker, and how to run things in it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use posthaste::memory::{MemoryBroker, MemoryConnection, MemoryDatabase};
use posthaste::{Consumer, ConsumerOptions, Draft, Event, HandlerError, Outbox, Relay};
use posthaste::{RelayOptions, Subscription};
use posthaste_core::{Broker, MessageId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    pub(crate) order: u64,
    pub(crate) step: u64,
}

impl Event for OrderPlaced {
    const TOPIC: &'static str = "orders";
    const KIND: &'static str = "order.placed";

    fn key(&self) -> Option<String> {
        Some(self.order.to_string())
    }
}

/// Records what it handles in the transaction.
pub(crate) async fn note(
    connection: &mut MemoryConnection,
    event: OrderPlaced,
) -> Result<(), HandlerError> {
    connection.record(format!("{}/{}", event.order, event.step));
    Ok(())
}

pub(crate) struct Service {
    pub(crate) database: MemoryDatabase,
    pub(crate) broker: MemoryBroker,
    pub(crate) outbox: Outbox<MemoryDatabase>,
    stop: Arc<Notify>,
    running: Vec<JoinHandle<()>>,
}

impl Service {
    pub(crate) fn new() -> Self {
        let database = MemoryDatabase::new();
        Self {
            outbox: Outbox::new(database.clone()),
            database,
            broker: MemoryBroker::new(),
            stop: Arc::new(Notify::new()),
            running: Vec::new(),
        }
    }

    pub(crate) async fn place(&self, order: u64, step: u64) -> MessageId {
        let mut tx = self.outbox.begin().await.expect("begins");
        let event = OrderPlaced { order, step };
        let id = self.outbox.publish(&mut tx, &event).await.expect("publishes");
        self.outbox.commit(tx).await.expect("commits");
        id
    }

    pub(crate) async fn draft(&self, draft: Draft) -> MessageId {
        let mut tx = self.outbox.begin().await.expect("begins");
        let id = self.outbox.publish_draft(&mut tx, draft).await.expect("publishes");
        self.outbox.commit(tx).await.expect("commits");
        id
    }

    pub(crate) fn relay_to(&mut self, broker: Arc<dyn Broker>, options: RelayOptions) {
        let relay = Relay::new(Arc::new(self.database.clone()), broker).options(options);
        let stop = Arc::clone(&self.stop);
        self.running.push(tokio::spawn(relay.run_until(async move { stop.notified().await })));
    }

    pub(crate) fn relay(&mut self) {
        self.relay_to(Arc::new(self.broker.clone()), RelayOptions::default());
    }

    pub(crate) fn consumer(&self, name: &str) -> Consumer<MemoryDatabase> {
        Consumer::new(name, self.database.clone())
    }

    pub(crate) async fn consume(&mut self, consumer: Consumer<MemoryDatabase>, name: &str) {
        self.consume_with(consumer, name, ConsumerOptions::default()).await;
    }

    pub(crate) async fn consume_with(
        &mut self,
        consumer: Consumer<MemoryDatabase>,
        name: &str,
        options: ConsumerOptions,
    ) {
        let subscription = Subscription::new("orders", name);
        let subscriber = self.broker.subscriber(&subscription).await.expect("subscribes");
        let stop = Arc::clone(&self.stop);
        let run =
            consumer.options(options).run_until(subscriber, async move { stop.notified().await });
        self.running.push(tokio::spawn(async move { run.await.expect("consumes") }));
    }

    /// Runs something until the service stops.
    pub(crate) fn run<F>(
        &mut self,
        work: impl FnOnce(Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = Arc::clone(&self.stop);
        let stopped = Box::pin(async move { stop.notified().await });
        self.running.push(tokio::spawn(work(stopped)));
    }

    /// Lets paused time pass, and with it everything that waits for it.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.notify_waiters();
        for running in self.running.drain(..) {
            running.await.expect("ends without a panic");
        }
    }
}
