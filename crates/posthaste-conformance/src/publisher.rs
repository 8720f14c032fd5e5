//! Laws of publishing: one honest outcome for each message, and what is accepted arrives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::broker::{Broker, Subscriber, Subscription};
use posthaste_core::{Message, MessageId, Outcome, Payload, Refusal};

use crate::case::BrokerCase;
use crate::hand::ids_of;
use crate::sample::{assert_same, edges, keyed, message};
use crate::timing::{WATCH, within};

/// Makes a test of every law of publishing.
#[macro_export]
macro_rules! publisher_suite {
    ($make:ident) => {
        $crate::laws!(
            publisher,
            $make,
            [
                an_accepted_message_is_delivered_byte_for_byte_to_every_subscription,
                every_message_has_one_outcome_in_the_order_given,
                publishing_nothing_gives_no_outcomes,
                a_payload_at_the_limit_is_accepted_and_one_above_it_is_refused_for_good,
                a_refusal_touches_no_other_key,
                a_refusal_fails_its_followers_only_where_that_is_promised,
                a_full_batch_is_accepted,
                calls_may_overlap,
                a_repeated_id_is_dropped_only_where_that_is_promised,
                every_handle_publishes_to_the_same_topics,
                messages_of_one_call_may_go_to_several_topics,
                what_nobody_is_bound_to_is_returned_only_where_that_is_declared,
                a_publish_that_is_dropped_leaves_the_publisher_as_good_as_before,
            ]
        );
    };
}

/// Locks that outlast a law.
pub(crate) const LONG_LOCK: Duration = Duration::from_secs(60);

/// Opens a subscription.
pub(crate) async fn subscribe(
    broker: &Arc<dyn Broker>,
    subscription: &Subscription,
) -> Box<dyn Subscriber> {
    within("a subscription opens", broker.subscriber(subscription)).await.expect("subscriber")
}

/// Publishes messages that must all be accepted, in calls of what the broker takes at once.
pub(crate) async fn publish(broker: &Arc<dyn Broker>, messages: &[Message]) {
    let publisher = broker.publisher();
    for call in messages.chunks(broker.promises().max_batch.max(1)) {
        let outcomes = within("a publish ends", publisher.publish(call)).await.expect("publish");
        assert_eq!(outcomes.len(), call.len(), "one outcome for each message");
        for (message, outcome) in call.iter().zip(outcomes) {
            let accepted = matches!(outcome, Outcome::Accepted(_));
            assert!(accepted, "{} was to be accepted: {outcome:?}", message.id);
        }
    }
}

/// Receives and completes `count` messages, in the order of their arrival.
pub(crate) async fn drain(subscriber: &mut dyn Subscriber, count: usize) -> Vec<Message> {
    let mut arrived = Vec::new();
    while arrived.len() < count {
        let deliveries = within("a delivery arrives", subscriber.receive(count)).await;
        for delivery in deliveries.expect("receive") {
            arrived.push(delivery.message.clone());
            delivery.complete().await.expect("complete");
        }
    }
    arrived
}

/// Asserts that nothing arrives for a while.
pub(crate) async fn assert_quiet(subscriber: &mut dyn Subscriber, why: &str) {
    if let Ok(arrived) = tokio::time::timeout(WATCH, subscriber.receive(10)).await {
        panic!("{why}, and yet there came {arrived:?}");
    }
}

fn sorted(messages: &[Message]) -> Vec<MessageId> {
    let mut ids = ids_of(messages);
    ids.sort_unstable();
    ids
}

/// Every subscription that is there gets its own copy of everything.
pub async fn an_accepted_message_is_delivered_byte_for_byte_to_every_subscription(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut one = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let mut two = subscribe(&case.second, &Subscription::new("orders", "two")).await;
    let stated = edges("orders");
    publish(&case.broker, &stated).await;
    for subscriber in [&mut one, &mut two] {
        let arrived = drain(subscriber.as_mut(), stated.len()).await;
        assert_eq!(sorted(&arrived), sorted(&stated));
        for message in &stated {
            let same = arrived.iter().find(|other| other.id == message.id);
            let same = same.expect("it arrived");
            assert_same(message, same);
            assert_eq!(same.stated_at, message.stated_at, "when {} was stated", message.id);
        }
        assert_quiet(subscriber.as_mut(), "everything was delivered once").await;
    }
}

fn too_large(broker: &Arc<dyn Broker>, key: Option<&str>) -> Message {
    let mut message = message("orders");
    message.key = key.map(str::to_owned);
    message.payload = Payload::bytes(vec![0; broker.promises().max_payload + 1]);
    message
}

fn is_permanent(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal { permanent: true, .. }))
}

/// A relay finds the verdict of a message by its place.
pub async fn every_message_has_one_outcome_in_the_order_given(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let call = [message("orders"), too_large(&case.broker, None), message("orders")];
    let outcomes = case.broker.publisher().publish(&call).await.expect("publish");
    assert_eq!(outcomes.len(), 3);
    assert!(matches!(outcomes[0], Outcome::Accepted(_)), "{outcomes:?}");
    assert!(is_permanent(&outcomes[1]), "{outcomes:?}");
    assert!(matches!(outcomes[2], Outcome::Accepted(_)), "{outcomes:?}");
    let arrived = drain(subscriber.as_mut(), 2).await;
    assert_eq!(sorted(&arrived), sorted(&[call[0].clone(), call[2].clone()]));
    assert_quiet(subscriber.as_mut(), "what was refused is not delivered").await;
}

/// An empty list is a list.
pub async fn publishing_nothing_gives_no_outcomes(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    let outcomes = case.broker.publisher().publish(&[]).await.expect("publish");
    assert_eq!(outcomes, []);
}

/// The limit is what the promises say, to the byte.
pub async fn a_payload_at_the_limit_is_accepted_and_one_above_it_is_refused_for_good(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let publisher = case.broker.publisher();
    let above = publisher.publish(&[too_large(&case.broker, None)]).await.expect("publish");
    assert!(above.len() == 1 && is_permanent(&above[0]), "{above:?}");
    let mut largest = message("orders");
    largest.payload = Payload::bytes(vec![7; case.broker.promises().max_payload]);
    publish(&case.broker, std::slice::from_ref(&largest)).await;
    let arrived = drain(subscriber.as_mut(), 1).await;
    assert_same(&largest, &arrived[0]);
}

/// A bad message is its own matter.
pub async fn a_refusal_touches_no_other_key(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let call = [
        keyed("orders", "a", "1"),
        too_large(&case.broker, Some("bad")),
        keyed("orders", "a", "2"),
        message("orders"),
    ];
    let outcomes = case.broker.publisher().publish(&call).await.expect("publish");
    for n in [0, 2, 3] {
        assert!(matches!(outcomes[n], Outcome::Accepted(_)), "{n}: {outcomes:?}");
    }
    let arrived = drain(subscriber.as_mut(), 3).await;
    let good = [call[0].clone(), call[2].clone(), call[3].clone()];
    assert_eq!(sorted(&arrived), sorted(&good));
}

/// Of one key and one call, the accepted ones are a prefix where that is promised; else a
/// refusal does not touch its followers.
pub async fn a_refusal_fails_its_followers_only_where_that_is_promised(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let call = [
        keyed("orders", "a", "before"),
        too_large(&case.broker, Some("a")),
        keyed("orders", "a", "after"),
        keyed("orders", "a", "last"),
    ];
    let outcomes = case.broker.publisher().publish(&call).await.expect("publish");
    let accepted: Vec<_> =
        outcomes.iter().map(|outcome| matches!(outcome, Outcome::Accepted(_))).collect();
    let expected = if case.broker.promises().prefix_per_key {
        assert!(!is_permanent(&outcomes[2]), "a follower may be sent again: {outcomes:?}");
        [true, false, false, false]
    } else {
        [true, false, true, true]
    };
    assert_eq!(accepted, expected, "{outcomes:?}");
    let there: Vec<Message> =
        call.iter().zip(expected).filter(|(_, there)| *there).map(|(m, _)| m.clone()).collect();
    let arrived = drain(subscriber.as_mut(), there.len()).await;
    assert_eq!(sorted(&arrived), sorted(&there), "exactly what was accepted is delivered");
    assert_quiet(subscriber.as_mut(), "what was refused is not delivered").await;
}

/// As many as are promised to fit, fit.
pub async fn a_full_batch_is_accepted(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let count = case.broker.promises().max_batch.min(5000);
    let stated: Vec<_> =
        (0..count).map(|n| keyed("orders", &format!("k{}", n % 50), "{}")).collect();
    publish(&case.broker, &stated).await;
    let arrived = drain(subscriber.as_mut(), count).await;
    assert_eq!(sorted(&arrived), sorted(&stated));
}

/// A relay keeps several calls in flight.
pub async fn calls_may_overlap(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let publisher = case.broker.publisher();
    let calls: Vec<_> = (0..8)
        .map(|call| {
            let publisher = publisher.clone();
            tokio::spawn(async move {
                let stated: Vec<_> = (0..20)
                    .map(|n| keyed("orders", &format!("call-{call}"), &n.to_string()))
                    .collect();
                for part in stated.chunks(5) {
                    let outcomes = publisher.publish(part).await.expect("publish");
                    let all = outcomes.iter().all(|o| matches!(o, Outcome::Accepted(_)));
                    assert!(all && outcomes.len() == part.len(), "{outcomes:?}");
                }
                stated
            })
        })
        .collect();
    let mut stated = Vec::new();
    for call in calls {
        stated.extend(within("a call ends", call).await.expect("ends"));
    }
    let arrived = drain(subscriber.as_mut(), stated.len()).await;
    assert_eq!(sorted(&arrived), sorted(&stated));
    if case.broker.promises().ordered {
        for call in stated.chunks(20) {
            let of_key: Vec<_> = arrived.iter().filter(|m| m.key == call[0].key).cloned().collect();
            assert_eq!(ids_of(&of_key), ids_of(call), "the order of {:?}", call[0].key);
        }
    }
}

/// A window that is promised is kept; without one, a copy is a message.
pub async fn a_repeated_id_is_dropped_only_where_that_is_promised(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let once = message("orders");
    publish(&case.broker, std::slice::from_ref(&once)).await;
    publish(&case.second, std::slice::from_ref(&once)).await;
    let copies = if case.broker.promises().dedupe_window.is_some() { 1 } else { 2 };
    let arrived = drain(subscriber.as_mut(), copies).await;
    assert_eq!(ids_of(&arrived), vec![once.id; copies]);
    assert_quiet(subscriber.as_mut(), "all copies were delivered").await;
}

/// Handles are connections, not brokers.
pub async fn every_handle_publishes_to_the_same_topics(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.second, &Subscription::new("orders", "one")).await;
    let stated = [keyed("orders", "a", "1"), keyed("orders", "a", "2"), keyed("orders", "a", "3")];
    publish(&case.broker, &stated[..1]).await;
    publish(&case.second, &stated[1..2]).await;
    publish(&case.broker, &stated[2..]).await;
    let arrived = drain(subscriber.as_mut(), 3).await;
    assert_eq!(sorted(&arrived), sorted(&stated));
    if case.broker.promises().ordered {
        assert_eq!(ids_of(&arrived), ids_of(&stated), "one after the other, whoever published");
    }
}

/// A relay takes entries as they come.
pub async fn messages_of_one_call_may_go_to_several_topics(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let topics = ["orders", "invoices", "a/b.c_d-E9"];
    let mut subscribers = Vec::new();
    for topic in topics {
        subscribers.push(subscribe(&case.broker, &Subscription::new(topic, "one")).await);
    }
    let stated: Vec<_> = (0..12).map(|n| keyed(topics[n % 3], "k", &n.to_string())).collect();
    publish(&case.broker, &stated).await;
    for (topic, subscriber) in topics.into_iter().zip(&mut subscribers) {
        let mine: Vec<_> = stated.iter().filter(|m| m.topic == topic).cloned().collect();
        let arrived = drain(subscriber.as_mut(), mine.len()).await;
        assert_eq!(sorted(&arrived), sorted(&mine), "{topic}");
        assert_quiet(subscriber.as_mut(), "a topic gets its own messages only").await;
    }
}

/// Returned means that the broker does not have it, and touches nothing else in the call. A broker
/// that does not return takes it, whatever becomes of it then.
pub async fn what_nobody_is_bound_to_is_returned_only_where_that_is_declared(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut one = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let call = [
        keyed("orders", "a", "1"),
        keyed("nobody", "a", "2"),
        message("nobody"),
        keyed("orders", "a", "3"),
    ];
    let outcomes = case.broker.publisher().publish(&call).await.expect("publish");
    for n in [0, 3] {
        assert!(matches!(outcomes[n], Outcome::Accepted(_)), "{n}: {outcomes:?}");
    }
    for n in [1, 2] {
        match &outcomes[n] {
            Outcome::Unroutable { detail } => assert!(case.returns && !detail.is_empty(), "{n}"),
            Outcome::Accepted(_) => assert!(!case.returns, "{n}: {outcomes:?}"),
            other => panic!("{n}: {other:?}"),
        }
    }
    let arrived = drain(one.as_mut(), 2).await;
    assert_eq!(sorted(&arrived), sorted(&[call[0].clone(), call[3].clone()]));
    if case.returns {
        let mut late = subscribe(&case.second, &Subscription::new("nobody", "late")).await;
        publish(&case.broker, &call[1..3]).await;
        let arrived = drain(late.as_mut(), 2).await;
        assert_eq!(sorted(&arrived), sorted(&call[1..3]), "as soon as somebody is bound");
        assert_quiet(late.as_mut(), "what was returned was not kept").await;
    }
}

/// Whatever is given up half-way may have been accepted, and never twice.
pub async fn a_publish_that_is_dropped_leaves_the_publisher_as_good_as_before(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let publisher = case.broker.publisher();
    let mut given_up = BTreeSet::new();
    for micros in 0..20 {
        let stated = [message("orders")];
        let patience = Duration::from_micros(micros * 50);
        let publishing = publisher.publish(&stated);
        drop(tokio::time::timeout(patience, publishing).await);
        given_up.insert(stated[0].id);
    }
    let last = message("orders");
    let outcomes = within("the publisher goes on", publisher.publish(std::slice::from_ref(&last)));
    let outcomes = outcomes.await.expect("publish");
    assert!(matches!(outcomes[..], [Outcome::Accepted(_)]), "{outcomes:?}");
    let mut seen = BTreeSet::new();
    while !seen.contains(&last.id) {
        for message in drain(subscriber.as_mut(), 1).await {
            assert!(seen.insert(message.id), "{} was delivered twice", message.id);
        }
    }
    seen.remove(&last.id);
    assert!(seen.is_subset(&given_up), "nothing else is delivered");
}
