//! `status` and `outbox list`.

use serde_json::{Value, json};

use crate::place::Place;

#[test]
fn status_has_the_promised_figures() {
    let place = Place::ready();
    place.run(["publish", "t", "k", "x"]).with(0);
    let status = place.run(["status", "--json"]).with(0).json();
    assert_eq!(status["backlog"], json!(1), "{status}");
    assert!(status["oldest_unsent_seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(status["parked_keys"], json!(0));
    assert_eq!(status["held"], json!({"due": 0, "retry": 0, "behind": 0, "unroutable": 0}));
    assert_eq!(status["dead_letters"], json!(0));
    assert_eq!(status["leases"], json!([]));
    assert!(status["rates"]["sent_per_second"].is_number());
    let shown = place.run(["status"]).with(0);
    assert!(shown.out.contains("backlog       1"), "{shown:?}");
    assert!(shown.out.contains("posthaste run"), "nobody relays: {shown:?}");
}

#[test]
fn the_outbox_is_listed_in_pages() {
    let place = Place::ready();
    for topic in ["a", "b", "a"] {
        place.run(["publish", topic, "k", "x", "--key", "one"]).with(0);
    }
    let first = place.run(["outbox", "list", "--json", "--limit", "2"]).with(0).json();
    assert_eq!(first["entries"].as_array().unwrap().len(), 2);
    let after = first["next"].as_str().unwrap();
    let rest = place.run(["outbox", "list", "--json", "--after", after]).with(0).json();
    assert_eq!(rest["entries"].as_array().unwrap().len(), 1);
    assert_eq!(rest["next"], Value::Null);
    let entry = &rest["entries"][0];
    for (field, value) in [("topic", "a"), ("kind", "k"), ("key", "one"), ("state", "new")] {
        assert_eq!(entry[field], value, "{entry}");
    }
    assert_eq!(entry["id"].as_str().unwrap().len(), 36);
    assert!(entry["stated_at"].as_str().unwrap().ends_with('Z'));
    let of_topic = place.run(["outbox", "list", "--json", "--topic", "b"]).with(0).json();
    assert_eq!(of_topic["entries"].as_array().unwrap().len(), 1);
    let stuck = place.run(["outbox", "list", "--json", "--stuck"]).with(0).json();
    assert_eq!(stuck["entries"], json!([]));
    let table = place.run(["outbox", "list"]).with(0);
    assert_eq!(table.out.lines().count(), 4, "{table:?}");
}

#[test]
fn what_others_wrote_cannot_steer_the_terminal() {
    let place = Place::ready();
    place.run(["publish", "t", "k", "x", "--key", "\u{1b}[31mred\n"]).with(0);
    let table = place.run(["outbox", "list"]).with(0);
    assert!(!table.out.contains('\u{1b}') && table.out.lines().count() == 2, "{table:?}");
    assert!(table.out.contains(r"\u{1b}[31mred\n"), "{table:?}");
}
