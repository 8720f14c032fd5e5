//! Each thing that can become of a message on its way to the broker.

use std::time::Duration;

use posthaste_conformance::run;
use posthaste_conformance::sample::{keyed, message};
use posthaste_core::{Broker, Message, Payload};
use serde_json::json;
use tokio::time::Instant;

use crate::support::*;

/// Nobody is bound: the broker confirms what it gives back, and that is not acceptance.
#[test]
fn what_nobody_is_bound_to_is_unroutable() {
    run("unroutable", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let outcomes = publish(&rabbit, &[message("orders")]).await;
        assert!(is_unroutable(&outcomes[0]), "{outcomes:?}");
        assert!(vhost.describe("exchanges", "orders").await.is_some(), "the topic is there");
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let stated = message("orders");
        accept(&rabbit, std::slice::from_ref(&stated)).await;
        arrive(subscriber.as_mut(), &[stated.id]).await;
    });
}

/// Confirmations of many messages come at once, and those that came back are told apart.
#[test]
fn among_many_exactly_those_that_came_back_are_unroutable() {
    run("told apart", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "bound").await;
        let calls: Vec<Vec<Message>> = (0..6)
            .map(|call| {
                let topic = |n| if (n + call) % 3 == 0 { "nobody" } else { "bound" };
                (0..150).map(|n| message(topic(n))).collect()
            })
            .collect();
        let publisher = rabbit.publisher();
        let flying = calls.iter().map(|call| {
            let (publisher, call) = (publisher.clone(), call.clone());
            tokio::spawn(async move { publisher.publish(&call).await })
        });
        let flying: Vec<_> = flying.collect();
        let mut bound = Vec::new();
        for (call, flown) in calls.iter().zip(flying) {
            let outcomes = flown.await.expect("ends").expect("reachable");
            for (message, outcome) in call.iter().zip(&outcomes) {
                let expected = message.topic == "bound";
                assert_eq!(is_accepted(outcome), expected, "{} {outcome:?}", message.topic);
                assert_eq!(is_unroutable(outcome), !expected, "{} {outcome:?}", message.topic);
            }
            bound.extend(call.iter().filter(|m| m.topic == "bound").map(|m| m.id));
        }
        arrive(subscriber.as_mut(), &bound).await;
    });
}

/// A queue that confirms at once: what came back is confirmed together with what did not.
#[test]
fn those_that_came_back_are_told_apart_in_one_confirmation() {
    run("told apart at once", async {
        let vhost = vhost().await;
        vhost.declare_exchange("quick", "topic").await;
        vhost.declare_queue("quick", &json!({ "x-max-length": 0 })).await;
        vhost.bind("quick", "quick", "#").await;
        let rabbit = open(&vhost.url());
        for round in 0..20 {
            let topic = |n: usize| if (n + round).is_multiple_of(5) { "nobody" } else { "quick" };
            let call: Vec<_> = (0..200).map(|n| message(topic(n))).collect();
            for (stated, outcome) in call.iter().zip(publish(&rabbit, &call).await) {
                let expected = stated.topic == "quick";
                assert_eq!(is_accepted(&outcome), expected, "{} {outcome:?}", stated.topic);
            }
        }
    });
}

/// A binding by kind: other kinds of the same topic are unroutable.
#[test]
fn a_route_is_a_topic_and_a_kind() {
    run("kinds", async {
        let vhost = vhost().await;
        vhost.declare_exchange("orders", "topic").await;
        vhost.declare_queue("some", &json!({ "x-queue-type": "quorum" })).await;
        vhost.bind("orders", "some", "order.placed").await;
        let rabbit = open_with(&vhost.url(), |options| options.declare = false);
        let (mut placed, mut other) = (message("orders"), message("orders"));
        placed.kind = "order.placed".into();
        other.kind = "order.cancelled".into();
        let outcomes = publish(&rabbit, &[other, placed]).await;
        assert!(is_unroutable(&outcomes[0]) && is_accepted(&outcomes[1]), "{outcomes:?}");
    });
}

/// On a locked-down broker a missing exchange is its own topic's affair.
#[test]
fn a_missing_exchange_is_named_and_holds_no_other_topic_back() {
    run("missing exchange", async {
        let vhost = vhost().await;
        vhost.declare_exchange("there", "topic").await;
        vhost.declare_queue("q", &json!({})).await;
        vhost.bind("there", "q", "#").await;
        let rabbit = open_with(&vhost.url(), |options| options.declare = false);
        let call = [message("there"), message("missing"), message("there")];
        let outcomes = publish(&rabbit, &call).await;
        assert!(is_accepted(&outcomes[0]) && is_accepted(&outcomes[2]), "{outcomes:?}");
        assert!(is_unroutable(&outcomes[1]), "{outcomes:?}");
        assert!(format!("{:?}", outcomes[1]).contains("'missing' does not exist"), "{outcomes:?}");
        assert!(vhost.describe("exchanges", "missing").await.is_none(), "it was not declared");
        vhost.declare_exchange("missing", "fanout").await;
        vhost.bind("missing", "q", "").await;
        eventually("it is found", async || is_accepted(&publish(&rabbit, &call).await[1])).await;
    });
}

/// An exchange that goes away while messages are sent: no answer is made up, and it comes back.
#[test]
fn an_exchange_that_is_deleted_meanwhile_is_declared_again() {
    run("deleted exchange", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        accept(&rabbit, &[message("orders")]).await;
        vhost.delete_exchange("orders").await;
        let call: Vec<_> = (0..20).map(|_| message("orders")).collect();
        let outcomes = publish(&rabbit, &call).await;
        assert!(outcomes.iter().all(is_unknown), "{outcomes:?}");
        let outcomes = publish(&rabbit, &call).await;
        assert!(outcomes.iter().all(is_unroutable), "the binding is gone as well: {outcomes:?}");
        vhost.bind("orders", "orders.one", "#").await;
        accept(&rabbit, &call).await;
        arrive(subscriber.as_mut(), &ids(&call)).await;
    });
}

/// An exchange of another type is used as it is.
#[test]
fn an_exchange_that_is_there_already_is_used_as_it_is() {
    run("other type", async {
        let vhost = vhost().await;
        vhost.declare_exchange("orders", "fanout").await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let stated = message("orders");
        accept(&rabbit, std::slice::from_ref(&stated)).await;
        arrive(subscriber.as_mut(), &[stated.id]).await;
    });
}

/// Without the right to write, a topic is refused for now and the others go on; nobody's channel
/// is closed over it again and again.
#[test]
fn a_missing_right_to_write_is_named_and_holds_no_other_topic_back() {
    run("refused rights", async {
        let vhost = vhost().await;
        let admin = open(&vhost.url());
        for topic in ["open", "closed"] {
            drop(subscribe(&admin, topic).await);
        }
        let user = format!("{}-writer", vhost.name);
        vhost.user(&user, "pw", "", "^open$", "").await;
        let rabbit = open(&vhost.url_as(&user, "pw"));
        let call = [message("open"), message("closed"), message("open")];
        eventually("it is known what is refused", async || {
            let outcomes = publish(&rabbit, &call).await;
            assert!(!is_accepted(&outcomes[1]), "{outcomes:?}");
            !outcomes.iter().any(is_unknown)
        })
        .await;
        let until = Instant::now() + Duration::from_secs(7);
        while Instant::now() < until {
            let outcomes = publish(&rabbit, &call).await;
            assert!(is_accepted(&outcomes[0]) && is_accepted(&outcomes[2]), "{outcomes:?}");
            let refusal = refusal(&outcomes[1]);
            assert!(!refusal.permanent && refusal.detail.contains("'closed'"), "{refusal:?}");
            assert!(refusal.detail.contains("write"), "{refusal:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        vhost.permit(&user, "", ".*", "").await;
        eventually("it is let in", async || is_accepted(&publish(&rabbit, &call).await[1])).await;
    });
}

/// Without the right to declare, what is there is used and what is missing is refused.
#[test]
fn a_missing_right_to_declare_matters_only_where_something_is_missing() {
    run("no configure", async {
        let vhost = vhost().await;
        drop(subscribe(&open(&vhost.url()), "there").await);
        let user = format!("{}-poor", vhost.name);
        vhost.user(&user, "pw", "", ".*", ".*").await;
        let rabbit = open(&vhost.url_as(&user, "pw"));
        let outcomes = publish(&rabbit, &[message("missing"), message("there")]).await;
        assert!(is_accepted(&outcomes[1]), "{outcomes:?}");
        let refusal = refusal(&outcomes[0]);
        assert!(!refusal.permanent && refusal.detail.contains("'missing'"), "{refusal:?}");
        let mut subscriber = subscribe(&rabbit, "there").await;
        assert_eq!(one(subscriber.as_mut()).await.attempt, 1);
    });
}

/// A message over the broker's own limit closes the channel: it is refused for good, and those that
/// flew with it are sent again.
#[test]
fn a_message_over_the_brokers_limit_is_refused_for_good() {
    run("over the limit", async {
        let vhost = strict().await.vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let mut large = message("orders");
        large.payload = Payload::bytes(vec![1; LEAST + 1]);
        let call = [keyed("orders", "a", "1"), large, keyed("orders", "b", "2")];
        let mut outcomes = publish(&rabbit, &call).await;
        assert!(refusal(&outcomes[1]).permanent, "{outcomes:?}");
        assert!(!is_accepted(&outcomes[2]), "the channel ended before it: {outcomes:?}");
        outcomes = publish(&rabbit, &call).await;
        assert!(is_accepted(&outcomes[0]) && is_accepted(&outcomes[2]), "{outcomes:?}");
        let refusal = refusal(&outcomes[1]);
        assert!(refusal.permanent && refusal.detail.contains(&LEAST.to_string()), "{refusal:?}");
        arrive(subscriber.as_mut(), &[call[0].id, call[2].id]).await;
    });
}

/// What the contract refuses never goes on the wire.
#[test]
fn what_is_no_message_is_refused_for_good() {
    run("no message", async {
        let vhost = vhost().await;
        let rabbit = open(&vhost.url());
        let mut bad = message("orders");
        bad.headers.insert("posthaste-key", "forged");
        let outcomes = publish(&rabbit, &[bad, message("with space")]).await;
        assert!(outcomes.iter().all(|outcome| refusal(outcome).permanent), "{outcomes:?}");
    });
}

/// A small window is filled again and again, and everything arrives.
#[test]
fn more_than_the_window_is_sent_piece_by_piece() {
    run("window", async {
        let vhost = vhost().await;
        let rabbit = open_with(&vhost.url(), |options| {
            options.window = 3;
            options.window_bytes = 1;
        });
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let call: Vec<_> = (0..40).map(|n| keyed("orders", "a", &"x".repeat(n * 4096))).collect();
        accept(&rabbit, &call).await;
        arrive(subscriber.as_mut(), &ids(&call)).await;
    });
}

/// Rights on routing keys: the kinds of a topic that are open go on, whatever is closed.
#[test]
fn a_kind_that_may_not_be_written_holds_no_other_kind_back() {
    run("refused kind", async {
        let vhost = vhost().await;
        let admin = open(&vhost.url());
        let mut subscriber = subscribe(&admin, "orders").await;
        let user = format!("{}-kinds", vhost.name);
        vhost.user(&user, "pw", "", "^orders$", "").await;
        let path = format!("/api/topic-permissions/{}/{user}", vhost.name);
        let rights = json!({ "exchange": "orders", "write": "^open$", "read": ".*" }).to_string();
        let (status, answer) = vhost.server().api("PUT", &path, &rights).await;
        assert!((200..300).contains(&status), "{answer}");
        let rabbit = open(&vhost.url_as(&user, "pw"));
        let of_kind = |kind: &str| Message { kind: kind.to_owned(), ..message("orders") };
        let call = [of_kind("open"), of_kind("closed"), of_kind("open"), of_kind("closed")];
        eventually("it is known what is refused", async || {
            let outcomes = publish(&rabbit, &call).await;
            !outcomes.iter().any(is_unknown)
        })
        .await;
        let until = Instant::now() + Duration::from_secs(7);
        while Instant::now() < until {
            let outcomes = publish(&rabbit, &call).await;
            assert!(is_accepted(&outcomes[0]) && is_accepted(&outcomes[2]), "{outcomes:?}");
            for closed in [1, 3] {
                let refusal = refusal(&outcomes[closed]);
                assert!(!refusal.permanent && refusal.detail.contains("'closed'"), "{refusal:?}");
            }
        }
        vhost.server().api("DELETE", &path, "").await;
        eventually("it is open again", async || {
            publish(&rabbit, &call).await.iter().all(is_accepted)
        })
        .await;
        arrive(subscriber.as_mut(), &ids(&call)).await;
    });
}

/// Names of exchanges and queues may get a prefix; the topic stays what it is.
#[test]
fn a_prefix_is_for_the_broker_only() {
    run("prefix", async {
        let vhost = vhost().await;
        let rabbit = open_with(&vhost.url(), |options| options.prefix = "demo-".into());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        accept(&rabbit, &[message("orders")]).await;
        assert_eq!(one(subscriber.as_mut()).await.message.topic, "orders");
        for queue in ["demo-orders.one", "demo-orders.one.dead"] {
            let queue = vhost.describe("queues", queue).await.expect("it is there");
            assert_eq!(queue["type"], "quorum");
        }
        assert!(vhost.describe("exchanges", "demo-orders").await.is_some());
    });
}
