//! The wrappers do exactly what they say, and the same for the same seed.

use std::sync::Arc;
use std::time::Duration;

use posthaste_core::broker::{Broker, Subscription};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Message, MessageId, Outcome, Refusal, Timestamp};

use super::{
    Call, CrashPoint, DuplicatingBroker, Fault, FaultyBroker, FaultyDatabase, Flaky, FlakyBroker,
    OutageBroker, PublishFault, SlowBroker, Strike, When,
};
use crate::memory::{MemoryBroker, MemoryDatabase};

fn message(number: u8, key: &str) -> Message {
    let at = Timestamp::from_millis(1_700_000_000_000);
    let mut message = Message::new(MessageId::v7(at, [number; 10]), "orders", "placed", "{}", at);
    message.key = Some(key.into());
    message
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted(_) => "accepted",
        Outcome::Refused(Refusal { permanent: true, .. }) => "refused for good",
        Outcome::Refused(_) => "refused",
        Outcome::Unroutable { .. } => "unroutable",
        Outcome::Unknown { .. } => "unknown",
    }
}

#[tokio::test]
async fn a_crash_point_strikes_once_and_at_its_place() {
    let memory = Arc::new(MemoryDatabase::new());
    for (when, there) in [(When::Before, 1), (When::After, 3)] {
        let fault = CrashPoint::fail(Call::Commit, when, 2);
        let database = FaultyDatabase::new(memory.clone(), fault);
        for (number, ok) in [(1, true), (2, false)] {
            let mut tx = database.begin().await.unwrap();
            let number = number + u8::from(when == When::After) * 10;
            database.enqueue(&mut tx, &[message(number, "a")]).await.unwrap();
            assert_eq!(database.commit(tx).await.is_ok(), ok, "{when:?} {number}");
        }
        assert_eq!(memory.messages().len(), there, "{when:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_can_hang_and_be_late() {
    let memory = Arc::new(MemoryDatabase::new());
    let hanging =
        FaultyDatabase::new(memory.clone(), CrashPoint::hang(Call::Begin, When::After, 1));
    let hour = Duration::from_hours(1);
    assert!(tokio::time::timeout(hour, hanging.begin()).await.is_err());
    let late = FaultyDatabase::new(memory, move |_: Call, when: When| match when {
        When::Before => Strike::Delay(hour),
        When::After => Strike::Pass,
    });
    let start = tokio::time::Instant::now();
    late.begin().await.unwrap();
    assert_eq!(start.elapsed(), hour);
}

#[test]
fn chance_is_the_same_for_the_same_seed_and_keeps_to_its_calls() {
    let drawn = |seed| {
        let flaky = Flaky::seeded(seed, 300, 0).only([Call::Settle]);
        assert_eq!(flaky.strike(Call::Read, When::Before), Strike::Pass);
        (0..1000).map(|_| flaky.strike(Call::Settle, When::Before)).collect::<Vec<_>>()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let failed = drawn(3).iter().filter(|strike| **strike == Strike::Fail).count();
    assert!((200..400).contains(&failed), "{failed} of 1000 for 300 of 1000");
}

/// Publishes four messages, `a1 b2 a3 b4`, with a fault for the first of them.
async fn with_fault(fault: PublishFault) -> (Vec<&'static str>, usize) {
    let memory = MemoryBroker::new();
    let first = message(1, "a").id;
    let broker = FlakyBroker::scripted(Arc::new(memory.clone()), move |message, _| {
        if message.id == first { fault } else { PublishFault::Pass }
    });
    let call = [message(1, "a"), message(2, "b"), message(3, "a"), message(4, "b")];
    let outcomes = broker.publisher().publish(&call).await;
    let words = outcomes.map(|all| all.iter().map(word).collect()).unwrap_or_default();
    (words, memory.published("orders").len())
}

#[tokio::test]
async fn a_fault_of_a_message_touches_its_followers_and_nobody_else() {
    let (ok, no, unknown) = ("accepted", "refused", "unknown");
    assert_eq!(with_fault(PublishFault::Pass).await, (vec![ok; 4], 4));
    assert_eq!(with_fault(PublishFault::Refuse).await, (vec![no, ok, no, ok], 2));
    let for_good = (vec!["refused for good", ok, no, ok], 2);
    assert_eq!(with_fault(PublishFault::RefuseForGood).await, for_good);
    let lost = vec![unknown, ok, unknown, ok];
    assert_eq!(with_fault(PublishFault::LoseAnswer).await, (lost.clone(), 3));
    assert_eq!(with_fault(PublishFault::LoseMessage).await, (lost, 2));
    assert_eq!(with_fault(PublishFault::BreakChannel).await, (vec![unknown; 4], 0));
    assert_eq!(with_fault(PublishFault::Unavailable).await, (vec![], 0));
}

#[tokio::test]
async fn a_script_knows_how_often_a_message_came() {
    let broker = FlakyBroker::scripted(Arc::new(MemoryBroker::new()), |_, times| match times {
        1 | 2 => PublishFault::Refuse,
        _ => PublishFault::Pass,
    });
    let mut words = Vec::new();
    for _ in 0..3 {
        let outcomes = broker.publisher().publish(&[message(1, "a")]).await.unwrap();
        words.push(word(&outcomes[0]));
    }
    assert_eq!(words, ["refused", "refused", "accepted"]);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_a_lost_call_is_unavailable() {
    let memory = MemoryBroker::new();
    let inner: Arc<dyn Broker> = Arc::new(memory.clone());
    let before = CrashPoint::fail(Call::Publish, When::Before, 1);
    let after = CrashPoint::fail(Call::Publish, When::After, 1);
    let publisher = FaultyBroker::new(inner.clone(), before).publisher();
    assert!(publisher.publish(&[message(1, "a")]).await.is_err());
    assert_eq!(memory.published("orders").len(), 0);
    let publisher = FaultyBroker::new(inner, after).publisher();
    let outcomes = publisher.publish(&[message(1, "a")]).await.unwrap();
    assert_eq!(word(&outcomes[0]), "unknown");
    assert_eq!(memory.published("orders").len(), 1);
}

#[tokio::test]
async fn a_lost_settlement_delivers_again_so_often() {
    let memory: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
    let broker = DuplicatingBroker::new(memory, 2);
    let mut subscriber = broker.subscriber(&Subscription::new("orders", "one")).await.unwrap();
    broker.publisher().publish(&[message(1, "a"), message(2, "a")]).await.unwrap();
    let mut arrived = Vec::new();
    for _ in 0..6 {
        let delivery = subscriber.receive(1).await.unwrap().swap_remove(0);
        arrived.push((delivery.message.id, delivery.attempt));
        delivery.complete().await.unwrap();
    }
    let (one, two) = (message(1, "a").id, message(2, "a").id);
    assert_eq!(arrived, [(one, 1), (one, 2), (one, 3), (two, 1), (two, 2), (two, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_broker_confirms_late_and_an_outage_ends_waiting() {
    let memory: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
    let second = Duration::from_secs(1);
    let slow = SlowBroker::new(memory.clone(), second, second);
    let start = tokio::time::Instant::now();
    slow.publisher().publish(&[message(1, "a")]).await.unwrap();
    assert_eq!(start.elapsed(), second);
    let (broker, switch) = OutageBroker::new(memory);
    let mut subscriber = broker.subscriber(&Subscription::new("empty", "one")).await.unwrap();
    let waiting = tokio::spawn(async move { subscriber.receive(1).await.map(|all| all.len()) });
    tokio::time::sleep(second).await;
    assert!(!waiting.is_finished());
    switch.away();
    assert!(waiting.await.unwrap().is_err_and(|error| error.is_transient()));
    assert!(broker.publisher().publish(&[message(2, "a")]).await.is_err());
    switch.back();
    assert!(broker.publisher().publish(&[message(2, "a")]).await.is_ok());
}
