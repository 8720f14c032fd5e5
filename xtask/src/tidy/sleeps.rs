//! The engine waits for events. Where it waits for time, time is what it is about, and the reason
//! stands here.

use super::tree::Tree;
use super::{Finding, rust};

const ROOMS: [&str; 3] = ["crates/", "databases/", "brokers/"];

/// Rooms inside of those that are no engine: the laws, which wait for what they look at, with a
/// deadline; the demo, which plays a service and its misfortunes in real time; the faults of the
/// test kit, of which some are delays.
const STAGES: [&str; 3] = [
    "crates/posthaste-conformance/",
    "crates/posthaste-cli/src/command/demo/",
    "crates/posthaste/src/testing/",
];

/// Files that may wait for time, and why.
const ALLOWED: [(&str, &str); 19] = [
    ("crates/posthaste/src/consumer/shell.rs", "timers of deadlines, renewals and backoff"),
    ("crates/posthaste/src/relay/shell.rs", "the timer that the relay's decisions ask for"),
    ("crates/posthaste/src/relay/team.rs", "the timer of the next look at the lanes"),
    ("brokers/posthaste-rabbitmq/src/grip.rs", "the pause before a dead letter is written again"),
    ("brokers/posthaste-rabbitmq/src/subscriber.rs", "when a retry that is held becomes due"),
    ("crates/posthaste-bus/src/connection.rs", "how long the last answers of the owner are read"),
    ("crates/posthaste-bus/src/owned.rs", "the pause between two tries to open a socket"),
    ("crates/posthaste-bus/src/link.rs", "how long a client waits for an answer of the owner"),
    (
        "crates/posthaste-bus/src/shared.rs",
        "how long a client waits before it seeks an owner again",
    ),
    ("crates/posthaste-bus/src/keeper.rs", "the pause between two tries to own the file"),
    ("crates/posthaste-bus/src/server.rs", "the pause when no more sockets can be opened"),
    ("crates/posthaste-cli/src/command/run.rs", "the pause between two looks for what is absent"),
    ("crates/posthaste-cli/src/command/subscribe.rs", "the pause while the broker is away"),
    ("crates/posthaste-http/src/serve.rs", "the pause when no more sockets can be opened"),
    (
        "databases/posthaste-postgres/src/partitions.rs",
        "the pause before a lock is asked for again",
    ),
    ("databases/posthaste-postgres/src/signal.rs", "the gap between two hints, and reconnecting"),
    ("databases/posthaste-sqlite/src/schema.rs", "another process's migration makes no sound"),
    ("databases/posthaste-sqlite/src/watch.rs", "another process's commit makes no sound"),
    ("databases/posthaste-sqlite/src/signal.rs", "another process's commit makes no sound"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    find(tree, &ALLOWED)
}

fn find(tree: &Tree, allowed: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for file in tree.ending(".rs").filter(|file| is_engine(&file.path)) {
        let code = rust::code(&file.text);
        let sleeps = ["sleep(", "sleep_until("].map(|word| rust::lines_with(&code, word)).concat();
        if allowed.iter().any(|(path, _)| *path == file.path) && !sleeps.is_empty() {
            used.push(file.path.as_str());
            continue;
        }
        for line in sleeps {
            let what =
                "a sleep: wait for the event, or give the reason in xtask/src/tidy/sleeps.rs";
            findings.push(Finding::new(&file.path, line, what));
        }
    }
    for (path, _) in allowed.iter().filter(|(path, _)| !used.contains(path)) {
        findings.push(Finding::new(path, 0, "it does not sleep any more: take it from the list"));
    }
    findings
}

fn is_engine(path: &str) -> bool {
    let in_source = path.contains("/src/") && ROOMS.iter().any(|room| path.starts_with(room));
    let in_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
    in_source && !in_tests && !STAGES.iter().any(|stage| path.starts_with(stage))
}

#[test]
fn a_sleep_without_a_reason_and_a_reason_without_a_sleep_are_found() {
    let sleep = "fn f() {\n    std::thread::sleep(a);\n    tokio::time::sleep_until(b).await\n}";
    let tree = Tree::of(&[
        ("crates/a/src/b.rs", sleep),
        ("crates/a/src/timer.rs", sleep),
        ("crates/a/src/b/tests.rs", sleep),
        ("crates/a/tests/b.rs", sleep),
        ("crates/posthaste-conformance/src/b.rs", sleep),
        ("databases/c/src/d.rs", "// sleep(1)\nfn sleepy() {}"),
    ]);
    let allowed = [("crates/a/src/timer.rs", "a timer"), ("databases/c/src/d.rs", "stale")];
    let findings = find(&tree, &allowed);
    let places: Vec<_> = findings.iter().map(|found| (found.path.as_str(), found.line)).collect();
    let expected =
        [("crates/a/src/b.rs", 2), ("crates/a/src/b.rs", 3), ("databases/c/src/d.rs", 0)];
    assert_eq!(places, expected);
}
