//! The examples of other languages on a real server, each under a role with no more than the
//! rights that the documentation grants, and what they have stated as a relay reads it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use posthaste_core::database::Schema as _;
use posthaste_core::outbox::{OutboxReader as _, ReadLimit};
use posthaste_core::{Checkpoint, Lane, Message, Payload};
use posthaste_postgres::{Options, Postgres, Roles, grants};
use posthaste_servers::{TestDatabase, postgres_or_skip, skip};

/// How long an example may take.
const LONGEST: Duration = Duration::from_secs(60);
/// How often it is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(10);
/// Where Debian puts the JDBC driver.
const JDBC: &str = "/usr/share/java/postgresql.jar";

/// A file of the tree.
fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// What a command has printed; the reason if it did not end well and in time.
fn said(command: &mut Command) -> Result<String, String> {
    let tell = |error: std::io::Error| format!("{command:?}: {error}");
    let (mut out, mut err) =
        (tempfile::tempfile().map_err(tell)?, tempfile::tempfile().map_err(tell)?);
    let (stdout, stderr) = (out.try_clone().map_err(tell)?, err.try_clone().map_err(tell)?);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let deadline = Instant::now() + LONGEST;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
            return Err(format!("{command:?} did not end within {LONGEST:?}"));
        }
        std::thread::sleep(LOOK);
    };
    let mut texts = [String::new(), String::new()];
    for (file, text) in [&mut out, &mut err].into_iter().zip(&mut texts) {
        let read = file.rewind().and_then(|()| file.read_to_string(text));
        read.map_err(|error| error.to_string())?;
    }
    let [out, err] = texts;
    if status.success() { Ok(out) } else { Err(format!("{status}: {err}{out}")) }
}

/// A database with the tables of Posthaste and a role of each kind, which have exactly the rights
/// that the program prints for them.
struct Shop {
    database: TestDatabase,
    handle: Postgres,
    roles: Roles,
}

impl Shop {
    /// Nothing, after saying so, where there is no server.
    async fn open() -> Option<Self> {
        let database = postgres_or_skip().await?.database().await;
        let handle = Postgres::open(&database.url(), Options::default()).expect("a good address");
        handle.migrate().await.expect("an empty database");
        // Roles belong to the whole server, so they carry the name of the database.
        let role = |kind: &str| format!("{}_shop_{kind}", database.name);
        let roles = Roles {
            writer: role("writer"),
            consumer: role("consumer"),
            relay: role("relay"),
            operator: role("operator"),
        };
        let mut made = String::new();
        for role in [&roles.writer, &roles.consumer, &roles.relay, &roles.operator] {
            made.push_str(&format!("create role {role} login; "));
        }
        made.push_str(&grants("posthaste", &roles).expect("good names"));
        // The example makes its own tables.
        made.push_str(&format!("grant create on schema public to {};", roles.consumer));
        assert_eq!(database.psql(&made).await.as_deref(), Ok(""));
        Some(Self { database, handle, roles })
    }

    /// Where an example finds it.
    fn url(&self) -> String {
        self.database.url_as(&self.roles.consumer)
    }
}

/// A message without its id and its times. A payload knows whether it is text.
#[derive(Debug, PartialEq)]
struct Seen {
    kind: &'static str,
    topic: String,
    key: Option<String>,
    content_type: Option<String>,
    headers: BTreeMap<String, String>,
    payload: Payload,
}

impl Seen {
    fn new(
        topic: &str,
        kind: &'static str,
        key: Option<&str>,
        payload: impl Into<Payload>,
    ) -> Self {
        let (topic, key) = (topic.to_owned(), key.map(str::to_owned));
        let payload = payload.into();
        Self { kind, topic, key, content_type: None, headers: BTreeMap::new(), payload }
    }

    fn of(message: Message, kind: &'static str) -> Self {
        assert_eq!(message.kind, kind);
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let headers = message.headers.iter().map(owned).collect();
        let Message { topic, key, content_type, payload, .. } = message;
        Self { kind, topic, key, content_type, headers, payload }
    }
}

fn order(number: u32) -> String {
    format!(
        r#"{{"order":{number},"customer":"c{number}","folder":"C:\\new\\table","note":"said \"grüße\""}}"#
    )
}

/// What every example states, in this order.
fn expected() -> [Seen; 5] {
    let text = |text: &str| Some(text.to_owned());
    let headers = [("folder", r"C:\temp"), ("said", "\"grüße\"")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let bytes = b"\x00\xff\\\"\n".to_vec();
    [
        Seen {
            content_type: text("application/json"),
            headers: headers.into(),
            ..Seen::new("orders", "order.placed", Some("c1"), order(1))
        },
        Seen::new("reminders", "payment.due", None, r#"{"order":1}"#.to_owned()),
        Seen::new("orders", "order.placed", Some("c2"), order(2)),
        Seen {
            content_type: text("application/octet-stream"),
            ..Seen::new("labels", "label.printed", Some("c1"), bytes)
        },
        Seen::new(
            "orders",
            "order.paid",
            Some("c1"),
            r#"{"order": 1, "folder": "C:\\new\\table"}"#.to_owned(),
        ),
    ]
}

/// Compares what an example has printed, what it has stated, and what it has done to its own tables.
async fn check(Shop { database, handle, .. }: &Shop, printed: &str) {
    let all = ReadLimit { messages: 100, bytes: 1 << 20 };
    let lane = Lane::whole("default");
    let batch = handle.read(&lane, &Checkpoint::start(), all).await.expect("a batch");
    let mut ids = Vec::new();
    let mut seen = Vec::new();
    for (entry, expected) in batch.entries.into_iter().zip(expected()) {
        let message = entry.body.expect("a message");
        let reminder = message.kind == "payment.due";
        let hour = Duration::from_secs(3_500)..Duration::from_secs(3_601);
        assert_eq!(entry.due_in.is_some_and(|wait| hour.contains(&wait)), reminder, "{message:?}");
        ids.push(format!("{} {}", message.kind, message.id));
        seen.push(Seen::of(message, expected.kind));
    }
    assert_eq!(seen, expected());
    // The plain insert does not print what it was given.
    ids.remove(2);
    let rest = ["rolled back: c3 has no credit", "shipped", "shipped before"].map(str::to_owned);
    let lines: Vec<_> = printed.lines().map(str::to_owned).collect();
    assert_eq!(lines, [&ids[..], &rest[..]].concat());
    let tables = "select count(*) from posthaste.outbox; \
         select id, customer, folder, note from orders order by id; select * from shipments; \
         select consumer, id = (select id from posthaste.outbox order by seq limit 1), outcome \
         from posthaste.inbox";
    let tables = database.psql(tables).await.expect("the tables");
    let orders = [1, 2].map(|n| format!("{n}|c{n}|C:\\new\\table|said \"grüße\""));
    assert_eq!(tables, format!("5\n{}\n1\nshipping|t|done", orders.join("\n")));
}

async fn run(command: &mut Command) {
    let Some(shop) = Shop::open().await else { return };
    match said(command.env("POSTHASTE_DATABASE", shop.url()).env("LC_ALL", "C")) {
        Ok(printed) => check(&shop, &printed).await,
        Err(reason) => panic!("{reason}"),
    }
}

/// Where packages of Node.js are: as it was told, where the tests have put the driver, Debian's.
fn node_path() -> OsString {
    let told = std::env::var_os("NODE_PATH").unwrap_or_default();
    let ours = place("target/xtask/node/node_modules");
    let folders = std::env::split_paths(&told).chain([ours, PathBuf::from("/usr/share/nodejs")]);
    let folders = folders.filter(|folder| !folder.as_os_str().is_empty());
    std::env::join_paths(folders).unwrap_or(told)
}

#[tokio::test]
async fn python_states_orders_and_messages_together() {
    let has_driver =
        |python: &&str| said(Command::new(python).args(["-c", "import psycopg"])).is_ok();
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_driver) else {
        return skip("psycopg 3 for Python is not installed (Debian: python3-psycopg)");
    };
    run(Command::new(python).arg(place("examples/python/orders_postgres.py"))).await;
}

#[tokio::test]
async fn node_states_orders_and_messages_together() {
    let mut node = Command::new("node");
    if said(node.args(["-e", "require('pg')"]).env("NODE_PATH", node_path())).is_err() {
        return skip("pg for Node.js is not installed (Debian: node-pg)");
    }
    let mut node = Command::new("node");
    run(node.arg(place("examples/node/orders.js")).env("NODE_PATH", node_path())).await;
}

#[tokio::test]
async fn java_states_orders_and_messages_together() {
    if !Path::new(JDBC).exists() || said(Command::new("java").arg("--version")).is_err() {
        return skip("Java with JDBC is not installed (Debian: libpostgresql-jdbc-java)");
    }
    run(Command::new("java").args(["-cp", JDBC]).arg(place("examples/java/Orders.java"))).await;
}

#[tokio::test]
async fn psql_states_orders_and_messages_together() {
    let Some(shop) = Shop::open().await else { return };
    // The address is an argument here, as the header of the script says.
    let mut psql = Command::new(shop.database.server().binaries().join("psql"));
    psql.arg(shop.url()).args(["--quiet", "--no-psqlrc", "--file"]);
    match said(psql.arg(place("examples/psql/orders.sql")).env("LC_ALL", "C")) {
        Ok(printed) => check(&shop, &printed).await,
        Err(reason) => panic!("{reason}"),
    }
}

/// Runs a block of statements of the guide as a role.
async fn guided(shop: &Shop, role: &str, block: &str) {
    let guide = std::fs::read_to_string(place("docs/postgres.md")).expect("the guide");
    let mark = format!("```sql\n-- {block}\n");
    let (_, rest) = guide.split_once(&mark).expect("the guide has the block");
    let (statements, _) = rest.split_once("```").expect("the block is closed");
    let as_role = format!("begin; set local role {role}; {statements} commit;");
    let done = shop.database.psql(&as_role).await;
    assert!(done.is_ok(), "{block}: {done:?}");
}

#[tokio::test]
async fn the_statements_of_the_guide_work_for_those_who_are_to_run_them() {
    let Some(shop) = Shop::open().await else { return };
    guided(&shop, &shop.roles.writer, "publishing").await;
    guided(&shop, &shop.roles.consumer, "consuming").await;
    guided(&shop, &shop.roles.operator, "looking").await;
    let stated = "select count(*), count(payload_bytes), count(due_at), count(content_type), \
         count(key) from posthaste.outbox";
    assert_eq!(shop.database.psql(stated).await.as_deref(), Ok("6|2|1|1|3"));
}
