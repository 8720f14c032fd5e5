//! The consumer: once in effect, whatever is delivered and however handlers fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use posthaste::memory::{MemoryConnection, MemoryDatabase};
use posthaste::testing::fault::{Call, Fault, FaultyBroker, FaultyDatabase, Strike, When};
use posthaste::{
    Consumer, ConsumerOptions, Draft, Handler, HandlerError, Message, Others, Outbox, RetryPolicy,
    Subscription, handler_fn, reject, retry_after,
};
use posthaste_core::Broker;
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters};
use posthaste_core::inbox::Inbox;
use posthaste_core::outbox::Signal;
use posthaste_core::transaction::Transactional;

use crate::service::{OrderPlaced, Service, note};

/// Fails as a function says before it notes the event.
struct Failing<F> {
    fail: F,
    runs: Arc<AtomicUsize>,
}

impl<F, Fut> Handler<MemoryConnection> for Failing<F>
where
    F: Fn(u64, usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    type Event = OrderPlaced;

    async fn handle(
        &self,
        connection: &mut MemoryConnection,
        event: OrderPlaced,
        _: &Message,
    ) -> Result<(), HandlerError> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        connection.record("a trace that must not stay");
        (self.fail)(event.order, run).await?;
        note(connection, event).await
    }
}

async fn dead(service: &Service) -> Vec<DeadLetter> {
    let filter = DeadFilter { limit: 100, ..DeadFilter::default() };
    service.database.list(&filter).await.expect("lists")
}

fn options() -> ConsumerOptions {
    let retry =
        RetryPolicy { limit: 3, first: Duration::from_secs(1), longest: Duration::from_secs(4) };
    ConsumerOptions { retry, handler_timeout: Duration::from_secs(5), ..ConsumerOptions::default() }
}

fn effects(service: &Service) -> Vec<String> {
    let mut records = service.database.records();
    records.retain(|record| !record.starts_with("a trace"));
    records.sort();
    records
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_takes_effect_once() {
    let mut service = Service::new();
    let consumer = service.consumer("shipping").on(handler_fn(note));
    service.consume(consumer, "shipping").await;
    service.place(1, 0).await;
    let message = service.database.messages();
    for _ in 0..5 {
        service.broker.publisher().publish(&message).await.expect("publishes");
        service.pass(Duration::from_millis(10)).await;
    }
    service.stop().await;
    assert_eq!(service.database.records(), ["1/0"]);
    assert!(service.broker.unsettled("orders", "shipping").is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_failing_message_of_a_batch_undoes_and_buries_no_other() {
    let mut service = Service::new();
    for order in 0..10 {
        service.place(order, 0).await;
    }
    service.broker.publisher().publish(&service.database.messages()).await.expect("publishes");
    let fail = |order, _| async move {
        if order == 4 { Err(HandlerError::from("order 4 is cursed")) } else { Ok(()) }
    };
    let consumer = service.consumer("shipping").on(Failing { fail, runs: Arc::default() });
    service.consume_with(consumer, "shipping", options()).await;
    service.pass(Duration::from_secs(60)).await;
    service.stop().await;
    let expected: Vec<String> =
        (0..10).filter(|order| *order != 4).map(|order| format!("{order}/0")).collect();
    assert_eq!(effects(&service), expected);
    let dead = dead(&service).await;
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].reason.as_str(), dead[0].attempts), ("exhausted", 3));
    assert!(dead[0].detail.contains("cursed"), "{}", dead[0].detail);
    assert_eq!(service.database.records().len(), 9 + 9, "no trace of a rolled-back run");
}

#[tokio::test(start_paused = true)]
async fn panics_and_endless_handlers_are_failures_like_any_other() {
    let mut service = Service::new();
    for order in 0..3 {
        service.place(order, 0).await;
    }
    service.broker.publisher().publish(&service.database.messages()).await.expect("publishes");
    let fail = |order, _| async move {
        match order {
            0 => panic!("the handler trips"),
            1 => std::future::pending().await,
            _ => Ok(()),
        }
    };
    let consumer = service.consumer("shipping").on(Failing { fail, runs: Arc::default() });
    service.consume_with(consumer, "shipping", options()).await;
    service.pass(Duration::from_secs(120)).await;
    service.stop().await;
    assert_eq!(effects(&service), ["2/0"]);
    let dead = dead(&service).await;
    let mut details: Vec<&str> = dead.iter().map(|letter| letter.detail.as_str()).collect();
    details.sort_unstable();
    assert_eq!(details.len(), 2);
    assert!(details[0].contains("panicked: the handler trips"), "{details:?}");
    assert!(details[1].contains("longer than 5s"), "{details:?}");
}

#[tokio::test(start_paused = true)]
async fn reject_buries_at_once_and_retry_after_waits_as_told() {
    let mut service = Service::new();
    service.place(0, 0).await;
    service.place(1, 0).await;
    service.broker.publisher().publish(&service.database.messages()).await.expect("publishes");
    let fail = |order, run: usize| async move {
        match order {
            0 => Err(reject("never")),
            _ if run < 6 => Err(retry_after(Duration::from_secs(100), "later")),
            _ => Ok(()),
        }
    };
    let runs = Arc::new(AtomicUsize::new(0));
    let consumer = service.consumer("shipping").on(Failing { fail, runs: Arc::clone(&runs) });
    service.consume_with(consumer, "shipping", options()).await;
    service.pass(Duration::from_secs(50)).await;
    let dead = dead(&service).await;
    assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].attempts), (1, "rejected", 1));
    let before = runs.load(Ordering::Relaxed);
    service.pass(Duration::from_secs(45)).await;
    assert_eq!(runs.load(Ordering::Relaxed), before, "nothing runs before the time it asked for");
    service.pass(Duration::from_secs(10)).await;
    assert!(runs.load(Ordering::Relaxed) > before);
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn unknown_kinds_and_undecodable_payloads_become_dead_letters_unless_ignored() {
    let mut service = Service::new();
    service.draft(Draft::new("orders", "order.exploded", "{}")).await;
    service.draft(Draft::new("orders", "order.placed", "not json")).await;
    service.place(1, 0).await;
    service.broker.publisher().publish(&service.database.messages()).await.expect("publishes");
    let strict = service.consumer("strict").on(handler_fn(note));
    service.consume(strict, "strict").await;
    service.pass(Duration::from_secs(1)).await;
    let mut reasons: Vec<String> =
        dead(&service).await.into_iter().map(|letter| letter.reason).collect();
    reasons.sort();
    assert_eq!(reasons, ["undecodable", "unknown-kind"]);
    assert_eq!(service.database.records(), ["1/0"]);

    let lax = service.consumer("lax").on(handler_fn(note)).others(Others::Ignore);
    service.consume(lax, "lax").await;
    service.broker.publisher().publish(&service.database.messages()).await.expect("publishes");
    service.pass(Duration::from_secs(1)).await;
    assert_eq!(dead(&service).await.len(), 3, "one more: what it knows must still decode");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reposted_dead_letter_is_handled_once_more_by_its_consumer_only() {
    let mut service = Service::new();
    service.place(1, 0).await;
    service.broker.publisher().publish(&service.database.messages()).await.expect("publishes");
    let fail = |_, run: usize| async move {
        if run < 3 { Err(HandlerError::from("not yet")) } else { Ok(()) }
    };
    let consumer = service.consumer("shipping").on(Failing { fail, runs: Arc::default() });
    service.consume_with(consumer, "shipping", options()).await;
    service.pass(Duration::from_secs(60)).await;
    let letters = dead(&service).await;
    assert_eq!(letters.len(), 1);
    service.database.repost(&[letters[0].reference.clone()], "op").await.expect("reposts");
    service.pass(Duration::from_secs(10)).await;
    service.stop().await;
    assert_eq!(effects(&service), ["1/0"]);
    assert!(dead(&service).await.is_empty());
    assert_eq!(service.database.audit().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_publishes_is_committed_and_relayed_with_its_effect() {
    let mut service = Service::new();
    service.place(1, 0).await;
    let outbox = service.outbox.clone();
    struct Ship(Outbox<MemoryDatabase>);
    impl Handler<MemoryConnection> for Ship {
        type Event = OrderPlaced;
        async fn handle(
            &self,
            connection: &mut MemoryConnection,
            event: OrderPlaced,
            _: &Message,
        ) -> Result<(), HandlerError> {
            let draft = Draft::new("shipments", "order.shipped", event.order.to_string());
            self.0.publish_draft(connection, draft).await?;
            Ok(())
        }
    }
    let consumer = service.consumer("shipping").on(Ship(outbox));
    service.consume(consumer, "shipping").await;
    service.relay();
    service.pass(Duration::from_secs(3)).await;
    let again: Vec<Message> = service.broker.published("orders");
    service.broker.publisher().publish(&again).await.expect("publishes");
    service.pass(Duration::from_secs(3)).await;
    service.stop().await;
    assert_eq!(service.broker.published("shipments").len(), 1, "a duplicate produces nothing new");
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_message_that_is_done_wakes_the_relay_for_what_it_had_produced() {
    let mut service = Service::new();
    let id = service.place(1, 0).await;
    let subscription = Subscription::new("orders", "shipping");
    let mut subscriber = service.broker.subscriber(&subscription).await.expect("subscribes");
    service.broker.publisher().publish(&service.database.messages()).await.expect("publishes");
    // As if a process had died between its commit and the settlement of the delivery.
    let mut tx = service.database.begin().await.expect("begins");
    service.database.accept(&mut tx, "shipping", &[id]).await.expect("accepts");
    service.database.commit(tx).await.expect("commits");
    for delivery in subscriber.receive(1).await.expect("receives") {
        delivery.retry(Duration::ZERO).await.expect("retries");
    }
    drop(subscriber);
    let moment = Duration::from_millis(100);
    while tokio::time::timeout(moment, service.database.changed()).await.is_ok() {}

    let consumer = service.consumer("shipping").on(handler_fn(note));
    service.consume(consumer, "shipping").await;
    tokio::time::timeout(moment, service.database.changed()).await.expect("the relay is woken");
    service.pass(Duration::from_secs(1)).await;
    service.stop().await;
    assert!(service.database.records().is_empty(), "nothing is done twice");
    assert!(service.broker.unsettled("orders", "shipping").is_empty());
}

/// A service whose consumer uses a database with faults.
async fn consume_on<F: Fault + 'static>(
    service: &mut Service,
    fault: F,
    handler: impl Handler<MemoryConnection>,
    options: ConsumerOptions,
) {
    let database = FaultyDatabase::new(Arc::new(service.database.clone()), fault);
    let subscription = Subscription::new("orders", "shipping");
    let subscriber = service.broker.subscriber(&subscription).await.expect("subscribes");
    let consumer = Consumer::new("shipping", database).on(handler).options(options);
    service.run(|stop| async move { consumer.run_until(subscriber, stop).await.expect("ends") });
}

#[tokio::test(start_paused = true)]
async fn a_database_whose_commits_fail_for_a_while_buries_nobody() {
    let mut service = Service::new();
    service.place(1, 0).await;
    service.broker.publisher().publish(&service.database.messages()).await.expect("publishes");
    let broken = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&broken);
    let fault = move |call: Call, when: When| {
        let fails = call == Call::Commit && when == When::Before && still.load(Ordering::Relaxed);
        if fails { Strike::Fail } else { Strike::Pass }
    };
    consume_on(&mut service, fault, handler_fn(note), options()).await;
    service.pass(Duration::from_secs(120)).await;
    assert!(service.database.records().is_empty());
    broken.store(false, Ordering::Relaxed);
    service.pass(Duration::from_secs(120)).await;
    service.stop().await;
    assert_eq!(service.database.records(), ["1/0"]);
    assert!(dead(&service).await.is_empty(), "an outage is nobody's failure");
}

#[tokio::test(start_paused = true)]
async fn a_settlement_without_an_answer_does_not_hold_up_a_stop() {
    let mut service = Service::new();
    service.place(1, 0).await;
    service.broker.publisher().publish(&service.database.messages()).await.expect("publishes");
    let broker = FaultyBroker::new(Arc::new(service.broker.clone()), |call: Call, when: When| {
        let hangs = call == Call::SettleDelivery && when == When::Before;
        if hangs { Strike::Hang } else { Strike::Pass }
    });
    let subscription = Subscription::new("orders", "shipping");
    let subscriber = broker.subscriber(&subscription).await.expect("subscribes");
    let consumer = service.consumer("shipping").on(handler_fn(note)).options(options());
    service.run(|stop| async move { consumer.run_until(subscriber, stop).await.expect("ends") });
    service.pass(Duration::from_secs(1)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(60), service.stop()).await;
    assert!(stopped.is_ok(), "it ended within its grace");
    assert_eq!(service.database.records(), ["1/0"]);
}
