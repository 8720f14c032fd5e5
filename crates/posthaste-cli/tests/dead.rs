//! `dead`: what the relay gave up on, what a consumer of the bus gave up on, and what operators do.

use posthaste_bus::{Bus, BusOptions};
use posthaste_core::{Broker, Subscription};
use serde_json::{Value, json};

use crate::place::{Place, eventually};

/// A database with dead letters for these topics: rows that are no messages, written past the
/// checks of the table, which the relay has found.
fn with_dead_letters(topics: &[&str]) -> Place {
    let place = Place::ready();
    let sql = place.sql();
    sql.execute_batch("pragma ignore_check_constraints = on").unwrap();
    for topic in topics {
        let row = "insert into posthaste_outbox (topic, kind, key, payload) \
                   values (?1, 'no kind', 'k\u{1b}[31m', 'body')";
        sql.execute(row, [topic]).unwrap();
    }
    let relay = place.start(["run"]);
    eventually("the relay gives them up", || {
        (list(&place, &[]).len() == topics.len()).then_some(())
    });
    assert_eq!(relay.stop(), 0);
    place
}

fn list(place: &Place, more: &[&str]) -> Vec<Value> {
    let arguments = ["dead", "list", "--json"].into_iter().chain(more.iter().copied());
    let listed = place.run(arguments).with(0).json();
    listed["dead_letters"].as_array().unwrap().clone()
}

fn reference(dead: &Value) -> &str {
    dead["reference"].as_str().unwrap()
}

#[test]
fn they_are_listed_and_shown_with_all_that_is_known() {
    let place = with_dead_letters(&["a", "b"]);
    let dead = list(&place, &["--topic", "a"]);
    assert_eq!(dead.len(), 1);
    for field in ["reference", "origin", "id", "topic", "kind", "key", "reason", "dead_at"] {
        assert!(!dead[0][field].is_null(), "{field}: {}", dead[0]);
    }
    assert_eq!(dead[0]["reason"], "malformed");
    assert_eq!(dead[0]["origin"], json!({"side": "relay", "name": "default"}));
    let first = list(&place, &["--limit", "1"]);
    let rest = list(&place, &["--after", reference(&first[0])]);
    assert_eq!((first.len(), rest.len()), (1, 1));
    let shown = place.run(["dead", "show", reference(&dead[0]), "--json"]).with(0).json();
    assert_eq!(shown["payload"], "body");
    assert!(shown["history"].is_array() && shown["headers"].is_object(), "{shown}");
    let by_id = place.run(["dead", "show", dead[0]["id"].as_str().unwrap(), "--json"]).with(0);
    assert_eq!(by_id.json(), shown);
    let payload = place.run(["dead", "show", reference(&dead[0]), "--payload"]).with(0);
    assert_eq!(payload.out, "body");
    for text in [place.run(["dead", "list"]), place.run(["dead", "show", reference(&dead[0])])] {
        assert!(!text.with(0).out.contains('\u{1b}'));
    }
}

#[test]
fn one_that_is_not_there_is_said_and_nothing_else_is_touched() {
    let place = with_dead_letters(&["a"]);
    let there = reference(&list(&place, &[])[0]).to_owned();
    for arguments in [
        vec!["dead", "show", "999"],
        vec!["dead", "show", "00000000-0000-7000-8000-000000000000"],
        vec!["dead", "discard", &there, "999", "--reason", "r"],
        vec!["dead", "repost", &there, "no-number"],
    ] {
        let ended = place.run(arguments).with(1);
        assert!(ended.err.contains("there is no dead letter"), "{ended:?}");
    }
    assert_eq!(list(&place, &[]).len(), 1);
}

#[test]
fn a_discard_needs_a_reason_and_is_recorded() {
    let place = with_dead_letters(&["a", "b"]);
    let dead = list(&place, &[]);
    place.run(["dead", "discard", reference(&dead[0])]).with(2);
    place.run(["dead", "discard", reference(&dead[0]), "--reason", " "]).with(2);
    assert_eq!(list(&place, &[]).len(), 2);
    let arguments = ["dead", "discard", reference(&dead[0]), "--reason", "a test", "--json"];
    let done = place.run(arguments.into_iter().chain(["--actor", "ann"])).with(0).json();
    assert_eq!(done, json!({"discarded": [reference(&dead[0])], "actor": "ann"}));
    assert_eq!(list(&place, &[]), dead[1..]);
    let recorded: i64 = place
        .sql()
        .query_row(
            "select count(*) from posthaste_audit where actor = 'ann' and reason = 'a test'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(recorded, 1);
}

#[test]
fn many_need_a_yes_and_are_shown_before() {
    let place = with_dead_letters(&["a", "a", "b"]);
    let preview = place.run(["dead", "discard", "--topic", "a", "--reason", "r"]).with(2);
    assert_eq!(preview.out.lines().count(), 3, "{preview:?}");
    assert!(preview.err.contains("that match: 2;"), "{preview:?}");
    assert!(preview.err.contains("--yes"), "{preview:?}");
    let preview = place.run(["dead", "repost", "--all", "--json"]).with(2);
    assert_eq!(preview.json()["count"], json!(3));
    assert_eq!(list(&place, &[]).len(), 3);
    let done = place.run(["dead", "discard", "--topic", "a", "--reason", "r", "--yes"]).with(0);
    assert_eq!(done.out.lines().count(), 2, "{done:?}");
    let left = list(&place, &[]);
    assert_eq!((left.len(), &left[0]["topic"]), (1, &json!("b")));
    place.run(["dead", "repost", "--all", "--yes"]).with(0);
    assert_eq!(list(&place, &[]).len(), 0);
    place.run(["dead", "repost"]).with(2);
}

#[test]
fn those_of_the_bus_are_listed_and_reposted_as_well() {
    let place = Place::ready();
    place.run(["publish", "orders", "order.placed", "x", "--key", "k"]).with(0);
    let relay = place.start(["run"]);
    give_up_one(&place, "shipping");
    assert_eq!(relay.stop(), 0);
    let dead = list(&place, &["--topic", "orders"]);
    assert_eq!(dead.len(), 1);
    assert!(reference(&dead[0]).starts_with("orders/shipping#"), "{}", dead[0]);
    assert_eq!((&dead[0]["reason"], &dead[0]["detail"]), (&json!("broken"), &json!("no address")));
    let shown = place.run(["dead", "show", reference(&dead[0]), "--json"]).with(0).json();
    assert_eq!(shown["payload"], "x");
    place.run(["dead", "repost", reference(&dead[0])]).with(0);
    assert!(list(&place, &[]).is_empty());
    let arguments = ["subscribe", "orders", "--as", "shipping", "--count", "1", "--json"];
    let again = place.run(arguments).with(0).json();
    assert_eq!(again["id"], dead[0]["id"]);
}

#[test]
fn a_broken_bus_does_not_hide_those_of_the_database() {
    let place = with_dead_letters(&["a"]);
    for file in ["bus.db", "bus.db-wal", "bus.db-shm"] {
        drop(std::fs::remove_file(place.path(file)));
    }
    place.write("bus.db", &"not a bus\n".repeat(500));
    let listed = place.run(["dead", "list", "--json"]).with(1);
    assert_eq!(listed.json()["dead_letters"].as_array().unwrap().len(), 1);
    assert!(listed.told()["warning"].as_str().unwrap().contains("bus.db"), "{listed:?}");
    // An act on all of them must not quietly mean half of them.
    place.run(["dead", "repost", "--all", "--yes"]).with(1);
    let dead = listed.json()["dead_letters"][0].clone();
    place.run(["dead", "repost", reference(&dead)]).with(0);
}

/// Receives one message as a consumer of this name and makes it a dead letter of the bus.
fn give_up_one(place: &Place, name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bus = Bus::open(&place.bus_url(), BusOptions::default()).unwrap();
        let subscription = Subscription::new("orders", name);
        let mut subscriber = loop {
            match bus.subscriber(&subscription).await {
                Ok(subscriber) => break subscriber,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        };
        let delivery = loop {
            match subscriber.receive(1).await {
                Ok(mut deliveries) => match deliveries.pop() {
                    Some(delivery) => break delivery,
                    None => continue,
                },
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        };
        delivery.dead_letter("broken", "no address").await.unwrap();
        drop(subscriber);
        bus.close().await;
    });
}

#[test]
fn what_waits_for_its_consumer_is_shown_and_not_reposted_again() {
    let place = with_dead_letters(&["a"]);
    let waits = "insert into posthaste_dead_letter (side, name, id, topic, kind, headers, payload, \
                 reason, detail, attempts, dead_at, state) values ('consumer', 'retired', \
                 '01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d', 'b', 'placed', '{}', '', 'rejected', \
                 'no', 1, 1790000000000, 'reposted')";
    place.sql().execute(waits, []).unwrap();
    let waiting = || list(&place, &["--topic", "b"]);
    assert_eq!(waiting()[0]["reposted"], true);
    assert!(place.run(["dead", "list"]).with(0).out.contains("rejected (reposted)"));
    let preview = place.run(["dead", "repost", "--all", "--json"]).with(2);
    assert_eq!(preview.json()["count"], 1, "only the other one");
    place.run(["dead", "repost", "--all", "--yes"]).with(0);
    let letter = waiting().remove(0);
    let again = place.run(["dead", "repost", reference(&letter)]).with(1);
    assert!(again.err.contains("waits for the consumer 'retired'"), "{}", again.err);
    place.run(["dead", "discard", reference(&letter), "--reason", "gone"]).with(0);
    assert_eq!(waiting(), Vec::<Value>::new());
}
