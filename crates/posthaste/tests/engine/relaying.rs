//! The relay: leases, stops, retries, dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use posthaste::{OnDead, RelayOptions, RetryPolicy, TopicPolicy};
use posthaste_core::broker::{Promises, Publisher, Subscriber, Subscription};
use posthaste_core::database::Monitor;
use posthaste_core::dead_letter::{DeadFilter, DeadLetters};
use posthaste_core::finding::Finding;
use posthaste_core::{Broker, BrokerError, Message, Outcome, Unavailable};

use crate::service::Service;

/// Answers each message as a function says, and hands on what it accepts.
struct Judging<F> {
    inner: Arc<dyn Broker>,
    answer: Arc<F>,
}

struct JudgingPublisher<F> {
    inner: Arc<dyn Publisher>,
    answer: Arc<F>,
}

#[async_trait]
impl<F> Publisher for JudgingPublisher<F>
where
    F: Fn(&Message) -> Option<Outcome> + Send + Sync,
{
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        let mut outcomes = Vec::new();
        for message in messages {
            match (self.answer)(message) {
                Some(outcome) => outcomes.push(outcome),
                None => outcomes.extend(self.inner.publish(std::slice::from_ref(message)).await?),
            }
        }
        Ok(outcomes)
    }
}

#[async_trait]
impl<F> Broker for Judging<F>
where
    F: Fn(&Message) -> Option<Outcome> + Send + Sync + 'static,
{
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(JudgingPublisher {
            inner: self.inner.publisher(),
            answer: Arc::clone(&self.answer),
        })
    }

    async fn subscriber(&self, to: &Subscription) -> Result<Box<dyn Subscriber>, BrokerError> {
        self.inner.subscriber(to).await
    }

    fn promises(&self) -> Promises {
        Promises { prefix_per_key: false, ..self.inner.promises() }
    }

    async fn check(&self) -> Vec<Finding> {
        self.inner.check().await
    }
}

fn judging<F>(service: &Service, answer: F) -> Arc<dyn Broker>
where
    F: Fn(&Message) -> Option<Outcome> + Send + Sync + 'static,
{
    Arc::new(Judging { inner: Arc::new(service.broker.clone()), answer: Arc::new(answer) })
}

fn quick(limit: u32, on_dead: OnDead) -> RelayOptions {
    let retry =
        RetryPolicy { limit, first: Duration::from_secs(1), longest: Duration::from_secs(4) };
    let policy = TopicPolicy { retry, on_dead, ..TopicPolicy::default() };
    RelayOptions { policy, ..RelayOptions::default() }
}

fn payloads(service: &Service) -> Vec<String> {
    let published = service.broker.published("orders");
    published.iter().filter_map(|message| message.payload.as_text()).map(str::to_owned).collect()
}

fn steps(service: &Service, order: u64) -> Vec<String> {
    let wanted = format!("{{\"order\":{order},");
    payloads(service).into_iter().filter(|payload| payload.starts_with(&wanted)).collect()
}

#[tokio::test(start_paused = true)]
async fn everything_committed_reaches_the_broker_once_and_in_order() {
    let mut service = Service::new();
    service.relay();
    for step in 0..200 {
        service.place(step % 7, step).await;
    }
    service.pass(Duration::from_secs(1)).await;
    service.stop().await;
    assert_eq!(payloads(&service).len(), 200);
    for order in 0..7 {
        let expected: Vec<String> = (0..200)
            .filter(|step| step % 7 == order)
            .map(|step| format!("{{\"order\":{order},\"step\":{step}}}"))
            .collect();
        assert_eq!(steps(&service, order), expected);
    }
    let status = service.database.status("default").await.expect("answers");
    assert_eq!(status.backlog, 0);
    assert!(status.leases.is_empty(), "the lease was given back: {:?}", status.leases);
}

#[tokio::test(start_paused = true)]
async fn a_dead_head_parks_its_key_and_no_other_until_it_is_reposted() {
    let mut service = Service::new();
    let broken = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&broken);
    let broker = judging(&service, move |message| {
        let bad = message.payload.as_text() == Some(r#"{"order":1,"step":0}"#);
        (bad && still.load(Ordering::Relaxed)).then(|| Outcome::refused("not today"))
    });
    service.relay_to(broker, quick(3, OnDead::Park));
    for step in 0..5 {
        service.place(1, step).await;
        service.place(2, step).await;
    }
    service.pass(Duration::from_secs(60)).await;
    assert_eq!(steps(&service, 2).len(), 5);
    assert!(steps(&service, 1).is_empty());
    let status = service.database.status("default").await.expect("answers");
    assert_eq!((status.parked_keys, status.held.behind, status.dead_letters), (1, 4, 1));

    let filter = DeadFilter { limit: 10, ..DeadFilter::default() };
    let dead = service.database.list(&filter).await.expect("lists");
    assert_eq!(
        (dead[0].reason.as_str(), dead[0].attempts, dead[0].history.len()),
        ("exhausted", 3, 3)
    );
    broken.store(false, Ordering::Relaxed);
    let reference = [dead[0].reference.clone()];
    service.database.repost(&reference, "op").await.expect("reposts");
    service.pass(Duration::from_secs(5)).await;
    assert_eq!(steps(&service, 1).len(), 5);
    assert!(steps(&service, 1).is_sorted(), "the reposted one goes first");
    assert!(service.database.repost(&reference, "op").await.is_err(), "only once");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_the_policy_skip_the_key_goes_on_without_its_dead_letter() {
    let mut service = Service::new();
    let broker = judging(&service, |message| {
        let bad = message.payload.as_text() == Some(r#"{"order":1,"step":0}"#);
        bad.then(|| Outcome::refused_for_good("too ugly"))
    });
    let mut options = RelayOptions::default();
    let skip = TopicPolicy { on_dead: OnDead::Skip, ..TopicPolicy::default() };
    options.topics = BTreeMap::from([("orders".to_owned(), skip)]);
    service.relay_to(broker, options);
    for step in 0..5 {
        service.place(1, step).await;
    }
    service.pass(Duration::from_secs(5)).await;
    assert_eq!(steps(&service, 1).len(), 4);
    let status = service.database.status("default").await.expect("answers");
    assert_eq!((status.parked_keys, status.dead_letters, status.backlog), (0, 1, 0));
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn attempts_survive_the_relay_that_made_them() {
    let mut service = Service::new();
    let tries = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let counted = Arc::clone(&tries);
        let broker = judging(&service, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Some(Outcome::refused("no"))
        });
        service.relay_to(broker, quick(4, OnDead::Park));
        if tries.load(Ordering::Relaxed) == 0 {
            service.place(1, 0).await;
        }
        service.pass(Duration::from_millis(2500)).await;
        service.stop().await;
    }
    let status = service.database.status("default").await.expect("answers");
    assert_eq!((tries.load(Ordering::Relaxed), status.dead_letters), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_when_the_leader_is_gone() {
    let mut service = Service::new();
    let relay =
        posthaste::Relay::new(Arc::new(service.database.clone()), Arc::new(service.broker.clone()));
    let leader = tokio::spawn(relay.run_until(std::future::pending()));
    service.place(1, 0).await;
    service.pass(Duration::from_millis(100)).await;
    service.relay();
    leader.abort();
    service.place(1, 1).await;
    service.pass(Duration::from_secs(8)).await;
    assert_eq!(steps(&service, 1).len(), 2);
    let status = service.database.status("default").await.expect("answers");
    assert_eq!(status.leases[0].token, 2);
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_no_message_becomes_a_dead_letter_and_stops_nobody() {
    let mut service = Service::new();
    service.database.insert_malformed("the topic is a picture of a cat").expect("inserts");
    service.place(1, 0).await;
    service.relay();
    service.pass(Duration::from_secs(2)).await;
    assert_eq!(steps(&service, 1).len(), 1);
    let filter = DeadFilter { limit: 10, ..DeadFilter::default() };
    let dead = service.database.list(&filter).await.expect("lists");
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "malformed"));
    service.stop().await;
}
