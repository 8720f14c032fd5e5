//! Laws of a broker that is away for a while: nothing is claimed that did not happen, and work
//! goes on by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste_core::broker::{Subscriber, Subscription};
use posthaste_core::{BrokerError, Delivery, Outcome};
use tokio::time::Instant;

use crate::case::OutageCase;
use crate::publisher::{publish, subscribe};
use crate::sample::{keyed, message};
use crate::timing::{PATIENCE, eventually, within};

/// Makes a test of every law of outages.
#[macro_export]
macro_rules! outage_suite {
    ($make:ident) => {
        $crate::laws!(
            outage,
            $make(),
            [
                while_the_broker_is_away_nothing_is_accepted,
                what_was_unavailable_is_never_delivered,
                the_same_publisher_goes_on_when_the_broker_is_back,
                the_same_subscriber_goes_on_when_the_broker_is_back,
                what_was_accepted_before_is_delivered_after,
                what_was_in_hand_comes_again_and_is_counted,
            ]
        );
    };
}

/// Receives whatever comes, waiting out that the broker is away.
async fn patiently(subscriber: &mut dyn Subscriber) -> Vec<Delivery> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, subscriber.receive(10)).await {
            Ok(Ok(deliveries)) => return deliveries,
            Ok(Err(error)) => assert!(error.is_transient(), "receiving: {error}"),
            Err(_) => panic!("nothing arrived within {PATIENCE:?} after the broker was back"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whatever is said of a message while nobody was there, it is not that somebody has it.
pub async fn while_the_broker_is_away_nothing_is_accepted(case: OutageCase) {
    publish(&case.broker, &[message("orders")]).await;
    case.outage.away().await;
    for _ in 0..3 {
        let stated = [message("orders"), keyed("orders", "a", "1")];
        let publisher = case.broker.publisher();
        if let Ok(outcomes) = within("a publish ends", publisher.publish(&stated)).await {
            let unknown = outcomes.iter().all(|o| matches!(o, Outcome::Unknown { .. }));
            assert!(unknown && outcomes.len() == stated.len(), "{outcomes:?}");
        }
    }
    case.outage.back().await;
}

/// Unavailable means that nothing left this process.
pub async fn what_was_unavailable_is_never_delivered(case: OutageCase) {
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    case.outage.away().await;
    let mut refused = BTreeSet::new();
    for _ in 0..5 {
        let stated = [message("orders")];
        let publisher = case.broker.publisher();
        if within("a publish ends", publisher.publish(&stated)).await.is_err() {
            refused.insert(stated[0].id);
        }
    }
    case.outage.back().await;
    let last = message("orders");
    eventually("publishing works again", async || {
        let publisher = case.broker.publisher();
        let outcomes = publisher.publish(std::slice::from_ref(&last)).await.ok()?;
        matches!(outcomes[..], [Outcome::Accepted(_)]).then_some(())
    })
    .await;
    loop {
        for delivery in patiently(subscriber.as_mut()).await {
            let id = delivery.message.id;
            assert!(!refused.contains(&id), "{id} was unavailable and is delivered");
            if id == last.id {
                return;
            }
            drop(delivery.complete().await);
        }
    }
}

/// It connects again whenever it has to.
pub async fn the_same_publisher_goes_on_when_the_broker_is_back(case: OutageCase) {
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let publisher = case.broker.publisher();
    for _ in 0..2 {
        case.outage.away().await;
        drop(within("a publish ends", publisher.publish(&[message("orders")])).await);
        case.outage.back().await;
        let stated = message("orders");
        eventually("the same publisher is accepted again", async || {
            let outcomes = publisher.publish(std::slice::from_ref(&stated)).await.ok()?;
            matches!(outcomes[..], [Outcome::Accepted(_)]).then_some(())
        })
        .await;
        eventually("what it published arrives", async || {
            let mut found = None;
            for delivery in patiently(subscriber.as_mut()).await {
                found = found.or((delivery.message.id == stated.id).then_some(()));
                drop(delivery.complete().await);
            }
            found
        })
        .await;
    }
}

/// Receiving goes on by itself.
pub async fn the_same_subscriber_goes_on_when_the_broker_is_back(case: OutageCase) {
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    case.outage.away().await;
    let waiting = tokio::time::timeout(Duration::from_millis(100), subscriber.receive(1)).await;
    match waiting {
        Err(_) => {}
        Ok(Err(BrokerError::Unavailable { .. })) => {}
        Ok(other) => panic!("receiving from a broker that is away gave {other:?}"),
    }
    case.outage.back().await;
    let stated = message("orders");
    eventually("publishing works again", async || {
        let publisher = case.broker.publisher();
        let outcomes = publisher.publish(std::slice::from_ref(&stated)).await.ok()?;
        matches!(outcomes[..], [Outcome::Accepted(_)]).then_some(())
    })
    .await;
    let delivery = patiently(subscriber.as_mut()).await.swap_remove(0);
    assert_eq!(delivery.message.id, stated.id);
    delivery.complete().await.expect("complete");
}

/// Accepted is kept, where that is promised.
pub async fn what_was_accepted_before_is_delivered_after(case: OutageCase) {
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let stated: Vec<_> = (0..6).map(|n| keyed("orders", "a", &n.to_string())).collect();
    publish(&case.broker, &stated).await;
    case.outage.away().await;
    case.outage.back().await;
    if !case.broker.promises().durable {
        return;
    }
    let mut arrived = Vec::new();
    while arrived.len() < stated.len() {
        for delivery in patiently(subscriber.as_mut()).await {
            let id = delivery.message.id;
            if delivery.complete().await.is_ok() && !arrived.contains(&id) {
                arrived.push(id);
            }
        }
    }
    let expected: Vec<_> = stated.iter().map(|message| message.id).collect();
    assert_eq!(arrived, expected, "all of it, in its order");
}

/// A delivery that was not settled before is not settled by the outage.
pub async fn what_was_in_hand_comes_again_and_is_counted(case: OutageCase) {
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let stated = [message("orders")];
    publish(&case.broker, &stated).await;
    let held = within("it arrives", subscriber.receive(1)).await.expect("receive");
    assert_eq!(held.len(), 1);
    case.outage.away().await;
    for delivery in held {
        let settled = within("the settlement ends", delivery.complete()).await;
        assert!(settled.is_err(), "a broker that is away cannot settle anything");
    }
    case.outage.back().await;
    if !case.broker.promises().durable {
        return;
    }
    let again = patiently(subscriber.as_mut()).await.swap_remove(0);
    assert_eq!(again.message.id, stated[0].id);
    assert!(again.is_redelivered() || !case.broker.promises().counts_deliveries);
    again.complete().await.expect("complete");
}
