//! `demo`: kept when it is left alone, broken when a rule is, and nothing left behind.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::place::{Ended, Place, Running, eventually, finish, skip};

/// The demo with these arguments, with its folder inside this place.
fn command(place: &Place, arguments: &[&str]) -> Command {
    let arguments = ["demo"].into_iter().chain(arguments.iter().copied());
    let mut command = place.command(arguments);
    command.env("TMPDIR", place.path(""));
    command
}

fn demo(place: &Place, arguments: &[&str]) -> Ended {
    finish(command(place, arguments), b"")
}

/// The object in the last line.
fn result(ended: &Ended) -> Value {
    let last = ended.out.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// Folders of demos.
fn folders(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("posthaste-demo-")).collect()
}

/// Processes that were started with something in this place, where the system tells.
fn processes(place: &Place) -> Option<usize> {
    let here = place.path("").display().to_string();
    let entries = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let running = entries.filter(|entry| {
        // A process may end while it is looked at.
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&here)
    });
    Some(running.count())
}

/// Waits until the demo has started its first child.
fn begun(place: &Place, demo: &Running) {
    demo.tells("committed");
    eventually("the child runs", || processes(place).filter(|number| *number > 0));
}

#[test]
fn the_promise_is_kept_over_kills_and_nothing_is_left_behind() {
    let place = Place::new();
    let ended =
        demo(&place, &["--json", "--messages", "300", "--kills", "4", "--seed", "7"]).with(0);
    let result = result(&ended);
    for (name, expected) in [
        ("committed", 300),
        ("delivered", 300),
        ("effects", 300),
        ("kills", 4),
        ("lost", 0),
        ("phantom", 0),
        ("order_violations", 0),
        ("double_effects", 0),
        ("seed", 7),
    ] {
        assert_eq!(result[name], expected, "{name} in {result}");
    }
    assert_eq!(result["verdict"], "kept");
    for name in ["rolled_back", "duplicates_absorbed"] {
        assert!(result[name].is_u64(), "{name} in {result}");
    }
    assert!(result["seconds"].as_f64().is_some_and(|seconds| seconds < 60.0), "{result}");
    assert_eq!(folders(&place), [""; 0]);
}

#[test]
fn a_person_is_told_what_was_done_and_where_the_files_are() {
    let place = Place::new();
    let ended = demo(&place, &["--messages", "60", "--kills", "1", "--keep"]).with(0);
    for words in ["What was done", "kill -9 once", "What was checked", "KEPT", "Try next"] {
        assert!(ended.out.contains(words), "'{words}' in {}", ended.out);
    }
    assert!(ended.err.contains("committed"), "progress: {}", ended.err);
    let [folder] = folders(&place).try_into().expect("one folder");
    assert!(ended.out.contains(&folder), "{folder} in {}", ended.out);
    for file in ["app.db", "bus.db", "shipping.db", "billing.db", "history.jsonl"] {
        assert!(place.path(&folder).join(file).exists(), "{file}");
    }
    let history = place.path(&folder).join("history.jsonl").display().to_string();
    let report = place.run(["verify", &history, "--acknowledged", "60", "--json"]).with(0).json();
    assert_eq!(report["counts"]["committed"], 60, "{report}");
    assert_eq!((&report["counts"]["faults"], &report["verdict"]), (&1.into(), &"kept".into()));
    let bus = format!("bus://{}", place.path(&folder).join("bus.db").display());
    let database = format!("sqlite://{}", place.path(&folder).join("app.db").display());
    let status = place.run(["status", "--database", &database, "--broker", &bus, "--json"]);
    let status = status.with(0).json();
    assert_eq!((&status["backlog"], &status["dead_letters"]), (&0.into(), &0.into()), "{status}");
}

/// Runs the demo with one rule broken; one of these counts must show it.
fn is_noticed(name: &str, counts: &[&str]) {
    let place = Place::new();
    let arguments = ["--json", "--keep", "--messages", "400", "--kills", "10", "--sabotage", name];
    let ended = demo(&place, &arguments).with(1);
    let result = result(&ended);
    assert_eq!(result["verdict"], "broken", "{result}");
    assert_eq!(result["sabotage"], name);
    let found = counts.iter().any(|count| result[*count].as_u64().is_some_and(|found| found > 0));
    assert!(found, "{counts:?} in {result}");
    let [folder] = folders(&place).try_into().expect("one folder");
    let history = place.path(&folder).join("history.jsonl").display().to_string();
    let report = place.run(["verify", &history, "--json"]).with(1).json();
    for count in ["lost", "phantom", "order_violations", "double_effects"] {
        assert_eq!(report["counts"][count], result[count], "{count} in {report}");
    }
}

#[test]
fn settling_before_the_confirm_is_noticed() {
    is_noticed("settle-before-confirm", &["lost"]);
}

#[test]
fn committing_before_the_inbox_is_noticed() {
    is_noticed("commit-before-inbox", &["double_effects"]);
}

#[test]
fn a_cursor_that_skips_is_noticed() {
    is_noticed("cursor-that-skips", &["lost"]);
}

#[test]
fn settling_before_the_commit_is_noticed() {
    is_noticed("ack-before-commit", &["lost"]);
}

#[test]
fn overtaking_is_noticed() {
    is_noticed("reorder", &["order_violations"]);
}

#[test]
fn inventing_is_noticed() {
    is_noticed("invent", &["phantom"]);
}

#[test]
fn another_identity_is_noticed() {
    is_noticed("new-identity", &["phantom"]);
}

#[test]
fn help_lists_every_sabotage_and_hides_the_child() {
    let place = Place::new();
    let help = place.run(["demo", "--help"]).with(0).out;
    let list = help.split("Possible values:").nth(1).unwrap_or_default();
    let names = list.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(':').next());
    let names: Vec<&str> = names.collect();
    let tested = [
        "settle-before-confirm",
        "commit-before-inbox",
        "cursor-that-skips",
        "ack-before-commit",
        "reorder",
        "invent",
        "new-identity",
    ];
    assert_eq!(names, tested, "each has a test of its own above");
    assert!(!place.run(["--help"]).with(0).out.contains("demo-node"));
}

#[test]
fn wrong_use_is_refused() {
    let place = Place::new();
    for wrong in [
        ["--messages", "0"],
        ["--messages", "many"],
        ["--kills", "-1"],
        ["--kills", "1001"],
        ["--seed", "x"],
        ["--sabotage", "nothing"],
    ] {
        let ended = demo(&place, &wrong).with(2);
        assert!(ended.err.contains(wrong[1]) && ended.out.is_empty(), "{ended:?}");
    }
    assert_eq!(folders(&place), [""; 0]);
}

#[test]
fn without_room_there_is_one_clear_error() {
    let place = Place::new();
    let mut command = command(&place, &["--json"]);
    command.env("TMPDIR", place.path("missing"));
    let ended = finish(command, b"").with(1);
    let told = ended.told();
    let error = told["error"].as_str().unwrap_or_default();
    assert!(error.contains("missing") && error.contains("TMPDIR"), "{error}");
}

#[test]
fn an_interrupt_leaves_neither_child_nor_folder() {
    let place = Place::new();
    let mut running = Running::start(command(&place, &["--messages", "50000"]));
    if processes(&place).is_none() {
        return skip("this system does not list its processes in /proc");
    }
    begun(&place, &running);
    running.signal(Signal::INT);
    assert_eq!(running.wait(), 1);
    assert_eq!((processes(&place), folders(&place)), (Some(0), Vec::new()));
}

#[test]
fn the_child_ends_when_its_parent_is_killed() {
    let place = Place::new();
    let running = Running::start(command(&place, &["--messages", "50000", "--kills", "0"]));
    if processes(&place).is_none() {
        return skip("this system does not list its processes in /proc");
    }
    begun(&place, &running);
    running.kill();
    eventually("the child is gone", || processes(&place).filter(|number| *number == 0));
}
