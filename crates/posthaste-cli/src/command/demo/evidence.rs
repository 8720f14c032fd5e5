//! Reads what happened from the files, once everything has come to rest.

use std::io;
use std::path::Path;

use posthaste_bus::{Bus, BusOptions};
use posthaste_core::Headers;
use posthaste_core::database::Monitor;
use posthaste_history::{Committed, Consumer, Effect, History, Report, Tally, Transaction, check};
use posthaste_sqlite::Sqlite;
use serde::Deserialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row as _, SqlitePool};

use crate::failure::Failure;

use super::arrivals::{self, Content};
use super::drain::count;
use super::world::{CONSUMERS, Files, TOPIC, World};

/// What the files say.
#[derive(Debug)]
pub(super) struct Evidence {
    /// What was committed, rolled back, delivered and done.
    pub(super) history: History,
    /// What is left over where nothing should be, a sentence each.
    pub(super) leftovers: Vec<String>,
}

impl Evidence {
    /// Reads all files. The child must have ended.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub(super) async fn gather(world: &World) -> Result<Self, Failure> {
        let mut history = History::default();
        for name in CONSUMERS {
            let (name, topics) = (name.to_owned(), vec![TOPIC.to_owned()]);
            history.consumers.push(Consumer { name, topics });
        }
        let files = world.files();
        history.transactions = orders(world.app().pool()).await?;
        history.committed = outbox(world.app().pool()).await?;
        history.acknowledged = ids(&files.acknowledged())?;
        history.rolled_back = ids(&files.rolled_back())?;
        let mut leftovers = Vec::new();
        for (name, database) in world.consumers() {
            let path = files.arrivals(name);
            let arrivals = arrivals::read(&path, name).map_err(|error| unread(&path, &error))?;
            history.deliveries.extend(arrivals);
            let effects = effects(database.pool(), name).await?;
            history.tallies.push(tally(database.pool(), name).await?);
            leftovers.extend(of_consumer(name, database, &effects).await?);
            history.effects.extend(effects);
        }
        leftovers.extend(of_outbox(world.app()).await?);
        leftovers.extend(of_bus(files).await?);
        Ok(Self { history, leftovers })
    }

    /// What follows from it.
    pub(super) fn check(&self) -> Report {
        check(&self.history)
    }
}

/// Orders, each with the number of messages that were stated with it.
async fn orders(pool: &SqlitePool) -> Result<Vec<Transaction>, Failure> {
    let rows: Vec<(String, i64)> = sqlx::query_as("select id, messages from orders")
        .fetch_all(pool)
        .await
        .map_err(unreadable)?;
    let orders = rows
        .into_iter()
        .map(|(id, messages)| Transaction { id, messages: u64::try_from(messages).unwrap_or(0) });
    Ok(orders.collect())
}

/// A row of the outbox, as the contract describes it.
struct Row {
    id: String,
    topic: String,
    kind: String,
    key: Option<String>,
    content_type: Option<String>,
    headers: String,
    payload: Vec<u8>,
}

impl FromRow<'_, SqliteRow> for Row {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            topic: row.try_get("topic")?,
            kind: row.try_get("kind")?,
            key: row.try_get("key")?,
            content_type: row.try_get("content_type")?,
            headers: row.try_get("headers")?,
            payload: row.try_get("payload")?,
        })
    }
}

/// What the shop writes into its messages for the checks.
#[derive(Deserialize)]
struct Body {
    order: String,
    /// Counts the messages of one customer in the order of their commits. The shop counts by
    /// itself, so that the order is checked against something that is not Posthaste's.
    version: Option<u64>,
}

async fn outbox(pool: &SqlitePool) -> Result<Vec<Committed>, Failure> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, topic, kind, key, content_type, headers, cast(payload as blob) as payload
         from posthaste_outbox order by seq",
    )
    .fetch_all(pool)
    .await
    .map_err(unreadable)?;
    rows.into_iter().map(committed).collect()
}

fn committed(row: Row) -> Result<Committed, Failure> {
    let odd = |what: &str, error: serde_json::Error| {
        Failure::failed(format!("message {} in the outbox has odd {what}: {error}", row.id))
    };
    let headers: Headers =
        serde_json::from_str(&row.headers).map_err(|error| odd("headers", error))?;
    let body: Body = serde_json::from_slice(&row.payload).map_err(|error| odd("content", error))?;
    let content = Content {
        topic: &row.topic,
        kind: &row.kind,
        key: row.key.as_deref(),
        content_type: row.content_type.as_deref(),
        headers: &headers,
        payload: &row.payload,
    };
    let (digest, version) = (content.digest(), body.version.unwrap_or(0));
    Ok(Committed {
        id: row.id,
        topic: row.topic,
        key: row.key,
        stated: version,
        committed: version,
        digest,
        transaction: Some(body.order),
    })
}

async fn effects(pool: &SqlitePool, consumer: &str) -> Result<Vec<Effect>, Failure> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("select message, digest from ledger order by number")
            .fetch_all(pool)
            .await
            .map_err(unreadable)?;
    let effects = rows.into_iter().map(|(id, digest)| Effect {
        consumer: consumer.to_owned(),
        id,
        digest: u64::from_str_radix(&digest, 16).unwrap_or(0),
    });
    Ok(effects.collect())
}

async fn tally(pool: &SqlitePool, consumer: &str) -> Result<Tally, Failure> {
    Ok(Tally {
        consumer: consumer.to_owned(),
        effects: count(pool, "select coalesce(sum(amount), 0) from ledger").await?,
        says: count(pool, "select amount from balance").await?,
    })
}

/// Lines of a list of ids.
fn ids(path: &Path) -> Result<Vec<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unread(path, &error)),
    }
}

async fn of_consumer(
    name: &str,
    database: &Sqlite,
    effects: &[Effect],
) -> Result<Vec<String>, Failure> {
    let pool = database.pool();
    let mut distinct: Vec<&str> = effects.iter().map(|effect| effect.id.as_str()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let remembered = count(pool, "select count(*) from posthaste_inbox").await?;
    let dead = count(pool, "select count(*) from posthaste_dead_letter").await?;
    let mut leftovers = Vec::new();
    if dead > 0 {
        leftovers.push(format!("{name} has {dead} dead letters"));
    }
    if usize::try_from(remembered - dead) != Ok(distinct.len()) {
        leftovers.push(format!(
            "the inbox of {name} remembers {remembered} messages, its ledger has {}",
            distinct.len()
        ));
    }
    Ok(leftovers)
}

async fn of_outbox(app: &Sqlite) -> Result<Vec<String>, Failure> {
    let status = app.status("default").await?;
    let held = status.held;
    let figures = [
        (status.backlog, "messages in the outbox are not sent"),
        (held.due + held.retry + held.behind, "messages are held back by the relay"),
        (status.parked_keys, "keys are parked"),
        (status.dead_letters, "messages could not be sent and are dead letters"),
    ];
    let left = figures.into_iter().filter(|(number, _)| *number > 0);
    Ok(left.map(|(number, what)| format!("{number} {what}")).collect())
}

/// Opens the bus file, which its last owner has closed.
async fn of_bus(files: &Files) -> Result<Vec<String>, Failure> {
    let bus = Bus::open(&files.bus_url(), BusOptions::default())?;
    let (status, addresses) = (bus.status().await, bus.addresses().await);
    bus.close().await;
    let mut leftovers = Vec::new();
    for one in status? {
        let figures = [(one.active + one.locked, "unsettled"), (one.dead, "dead")];
        for (number, what) in figures.into_iter().filter(|(number, _)| *number > 0) {
            leftovers.push(format!("the bus holds {number} {what} messages for {}", one.name));
        }
    }
    for address in addresses?.into_iter().filter(|address| address.held > 0) {
        leftovers.push(format!("the bus holds {} messages for nobody", address.held));
    }
    Ok(leftovers)
}

fn unread(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read {}: {error}", path.display()))
}

fn unreadable(error: sqlx::Error) -> Failure {
    Failure::failed(format!("cannot read the demo's files: {error}"))
}
