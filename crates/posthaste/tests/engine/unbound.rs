//! What nobody is bound to: set aside in order, holding nobody back, and sent once somebody is.

use std::sync::Arc;
use std::time::Duration;

use posthaste::testing::fault::{Bindings, UnboundBroker};
use posthaste::{Draft, OnUnroutable, RelayOptions, TopicPolicy};
use posthaste_core::database::{Monitor, Status};
use posthaste_core::dead_letter::{DeadFilter, DeadLetters};

use crate::service::Service;

const PLACED: &str = "order.placed";
const PAID: &str = "order.paid";

/// A service whose broker knows bindings, and nobody is bound to what is placed.
fn unbound(unroutable: OnUnroutable) -> (Service, Bindings) {
    let mut service = Service::new();
    let (broker, bindings) = UnboundBroker::new(Arc::new(service.broker.clone()));
    bindings.unbind("orders", PLACED);
    let policy = TopicPolicy { unroutable, ..TopicPolicy::default() };
    service.relay_to(Arc::new(broker), RelayOptions { policy, ..RelayOptions::default() });
    (service, bindings)
}

async fn state(service: &Service, kind: &str, key: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let draft = Draft::new("orders", kind, format!("{kind} {key} {number}").as_str()).key(key);
        service.draft(draft).await;
    }
}

fn sent(service: &Service) -> Vec<String> {
    let published = service.broker.published("orders");
    published.iter().filter_map(|message| message.payload.as_text()).map(str::to_owned).collect()
}

fn numbered(kind: &str, key: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("{kind} {key} {number}")).collect()
}

async fn status(service: &Service) -> Status {
    service.database.status("default").await.expect("status")
}

#[tokio::test(start_paused = true)]
async fn it_waits_without_holding_its_keys_back_and_flows_in_order_once_somebody_is_bound() {
    let (mut service, bindings) = unbound(OnUnroutable::Hold);
    state(&service, PLACED, "a", 0..20).await;
    state(&service, PAID, "a", 0..5).await;
    service.pass(Duration::from_secs(30)).await;
    assert_eq!(sent(&service), numbered(PAID, "a", 0..5), "another kind of the same key");
    state(&service, PLACED, "a", 20..30).await;
    service.pass(Duration::from_secs(30)).await;
    let shown = status(&service).await;
    assert_eq!((shown.held.unroutable, shown.held.retry, shown.backlog), (30, 0, 0));
    assert_eq!(shown.unroutable[0].entries, 30);
    assert_eq!(shown.rates.failed_per_second.to_bits(), 0f64.to_bits(), "nothing has failed");
    bindings.bind("orders", PLACED);
    service.pass(Duration::from_secs(5)).await;
    assert_eq!(sent(&service)[5..], numbered(PLACED, "a", 0..30));
    assert_eq!(status(&service).await.held.unroutable, 0);
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn much_that_was_set_aside_flows_in_order_while_more_is_stated() {
    let (mut service, bindings) = unbound(OnUnroutable::Hold);
    state(&service, PLACED, "a", 0..2500).await;
    service.pass(Duration::from_secs(30)).await;
    assert_eq!(status(&service).await.held.unroutable, 2500);
    bindings.bind("orders", PLACED);
    for step in 0..50 {
        state(&service, PLACED, "a", 2500 + step..2501 + step).await;
        state(&service, PLACED, "b", step..step + 1).await;
        service.pass(Duration::from_millis(100)).await;
    }
    service.pass(Duration::from_secs(10)).await;
    let sent = sent(&service);
    for (key, count) in [("a", 2550), ("b", 50)] {
        let of_key: Vec<_> =
            sent.iter().filter(|text| text.split(' ').nth(1) == Some(key)).cloned().collect();
        assert_eq!(of_key, numbered(PLACED, key, 0..count), "once, and in order");
    }
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_comes_and_goes_keeps_the_order() {
    let (mut service, bindings) = unbound(OnUnroutable::Hold);
    for round in 0..20 {
        state(&service, PLACED, "a", round * 10..round * 10 + 10).await;
        if round % 3 == 1 {
            bindings.bind("orders", PLACED);
        } else {
            bindings.unbind("orders", PLACED);
        }
        service.pass(Duration::from_millis(700)).await;
    }
    bindings.bind("orders", PLACED);
    service.pass(Duration::from_secs(10)).await;
    assert_eq!(sent(&service), numbered(PLACED, "a", 0..200));
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_counts_as_sent_where_the_topic_says_so() {
    let (mut service, bindings) = unbound(OnUnroutable::Accept);
    state(&service, PLACED, "a", 0..3).await;
    service.pass(Duration::from_secs(5)).await;
    let shown = status(&service).await;
    assert_eq!((shown.backlog, shown.held.unroutable, shown.dead_letters), (0, 0, 0));
    bindings.bind("orders", PLACED);
    service.pass(Duration::from_secs(30)).await;
    assert_eq!(sent(&service), Vec::<String>::new(), "nobody wanted them");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_becomes_dead_letters_where_the_topic_says_so() {
    let (mut service, _) = unbound(OnUnroutable::Dead);
    state(&service, PLACED, "a", 0..2).await;
    service.pass(Duration::from_secs(5)).await;
    let letters = service.database.list(&DeadFilter { limit: 10, ..DeadFilter::default() }).await;
    let letters = letters.expect("list");
    // The second one waits behind the first of its key.
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason.as_str(), letters[0].attempts), ("unroutable", 0));
    assert_eq!(letters[0].detail, "nobody is bound to 'orders' with 'order.placed'");
    service.stop().await;
}
