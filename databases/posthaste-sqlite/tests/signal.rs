//! The hint that something was committed: how soon, by whom, and what waiting for it costs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use posthaste_core::outbox::Signal;
use posthaste_core::transaction::{OutboxWriter, Transactional};

use crate::fixture::{Fixture, message};
use crate::python::python_is_there;

/// Waits for everything that is known already.
async fn quiet(database: &posthaste_sqlite::Sqlite) {
    while tokio::time::timeout(Duration::from_millis(100), database.changed()).await.is_ok() {}
}

async fn soon(database: &posthaste_sqlite::Sqlite, what: &str) {
    let waited = tokio::time::timeout(Duration::from_secs(5), database.changed()).await;
    waited.expect(what);
}

#[tokio::test]
async fn a_commit_through_the_handle_wakes_at_once() {
    let fixture = Fixture::new().await;
    let reader = fixture.database.clone();
    quiet(&reader).await;
    let mut tx = fixture.database.begin().await.expect("begin");
    fixture.database.enqueue(&mut tx, &[message(1)]).await.expect("enqueue");
    fixture.database.commit(tx).await.expect("commit");
    soon(&reader, "the commit").await;
    quiet(&reader).await;
    fixture.database.wake();
    soon(&reader, "the wake").await;
}

#[tokio::test]
async fn each_clone_hears_of_every_change() {
    let fixture = Fixture::new().await;
    let (one, other) = (fixture.database.clone(), fixture.database.clone());
    quiet(&one).await;
    quiet(&other).await;
    fixture.state(&[None]).await;
    soon(&one, "the first").await;
    soon(&other, "the second").await;
}

#[tokio::test]
async fn a_dropped_wait_loses_no_hint() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    quiet(database).await;
    for _ in 0..20 {
        fixture.state(&[None]).await;
        for polls in 0..30_u32 {
            let wait = database.changed();
            let step = Duration::from_micros(u64::from(polls) * 100);
            if tokio::time::timeout(step, wait).await.is_ok() {
                // Heard before it could be dropped; the next change is as good.
                fixture.state(&[None]).await;
            }
        }
        fixture.state(&[None]).await;
        soon(database, "a change after many dropped waits").await;
        quiet(database).await;
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_waited_for() {
    let options = posthaste_sqlite::Options { create: true, ..Default::default() };
    let fixture = Fixture::unmigrated(options);
    let waiting = fixture.second();
    quiet(&waiting).await;
    assert!(!fixture.path().exists());
    posthaste_core::database::Schema::migrate(&fixture.database).await.expect("migrate");
    soon(&waiting, "the file").await;
}

const COMMITS: &str = r#"
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("pragma busy_timeout = 5000")
for line in sys.stdin:
    db.execute("insert into posthaste_outbox (topic, kind, payload) values ('a', 'b', 'c')")
    print(time.time(), flush=True)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_process_is_seen_within_20_ms() {
    if !python_is_there() {
        return;
    }
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    let mut child = Command::new("python3")
        .args(["-c", COMMITS])
        .arg(fixture.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut waits = Vec::new();
    for _ in 0..40 {
        quiet(database).await;
        let (sent, seen) = std::sync::mpsc::channel();
        let waiting = database.clone();
        let wait = tokio::spawn(async move {
            waiting.changed().await;
            sent.send(Instant::now()).expect("the test waits");
        });
        stdin.write_all(b"\n").expect("the child reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the child answers");
        let committed = Instant::now();
        wait.await.expect("the change");
        waits.push(seen.recv().expect("a moment").saturating_duration_since(committed));
    }
    drop(stdin);
    child.wait().expect("the child ends");
    waits.sort();
    // The machine may be busy with other tests, so the median is what the code decides here; the
    // worst case is bounded where the interval is defined.
    assert!(waits[waits.len() / 2] < Duration::from_millis(20), "{waits:?}");
}

/// Processor time of all threads of this process so far, to the nanosecond.
#[cfg(target_os = "linux")]
fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
    let spent = threads.map(|thread| {
        let path = thread.expect("a thread").path().join("schedstat");
        let spent = std::fs::read_to_string(path).expect("its statistics");
        spent.split(' ').next().expect("a field").parse::<u64>().expect("nanoseconds")
    });
    Duration::from_nanos(spent.sum())
}

/// Runs alone in a process of its own, because the time of a process counts all its tests.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn waiting_costs_next_to_nothing() {
    if std::env::var_os("POSTHASTE_MEASURE").is_none() {
        let name = "signal::waiting_costs_next_to_nothing";
        let alone = Command::new(std::env::current_exe().expect("a path"))
            .args([name, "--exact", "--nocapture"])
            .env("POSTHASTE_MEASURE", "1")
            .output()
            .expect("the test binary runs");
        let said = String::from_utf8_lossy(&alone.stderr).into_owned();
        assert!(alone.status.success(), "{said}");
        std::io::stderr().write_all(said.as_bytes()).expect("stderr");
        return;
    }
    let fixture = Fixture::new().await;
    quiet(&fixture.database).await;
    let (before, began) = (processor_time(), Instant::now());
    let waited = tokio::time::timeout(Duration::from_secs(4), fixture.database.changed()).await;
    waited.expect_err("nobody commits");
    let share = (processor_time() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    writeln!(std::io::stderr(), "an idle wait costs {:.2} % of a core", share * 100.0)
        .expect("stderr");
    assert!(share < 0.02, "{share}");
}
