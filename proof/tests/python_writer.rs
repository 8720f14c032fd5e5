//! A writer in another language, alone with a server that is cut off, hangs and is killed: what its
//! own tables say was committed is what the outbox holds, no more, no less and byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use posthaste::core::database::Schema as _;
use posthaste::core::outbox::{OutboxReader as _, ReadLimit};
use posthaste::core::{Checkpoint, Lane};
use posthaste_postgres::Options;
use posthaste_proof::shop;
use posthaste_proof::{Failure, ledger};
use posthaste_servers::{Direction, Postgres, PostgresOptions, Proxy, TestDatabase, skip};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use posthaste_proof::rig::SOON;

/// How often what writers have said is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Most connections that are cut.
const FAULTS: u32 = 80;

/// The program.
const WRITER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/writer.py");

/// A Python with the driver.
fn python() -> Option<&'static str> {
    let has_driver = |python: &&str| {
        let mut look = Command::new(python);
        look.args(["-c", "import psycopg"]).stderr(Stdio::null());
        look.status().is_ok_and(|status| status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has_driver)
}

/// A running writer, and the file that it prints to. Dropping it kills it.
struct Writer {
    child: Child,
    said: PathBuf,
}

/// What a writer has said so far.
#[derive(Default)]
struct Said {
    acknowledged: BTreeSet<String>,
    rolled_back: BTreeSet<String>,
    unknown: BTreeSet<String>,
    /// By what it was disturbed.
    disturbed: Vec<String>,
    has_ended: bool,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sure, back) = (self.acknowledged.len(), self.rolled_back.len());
        let (unknown, disturbed) = (self.unknown.len(), self.disturbed.len());
        write!(
            f,
            "{sure} acknowledged, {back} rolled back, {unknown} unknown, {disturbed} faults"
        )?;
        self.disturbed.last().map_or(Ok(()), |last| write!(f, ", the last one: {last}"))
    }
}

impl Writer {
    fn start(python: &str, folder: &Path, url: &str, name: &str) -> Result<Self, Failure> {
        let said = folder.join(name);
        let child = Command::new(python)
            .args([WRITER, "--database", url, "--name", name, "--seed", "1"])
            .args(["--hold-ms", "500", "--hold-share", "0.1", "--patience", "1.5"])
            .stdout(File::create(&said)?)
            .spawn()?;
        Ok(Self { child, said })
    }

    fn said(&self) -> Result<Said, Failure> {
        let mut said = Said::default();
        let text = std::fs::read_to_string(&self.said)?;
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let ids = line["ids"].as_array().into_iter().flatten();
            let ids = ids.filter_map(|id| id.as_str().map(str::to_owned));
            match line["saw"].as_str() {
                Some("begun") => {}
                Some("acknowledged") => said.acknowledged.extend(ids),
                Some("rolled_back") => said.rolled_back.extend(ids),
                Some("unknown") => said.unknown.extend(ids),
                Some("disturbed") => said.disturbed.push(line["by"].to_string()),
                Some("ended") => said.has_ended = true,
                other => return Err(format!("a writer saw {other:?}").into()),
            }
        }
        Ok(said)
    }

    /// Waits until what it has said is enough.
    async fn until(&mut self, enough: impl Fn(&Said) -> bool) -> Result<Said, Failure> {
        let deadline = Instant::now() + SOON;
        loop {
            let said = self.said()?;
            if enough(&said) {
                return Ok(said);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the writer ended with {status}").into());
            }
            if Instant::now() > deadline {
                return Err(format!("the writer has come no further: {said}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until so many more messages were acknowledged.
    async fn goes_on(&mut self, messages: usize) -> Result<(), Failure> {
        let wanted = self.said()?.acknowledged.len() + messages;
        self.until(|said| said.acknowledged.len() >= wanted).await.map(drop)
    }

    /// Asks it to end, and waits for that.
    async fn end(mut self) -> Result<Said, Failure> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("a process without a number")?, Signal::TERM)?;
        let deadline = Instant::now() + SOON;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                return Err("a writer does not end when it is asked to".into());
            }
            tokio::time::sleep(LOOK).await;
        };
        let said = self.said()?;
        match status.success() && said.has_ended {
            true => Ok(said),
            false => Err(format!("a writer ended with {status}").into()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended by itself; waiting for it is right either way.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Lines of columns.
async fn rows(database: &TestDatabase, query: &str) -> Result<Vec<Vec<String>>, Failure> {
    let printed = database.psql(query).await?;
    Ok(printed.lines().map(|row| row.split('|').map(str::to_owned).collect()).collect())
}

/// Ids and digests of the messages of the outbox, as a relay reads them.
async fn stated(database: &TestDatabase) -> Result<BTreeMap<String, String>, Failure> {
    let handle = posthaste_postgres::Postgres::open(&database.url(), Options::default())?;
    let all = ReadLimit { messages: 100_000, bytes: 1 << 30 };
    let batch = handle.read(&Lane::whole("default"), &Checkpoint::start(), all).await?;
    assert!(!batch.more, "one look sees all of it");
    let mut stated = BTreeMap::new();
    for entry in batch.entries {
        let message = entry.body.map_err(|malformed| malformed.detail)?;
        let digest = shop::printed(shop::digest(&message));
        let before = stated.insert(message.id.to_string(), digest);
        assert_eq!(before, None, "{} is there twice", message.id);
    }
    Ok(stated)
}

/// Compares the outbox with the tables of the shop, and both with what the writers were told.
async fn compare(database: &TestDatabase, said: &[Said]) -> Result<(), Failure> {
    let placed: BTreeMap<String, String> = rows(database, "select message, digest from shop_order")
        .await?
        .into_iter()
        .filter_map(|row| <[String; 2]>::try_from(row).ok())
        .map(|[id, digest]| (id, digest))
        .collect();
    assert_eq!(stated(database).await?, placed);
    let torn = "select id from shop_transaction t where messages <> \
         (select count(*) from shop_order where part_of = t.id) union all \
         select part_of from shop_order where part_of not in (select id from shop_transaction)";
    assert_eq!(rows(database, torn).await?, Vec::<Vec<String>>::new(), "torn transactions");
    let there = |id: &&String| placed.contains_key(*id);
    for said in said {
        assert_eq!(said.acknowledged.iter().find(|id| !there(id)), None, "lost");
        assert_eq!(said.rolled_back.iter().find(there), None, "never committed");
    }
    let known: BTreeSet<&String> =
        said.iter().flat_map(|said| said.acknowledged.iter().chain(&said.unknown)).collect();
    assert_eq!(placed.keys().find(|id| !known.contains(id)), None, "of nobody");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_in_python_commits_is_what_the_outbox_holds() -> Result<(), Failure> {
    let Some(python) = python() else {
        skip("psycopg 3 for Python is not installed (Debian: python3-psycopg)");
        return Ok(());
    };
    if let Some(reason) = Postgres::missing() {
        skip(&reason);
        return Ok(());
    }
    // Commits take long, so that most faults meet one that is under way.
    let slow = PostgresOptions::new().set("commit_delay", "20000").set("commit_siblings", "0");
    let server = Postgres::start(slow).await;
    let database = server.database().await;
    posthaste_postgres::Postgres::open(&database.url(), Options::default())?.migrate().await?;
    database.psql(&ledger::postgres_tables()).await?;
    let proxy = Proxy::before(server.port()).await?;
    let folder = TempDir::new()?;
    let mut direct = Writer::start(python, folder.path(), &database.url(), "direct")?;
    let mut cut = Writer::start(python, folder.path(), &proxy.url(&database.url()), "cut")?;
    // At least a few times, and then until a commit was under way.
    for fault in 1..=FAULTS {
        cut.goes_on(6).await?;
        proxy.reset();
        if fault >= FAULTS / 10 && !cut.said()?.unknown.is_empty() {
            break;
        }
    }
    let disturbed = cut.said()?.disturbed.len();
    proxy.stall(Direction::ToClient);
    cut.until(|said| said.disturbed.len() > disturbed).await?;
    proxy.reset();
    proxy.heal().await;
    for _ in 0..2 {
        server.kill().await;
        server.restart().await;
        direct.goes_on(20).await?;
        cut.goes_on(20).await?;
    }
    let said = [direct.end().await?, cut.end().await?];
    compare(&database, &said).await?;
    for said in &said {
        let enough = said.acknowledged.len() >= 40 && said.rolled_back.len() >= 5;
        assert!(enough && !said.disturbed.is_empty(), "too little happened: {said}");
    }
    assert!(!said[1].unknown.is_empty(), "no fault met a commit: {}", said[1]);
    let forms = "select count(payload) > 0, count(payload_bytes) > 0, count(due_at) > 0, \
         count(*) > count(key) from posthaste.outbox";
    assert_eq!(database.psql(forms).await?, "t|t|t|t");
    Ok(())
}
