//! An owner that is killed at each step of a group: this binary, started again, plays it and ends
//! itself before a statement. What it was told to be accepted is there afterwards, in its order,
//! and what it had completed does not come again.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use posthaste_core::{Broker, Message, MessageId, Outcome, Subscription, Timestamp};

use crate::bus::Bus;
use crate::options::BusOptions;
use crate::store::fault::{Faulty, KILL};

const FOLDER: &str = "POSTHASTE_BUS_KILLED_FOLDER";
const STEP: &str = "POSTHASTE_BUS_KILLED_STEP";
/// What an owner does in a group, and what it does first in the next one.
const STEPS: [&str; 8] = [
    "BEGIN",
    "SELECT instance",
    "SAVEPOINT",
    "INSERT INTO message",
    "RELEASE",
    "INSERT OR REPLACE INTO exception",
    "UPDATE subscription SET low",
    "COMMIT",
];
/// Messages that are published before the owner is to be killed.
const BEFORE: usize = 5;
const LIMIT: Duration = Duration::from_secs(30);

fn open(folder: &Path) -> Bus {
    let url = format!("bus://{}/bus.db", folder.display());
    Bus::open(&url, BusOptions::default()).expect("opened")
}

fn say(what: &str, number: usize) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "\n> {what} {number}").expect("said");
    output.flush().expect("said");
}

/// Publishes, completes and sends back until it is killed.
async fn play(folder: &Path, step: &'static str) {
    let bus = open(folder);
    let mut reader = bus.subscriber(&Subscription::new("orders", "one")).await.expect("opened");
    let mut fault = None;
    for number in 0..BEFORE * 10 {
        let id = MessageId::from_bytes([7; 16]);
        let at = Timestamp::from_millis(0);
        let mut message = Message::new(id, "orders", "order.placed", number.to_string(), at);
        message.key = Some("k".to_owned());
        let said = bus.publisher().publish(&[message]).await.expect("available");
        assert!(matches!(said[..], [Outcome::Accepted(_)]), "{said:?}");
        say("accepted", number);
        if number == BEFORE {
            fault = Some(Faulty::new(&folder.join("bus.db"), step, KILL, 1));
        }
        if number % 2 == 1 {
            drop(reader.receive(1).await.expect("received"));
            let delivery = reader.receive(1).await.expect("received").remove(0);
            let text = delivery.message.payload.as_text().expect("text").to_owned();
            delivery.complete().await.expect("completed");
            say("completed", text.parse().expect("a number"));
        }
    }
    drop(fault);
}

fn numbers(said: &str, what: &str) -> Vec<usize> {
    let lines = said.lines().filter_map(|line| line.strip_prefix("> ")?.strip_prefix(what));
    lines.map(|number| number.trim().parse().expect("a number")).collect()
}

#[test]
fn an_owner_that_is_killed_at_any_step_has_kept_what_it_said() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let (Some(folder), Ok(step)) = (std::env::var_os(FOLDER), std::env::var(STEP)) {
        let step = STEPS.into_iter().find(|one| *one == step).expect("a step");
        runtime.block_on(play(Path::new(&folder), step));
        return;
    }
    for step in STEPS {
        let folder = tempfile::tempdir().expect("a folder");
        let ended = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "--nocapture"])
            .arg("engine::killed::an_owner_that_is_killed_at_any_step_has_kept_what_it_said")
            .env(FOLDER, folder.path())
            .env(STEP, step)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(ended.status.code().is_none(), "{step}: {ended:?}");
        let (accepted, completed) = (numbers(&said, "accepted"), numbers(&said, "completed"));
        assert!(accepted.len() > BEFORE && accepted.len() < BEFORE * 10, "{step}: {accepted:?}");
        let arrived = runtime.block_on(async {
            let bus = open(folder.path());
            let subscription = Subscription::new("orders", "one");
            let mut reader = bus.subscriber(&subscription).await.expect("opened");
            let mut arrived = Vec::new();
            while bus.status().await.expect("status")[0].active > 0 {
                let received = tokio::time::timeout(LIMIT, reader.receive(1)).await;
                let delivery = received.expect("in time").expect("received").remove(0);
                let text = delivery.message.payload.as_text().expect("text").to_owned();
                arrived.push(text.parse::<usize>().expect("a number"));
                delivery.complete().await.expect("completed");
            }
            bus.close().await;
            arrived
        });
        // The last settlement may have been kept without anybody having been told.
        let first = arrived.first().copied().unwrap_or(accepted.len());
        assert!((completed.len()..=completed.len() + 1).contains(&first), "{step}: {arrived:?}");
        let next = first + arrived.len();
        assert_eq!(arrived, (first..next).collect::<Vec<_>>(), "{step}");
        assert!((accepted.len()..=accepted.len() + 1).contains(&next), "{step}: {arrived:?}");
    }
}
