//! `verify`: what is kept, broken, too little or no history at all, each with its exit status.

use crate::place::Place;

const BEGIN: &str = r#"{"at":0,"node":"a","saw":"history","version":1}
{"at":1,"node":"a","saw":"consumer_started","consumer":"shipping","topics":["orders"]}
{"at":2,"node":"a","saw":"commit","ids":["m1"],"answer":"committed"}
"#;
const ARRIVAL: &str = r#"{"at":1,"node":"b","saw":"history","version":1}
{"at":3,"node":"b","saw":"delivered","consumer":"shipping","id":"m1","digest":"2a"}
{"at":4,"node":"b","saw":"effect","consumer":"shipping","id":"m1","digest":"2a"}
"#;
const END: &str = r#"{"at":9,"node":"a","saw":"row","id":"m1","topic":"orders","digest":"2a"}
{"at":9,"node":"a","saw":"rest"}
"#;

/// A place with the files of two processes, the second as it is given.
fn place(arrival: &str) -> Place {
    let place = Place::new();
    place.write("service.jsonl", &format!("{BEGIN}{END}"));
    place.write("shipping.jsonl", arrival);
    place
}

#[test]
fn files_of_several_processes_are_judged_together() {
    let place = place(ARRIVAL);
    let shown = place.run(["verify", "service.jsonl", "shipping.jsonl"]).with(0);
    assert_eq!(shown.out.lines().last(), Some("kept"), "{shown:?}");
    let loss = shown.out.lines().find(|line| line.starts_with("I2 ")).unwrap_or_default();
    assert!(loss.contains("kept") && loss.contains("dead letter"), "{loss}");
    assert!(shown.out.contains("not looked at"), "{shown:?}");
    let report = place.run(["verify", "service.jsonl", "shipping.jsonl", "--json"]).with(0).json();
    assert_eq!((&report["verdict"], &report["counts"]["delivered"]), (&"kept".into(), &1.into()));
}

#[test]
fn what_is_broken_is_shown_with_its_smallest_evidence() {
    let place = place(ARRIVAL.lines().next().unwrap_or_default());
    let shown = place.run(["verify", "service.jsonl", "shipping.jsonl"]).with(1);
    let expected = "I2: message m1 was committed and never arrived at shipping (commit at 2 on a)";
    assert!(shown.out.lines().any(|line| line == expected), "{shown:?}");
    assert_eq!(shown.out.lines().last(), Some("broken"));
    let report = place.run(["verify", "service.jsonl", "shipping.jsonl", "--json"]).with(1).json();
    let broken: Vec<_> = report["invariants"].as_array().unwrap().iter().collect();
    let broken: Vec<_> = broken.into_iter().filter(|one| one["state"] == "broken").collect();
    assert_eq!((broken.len(), &broken[0]["label"]), (1, &"I2".into()), "{report}");
    assert_eq!(broken[0]["witness"]["subject"], "m1");
}

#[test]
fn a_history_below_a_floor_is_invalid() {
    let place = place(ARRIVAL);
    let files = ["verify", "service.jsonl", "shipping.jsonl"];
    let at = place.run(files.into_iter().chain(["--acknowledged", "1"]));
    at.with(0);
    for (floor, number) in [
        ("--acknowledged", "2"),
        ("--duplicates", "1"),
        ("--faults-that-hit", "30"),
        ("--failovers-per-minute", "1"),
    ] {
        let ended = place.run(files.into_iter().chain([floor, number])).with(3);
        assert_eq!(ended.out.lines().last(), Some("invalid"), "{floor}: {ended:?}");
    }
    place.run(files.into_iter().chain(["--faults-that-hit", "101"])).with(2);
}

#[test]
fn what_is_no_history_is_told_by_file_and_line() {
    let place = place(&ARRIVAL.replace(r#""digest":"2a""#, r#""digest":"zz""#));
    let ended = place.run(["verify", "service.jsonl", "shipping.jsonl"]).with(2);
    assert!(ended.err.contains("shipping.jsonl line 2: "), "{ended:?}");
    assert!(ended.out.is_empty(), "{ended:?}");
    let ended = place.run(["verify", "missing.jsonl"]).with(2);
    assert!(ended.err.contains("missing.jsonl"), "{ended:?}");
    place.run(["verify"]).with(2);
}

#[test]
fn events_of_another_version_are_told() {
    let more = r#"{"at":5,"node":"b","saw":"afterglow"}"#;
    let place = place(&format!("{ARRIVAL}{more}\n{{\"at\":6,\"no"));
    let ended = place.run(["verify", "service.jsonl", "shipping.jsonl"]).with(0);
    assert!(ended.err.contains("1 event 'afterglow'"), "{ended:?}");
    assert!(ended.out.contains("left unfinished: 1"), "{ended:?}");
}
