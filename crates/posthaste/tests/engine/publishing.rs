//! Publishing: in the transaction or not at all, and within the limits.

use std::time::Duration;

use posthaste::{Draft, PublishError};

use crate::service::{OrderPlaced, Service};

#[tokio::test(start_paused = true)]
async fn what_is_rolled_back_was_never_there() {
    let service = Service::new();
    let mut tx = service.outbox.begin().await.expect("begins");
    let event = OrderPlaced { order: 1, step: 1 };
    service.outbox.publish(&mut tx, &event).await.expect("publishes");
    drop(tx);
    assert!(service.database.messages().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_one_message_over_a_limit_writes_nothing() {
    let service = Service::new();
    let mut tx = service.outbox.begin().await.expect("begins");
    let drafts = [Draft::new("orders", "a", "x"), Draft::new("orders", "b", "x").key("")];
    let error = service.outbox.publish_drafts(&mut tx, drafts).await.expect_err("refused");
    assert!(matches!(error, PublishError::Invalid(_)), "{error:?}");
    service.outbox.commit(tx).await.expect("commits");
    assert!(service.database.messages().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_typed_event_travels_as_json_with_topic_kind_and_key() {
    let service = Service::new();
    let id = service.place(7, 1).await;
    let messages = service.database.messages();
    let message = &messages[0];
    assert_eq!(
        (message.id, message.topic.as_str(), message.kind.as_str()),
        (id, "orders", "order.placed")
    );
    assert_eq!(message.key.as_deref(), Some("7"));
    assert_eq!(message.content_type.as_deref(), Some("application/json"));
    assert_eq!(message.payload.as_text(), Some(r#"{"order":7,"step":1}"#));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_sent_when_it_is_due_and_holds_nobody_back() {
    let mut service = Service::new();
    let base = std::time::UNIX_EPOCH
        + Duration::from_micros(
            u64::try_from(service.database.now().as_micros()).expect("after 1970"),
        );
    service
        .draft(Draft::new("orders", "later", "x").key("k").due_at(base + Duration::from_secs(60)))
        .await;
    service.draft(Draft::new("orders", "now", "x").key("k")).await;
    service.relay();
    service.pass(Duration::from_secs(5)).await;
    let kinds = |service: &Service| -> Vec<String> {
        service.broker.published("orders").into_iter().map(|message| message.kind).collect()
    };
    assert_eq!(kinds(&service), ["now"]);
    service.pass(Duration::from_secs(54)).await;
    assert_eq!(kinds(&service), ["now"]);
    service.pass(Duration::from_secs(2)).await;
    assert_eq!(kinds(&service), ["now", "later"]);
    service.stop().await;
}
