//! `doctor`.

use serde_json::json;

use crate::place::Place;

#[test]
fn what_is_in_order_is_said_and_is_no_failure() {
    let place = Place::ready();
    let report = place.run(["doctor", "--json"]).with(0).json();
    assert_eq!(report["ok"], json!(true), "{report}");
    let subjects: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["subject"].as_str().unwrap())
        .collect();
    assert!(subjects.iter().any(|subject| subject.contains("database")), "{subjects:?}");
    assert!(subjects.iter().any(|subject| subject.contains("bus")), "{subjects:?}");
}

#[test]
fn a_problem_is_named_with_advice_and_is_a_failure() {
    let place = Place::new();
    place.write("posthaste.toml", &place.settings());
    let report = place.run(["doctor", "--json"]).with(1);
    assert_eq!(report.json()["ok"], json!(false), "{report:?}");
    assert!(report.out.contains("posthaste migrate"), "{report:?}");
    let shown = place.run(["doctor"]).with(1);
    assert!(shown.out.lines().any(|line| line.starts_with("problem")), "{shown:?}");
    place.run(["doctor", "--config", "/dev/null"]).with(2);
}

#[test]
fn a_bus_file_that_is_something_else_is_a_problem() {
    let place = Place::ready();
    place.write("bus.db", &"not a bus\n".repeat(500));
    let report = place.run(["doctor", "--json"]).with(1);
    assert!(report.out.contains("bus.db"), "{report:?}");
}
