//! Messages that end the connection of whoever receives them.

use std::time::Duration;

use posthaste_conformance::run;
use posthaste_conformance::sample::{keyed, message};
use posthaste_core::broker::{Broker, Subscription};
use posthaste_servers::TestVhost;
use tokio::time::Instant;

use crate::raw;
use crate::support::*;

/// Bytes that are no text.
const BROKEN: &[u8] = b"\xff\xfe";
/// Of the subscriptions here.
const LIMIT: u32 = 8;

async fn messages_in(vhost: &TestVhost, queue: &str) -> u64 {
    let found = vhost.describe("queues", queue).await.expect("it is there");
    found["messages"].as_u64().unwrap_or(0)
}

/// What cannot be read takes nobody else with it: it alone goes to the dead letters, by the limit
/// of the broker, and the others arrive.
async fn only_the_culprit_dies(ordered: bool) {
    let vhost = vhost().await;
    let rabbit = open_with(&vhost.url(), |options| options.delivery_limit = LIMIT);
    let mut subscription = Subscription::new("orders", "one");
    subscription.ordered = ordered;
    let opening = rabbit.subscriber(&subscription);
    let mut subscriber = within("it opens", opening).await.expect("a subscription");
    // Another subscription of this handle, which holds something for the whole time.
    let mut other = subscribe(&rabbit, "other").await;
    accept(&rabbit, &[keyed("other", "a", "held")]).await;
    let (seen, attempts) = tokio::sync::watch::channel(0);
    let bystander = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            for delivery in other.receive(1).await.unwrap_or_default() {
                seen.send_replace(delivery.attempt);
                held.push(delivery);
            }
        }
    });
    drop(subscriber);
    let port = vhost.server().port();
    raw::publish(port, &vhost.name, "orders", b"some.kind", BROKEN).await;
    let stated: Vec<_> = (0..20).map(|n| keyed("orders", &n.to_string(), "{}")).collect();
    accept(&rabbit, &stated).await;
    raw::publish(port, &vhost.name, "orders", BROKEN, b"").await;
    let last = message("orders");
    accept(&rabbit, std::slice::from_ref(&last)).await;
    let opening = rabbit.subscriber(&subscription);
    subscriber = within("it opens", opening).await.expect("a subscription");
    let mut missing: std::collections::BTreeSet<_> = ids(&stated).into_iter().collect();
    missing.insert(last.id);
    let (deadline, mut worst) = (Instant::now() + 10 * PATIENCE, 0);
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "{} have not arrived", missing.len());
        let Ok(got) = tokio::time::timeout(Duration::from_secs(1), subscriber.receive(100)).await
        else {
            continue;
        };
        for delivery in got.unwrap_or_default() {
            worst = worst.max(delivery.attempt);
            missing.remove(&delivery.message.id);
            drop(delivery.complete().await);
        }
    }
    assert!(worst <= LIMIT / 2 + 2, "innocents were delivered {worst} times");
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let rest = tokio::time::timeout(Duration::from_secs(1), subscriber.receive(100)).await;
        assert!(!matches!(rest, Ok(Ok(_))), "{rest:?}");
        let dead = messages_in(&vhost, "orders.one.dead").await;
        let left = messages_in(&vhost, "orders.one").await;
        if (dead, left) == (2, 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{dead} are dead, and {left} are left");
    }
    bystander.abort();
    let attempts = *attempts.borrow();
    assert!((1..=LIMIT / 2).contains(&attempts), "a bystander was delivered {attempts} times");
}

#[test]
fn a_message_that_cannot_be_read_takes_no_other_with_it() {
    run("culprit", only_the_culprit_dies(true));
}

#[test]
fn a_message_that_cannot_be_read_takes_no_other_with_it_without_order() {
    run("culprit without order", only_the_culprit_dies(false));
}
