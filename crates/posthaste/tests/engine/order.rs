//! Order per key over the whole path, with failures on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste::handler_fn;

use crate::service::{Service, note};

#[tokio::test(start_paused = true)]
async fn effects_of_one_key_happen_in_the_order_of_their_commits() {
    let mut service = Service::new();
    let consumer = service.consumer("shipping").on(handler_fn(note));
    service.consume(consumer, "shipping").await;
    service.relay();
    for step in 0..300 {
        service.place(step % 5, step).await;
    }
    service.pass(Duration::from_secs(5)).await;
    service.stop().await;
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let records = service.database.records();
    assert_eq!(records.len(), 300);
    for record in records {
        let (order, step) = record.split_once('/').expect("order and step");
        let step: u64 = step.parse().expect("a number");
        let before = last.insert(order.to_owned(), step);
        assert!(before.is_none_or(|before| before < step), "{order}: {before:?} then {step}");
    }
}
