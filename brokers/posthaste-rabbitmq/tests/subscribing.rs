//! Receiving: what is lost, taken away, foreign or given up.

use std::time::Duration;

use posthaste_conformance::run;
use posthaste_conformance::sample::{keyed, message};
use posthaste_core::BrokerError;
use posthaste_core::broker::{Broker, Subscription};
use posthaste_core::dead_letter::DeadLetters;
use posthaste_servers::{Direction, Proxy, TestVhost};
use serde_json::{Value, json};

use crate::support::*;

/// What the broker shows of the first message in a queue, without taking it.
async fn peek(vhost: &TestVhost, queue: &str) -> Option<Value> {
    let path = format!("/api/queues/{}/{queue}/get", vhost.name);
    let body = json!({ "count": 1, "ackmode": "ack_requeue_true", "encoding": "auto" });
    let (status, answer) = vhost.server().api("POST", &path, &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let messages: Vec<Value> = serde_json::from_str(&answer).expect("JSON");
    messages.into_iter().next()
}

/// Publishes as another program would.
async fn publish_foreign(vhost: &TestVhost, properties: Value, payload: &str) {
    let path = format!("/api/exchanges/{}/orders/publish", vhost.name);
    let body = json!({
        "properties": properties, "routing_key": "order.foreign", "payload": payload,
        "payload_encoding": "string",
    });
    let (status, answer) = vhost.server().api("POST", &path, &body.to_string()).await;
    assert_eq!((status, answer.as_str()), (200, "{\"routed\":true}"));
}

/// Services in other languages publish too.
#[test]
fn a_foreign_message_is_read_as_far_as_it_can_be() {
    run("foreign", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let id = "01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d";
        let headers = json!({ "number": 17, "yes": true, "list": [1, "b"], "Upper_Case": "x" });
        publish_foreign(&vhost, json!({ "message_id": id, "headers": headers }), "hello").await;
        let delivery = one(subscriber.as_mut()).await;
        let message = &delivery.message;
        assert_eq!((message.id.to_string().as_str(), message.kind.as_str()), (id, "order.foreign"));
        let headers: Vec<_> = message.headers.iter().collect();
        let expected =
            [("Upper_Case", "x"), ("list", "[1,\"b\"]"), ("number", "17"), ("yes", "true")];
        assert_eq!(headers, expected);
        assert_eq!(message.payload.as_text(), Some("hello"));
        delivery.complete().await.expect("complete");
    });
}

/// Without an identity a message cannot be told from its copies: it goes where people look, and
/// nobody waits for it.
#[test]
fn a_message_without_identity_becomes_a_dead_letter() {
    run("no identity", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        publish_foreign(&vhost, json!({}), "first").await;
        publish_foreign(&vhost, json!({ "message_id": "order-17" }), "second").await;
        let stated = message("orders");
        accept(&rabbit, std::slice::from_ref(&stated)).await;
        let delivery = one(subscriber.as_mut()).await;
        assert_eq!(delivery.message.id, stated.id);
        delivery.complete().await.expect("complete");
        let mut dead = None;
        eventually("it is among the dead", async || {
            dead = peek(&vhost, "orders.one.dead").await;
            dead.is_some()
        })
        .await;
        let headers = &dead.expect("found")["properties"]["headers"];
        assert_eq!(headers["posthaste-dead-reason"], "malformed");
        assert!(
            headers["posthaste-dead-detail"].as_str().is_some_and(|it| it.contains("message_id"))
        );
    });
}

/// A dead letter carries everything that it carried alive, and why it died.
#[test]
fn a_dead_letter_says_why() {
    run("why", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let mut stated = keyed("orders", "a", "{\"n\":1}");
        stated.headers.insert("trace-id", "t-1");
        accept(&rabbit, std::slice::from_ref(&stated)).await;
        drop(one(subscriber.as_mut()).await);
        let delivery = one(subscriber.as_mut()).await;
        delivery.dead_letter("rejected", "it makes no sense").await.expect("dead letter");
        let dead = peek(&vhost, "orders.one.dead").await.expect("it is there");
        assert_eq!(dead["payload"], "{\"n\":1}");
        assert_eq!(dead["properties"]["message_id"], stated.id.to_string());
        assert_eq!(dead["properties"]["type"], "sample.stated");
        let headers = &dead["properties"]["headers"];
        assert_eq!(headers["posthaste-key"], "a");
        assert_eq!(headers["trace-id"], "t-1");
        assert_eq!(headers["posthaste-dead-reason"], "rejected");
        assert_eq!(headers["posthaste-dead-detail"], "it makes no sense");
        assert_eq!(headers["posthaste-dead-attempts"], 2);
        eventually("it is not in both places", async || {
            let queue = vhost.describe("queues", "orders.one").await.expect("it is there");
            queue["messages"] == 0
        })
        .await;
    });
}

/// Nowhere to put it: it is not lost, it comes again.
#[test]
fn without_a_queue_for_dead_letters_the_message_comes_again() {
    run("no dead queue", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        accept(&rabbit, &[message("orders")]).await;
        vhost.delete_queue("orders.one.dead").await;
        let failed = one(subscriber.as_mut()).await.dead_letter("rejected", "no").await;
        let failed = failed.expect_err("there is no such queue");
        assert!(failed.to_string().contains("'orders.one.dead'"), "{failed}");
        let again = one(subscriber.as_mut()).await;
        assert_eq!(again.attempt, 2);
        again.complete().await.expect("complete");
    });
}

/// The queue is deleted: that is said, and then it is declared again.
#[test]
fn a_queue_that_is_deleted_is_declared_again() {
    run("deleted queue", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        accept(&rabbit, &[message("orders")]).await;
        let held = one(subscriber.as_mut()).await;
        vhost.delete_queue("orders.one").await;
        let ended = within("it is said", subscriber.receive(1)).await.expect_err("deleted");
        assert!(ended.is_transient() && ended.to_string().contains("'orders.one'"), "{ended}");
        let settled = held.complete().await;
        assert!(settled.is_err(), "it went with its queue");
        let stated = message("orders");
        let receiving = tokio::spawn(async move {
            arrive(subscriber.as_mut(), &[stated.id]).await;
        });
        let sent = stated_later(&rabbit, stated.id).await;
        within("it arrives", receiving).await.expect("ends");
        assert!(sent > 0);
    });
}

/// Publishes a message of this id until it is accepted; returns how often that was tried.
async fn stated_later(
    rabbit: &std::sync::Arc<posthaste_rabbitmq::RabbitMq>,
    id: posthaste_core::MessageId,
) -> usize {
    let mut stated = message("orders");
    stated.id = id;
    let mut tries = 0;
    eventually("the queue is there again", async || {
        tries += 1;
        is_accepted(&publish(rabbit, std::slice::from_ref(&stated)).await[0])
    })
    .await;
    tries
}

/// An operator ends all connections: what was in hand settles nothing and comes again, in order.
#[test]
fn after_its_connection_ended_a_delivery_settles_nothing() {
    run("lost lock", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let stated = [keyed("orders", "a", "1"), keyed("orders", "a", "2")];
        accept(&rabbit, &stated).await;
        let held = one(subscriber.as_mut()).await;
        let waiting = tokio::spawn(async move {
            let again = one(subscriber.as_mut()).await;
            (again, subscriber)
        });
        vhost.close_connections().await;
        let (again, mut subscriber) = within("it comes again", waiting).await.expect("ends");
        assert_eq!((again.message.id, again.attempt), (stated[0].id, 2));
        let lost = held.complete().await;
        assert!(matches!(lost, Err(BrokerError::LockLost)), "{lost:?}");
        again.complete().await.expect("the new one counts");
        arrive(subscriber.as_mut(), &[stated[1].id]).await;
    });
}

/// An acknowledgement that the broker has not read is not a completion.
#[test]
fn a_completion_is_claimed_only_when_the_broker_has_heard_of_it() {
    run("heard", async {
        let vhost = vhost().await;
        let proxy = Proxy::before(vhost.server().port()).await.expect("a port");
        let rabbit = open_with(&proxy.url(&vhost.url()), |options| {
            options.heartbeat = Duration::from_secs(1);
        });
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let stated = message("orders");
        accept(&open(&vhost.url()), std::slice::from_ref(&stated)).await;
        let held = one(subscriber.as_mut()).await;
        proxy.swallow(Direction::ToServer);
        let settled = within("it ends", held.complete()).await;
        assert!(settled.is_err(), "nobody has heard of it");
        proxy.reset();
        proxy.heal().await;
        arrive(subscriber.as_mut(), &[stated.id]).await;
    });
}

/// On a locked-down broker nothing is created, and what is missing is named.
#[test]
fn without_declaring_what_is_missing_is_named() {
    run("locked down", async {
        let vhost = vhost().await;
        let rabbit = open_with(&vhost.url(), |options| options.declare = false);
        let subscription = Subscription::new("orders", "one");
        let missing = async |what: &str| {
            let error = rabbit.subscriber(&subscription).await.err().expect("something is missing");
            assert!(error.to_string().contains(&format!("'{what}' does not exist")), "{error}");
        };
        missing("orders").await;
        vhost.declare_exchange("orders", "topic").await;
        missing("orders.one.dead").await;
        vhost.declare_queue("orders.one.dead", &json!({ "x-queue-type": "quorum" })).await;
        missing("orders.one").await;
        vhost.declare_queue("orders.one", &json!({ "x-queue-type": "quorum" })).await;
        vhost.bind("orders", "orders.one", "#").await;
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let stated = message("orders");
        accept(&rabbit, std::slice::from_ref(&stated)).await;
        arrive(subscriber.as_mut(), &[stated.id]).await;
    });
}

/// A queue with other arguments is used as it is.
#[test]
fn a_queue_that_is_there_already_is_used_as_it_is() {
    run("other arguments", async {
        let vhost = vhost().await;
        vhost.declare_queue("orders.one", &json!({ "x-queue-type": "classic" })).await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let stated = message("orders");
        accept(&rabbit, std::slice::from_ref(&stated)).await;
        arrive(subscriber.as_mut(), &[stated.id]).await;
    });
}

/// A message that takes its consumer down every time ends among the dead letters by itself.
#[test]
fn the_brokers_own_limit_is_a_backstop() {
    run("backstop", async {
        let vhost = vhost().await;
        let rabbit = open_with(&vhost.url(), |options| options.delivery_limit = 3);
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let (bad, good) = (keyed("orders", "a", "bad"), keyed("orders", "a", "good"));
        accept(&rabbit, std::slice::from_ref(&bad)).await;
        for attempt in 1..=4 {
            let delivery = one(subscriber.as_mut()).await;
            assert_eq!((delivery.message.id, delivery.attempt), (bad.id, attempt));
            drop((delivery, subscriber));
            subscriber = subscribe(&rabbit, "orders").await;
        }
        accept(&rabbit, std::slice::from_ref(&good)).await;
        arrive(subscriber.as_mut(), &[good.id]).await;
        eventually("it is among the dead", async || {
            let dead = peek(&vhost, "orders.one.dead").await;
            dead.is_some_and(|dead| dead["properties"]["message_id"] == bad.id.to_string())
        })
        .await;
        let names = [("orders".to_owned(), "one".to_owned())];
        let letters = rabbit.dead_letters(&names).expect("good names");
        let reference = format!("orders.one/{}", bad.id);
        let letter = letters.get(&reference).await.expect("get").expect("it is there");
        assert_eq!(letter.reason, "max-deliveries");
        assert!(letter.detail.contains("delivery_limit"), "{letter:?}");
    });
}

/// Only one of those that share an ordered subscription is given anything; the next takes over.
#[test]
fn another_takes_over_in_order() {
    run("taking over", async {
        let vhost = vhost().await;
        let (first, second) = (open(&vhost.url()), open(&vhost.url()));
        let mut active = subscribe(&first, "orders").await;
        let mut standby = subscribe(&second, "orders").await;
        let stated: Vec<_> = (0..30).map(|n| keyed("orders", "a", &n.to_string())).collect();
        accept(&first, &stated).await;
        let mut arrived = Vec::new();
        for _ in 0..10 {
            let delivery = one(active.as_mut()).await;
            arrived.push(delivery.message.id);
            delivery.complete().await.expect("complete");
        }
        let held = one(active.as_mut()).await;
        drop((active, held));
        while arrived.len() < stated.len() {
            let delivery = one(standby.as_mut()).await;
            arrived.push(delivery.message.id);
            delivery.complete().await.expect("complete");
        }
        assert_eq!(arrived, ids(&stated));
    });
}
