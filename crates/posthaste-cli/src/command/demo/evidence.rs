//! Reads what happened from the databases and files, once everything has come to rest.

use std::io;
use std::path::Path;

use posthaste_core::Headers;
use posthaste_history::{Committed, Consumer, Effect, History, Report, Tally, Transaction, check};
use serde::Deserialize;

use crate::failure::Failure;

use super::arrivals::{self, Content};
use super::carrier;
use super::stage::{Count, Row, Stage};
use super::world::{CONSUMERS, TOPIC, World};

/// What databases and files say.
#[derive(Debug)]
pub(super) struct Evidence {
    /// What was committed, rolled back, delivered and done.
    pub(super) history: History,
    /// What is left over where nothing should be, a sentence each.
    pub(super) leftovers: Vec<String>,
}

impl Evidence {
    /// Reads all of them. The child must have ended.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub(super) async fn gather<S: Stage>(world: &World<S>) -> Result<Self, Failure> {
        let mut history = History::default();
        for name in CONSUMERS {
            let (name, topics) = (name.to_owned(), vec![TOPIC.to_owned()]);
            history.consumers.push(Consumer { name, topics });
        }
        let site = world.site();
        history.transactions = orders(world.shop()).await?;
        history.committed = outbox(world.shop()).await?;
        history.acknowledged = ids(&site.acknowledged())?;
        history.rolled_back = ids(&site.rolled_back())?;
        let mut leftovers = Vec::new();
        for (name, database) in world.consumers() {
            let path = site.arrivals(name);
            let arrivals = arrivals::read(&path, name).map_err(|error| unread(&path, &error))?;
            history.deliveries.extend(arrivals);
            let effects = effects(database, name).await?;
            history.tallies.push(tally(database, name).await?);
            leftovers.extend(of_consumer(name, database, &effects).await?);
            history.effects.extend(effects);
        }
        leftovers.extend(of_outbox(world.shop()).await?);
        leftovers.extend(carrier::leftovers(site).await?);
        Ok(Self { history, leftovers })
    }

    /// What follows from it.
    pub(super) fn check(&self) -> Report {
        check(&self.history)
    }
}

/// Orders, each with the number of messages that were stated with it.
async fn orders<S: Stage>(shop: &S) -> Result<Vec<Transaction>, Failure> {
    let orders = shop.orders().await?.into_iter();
    let orders = orders
        .map(|(id, messages)| Transaction { id, messages: u64::try_from(messages).unwrap_or(0) });
    Ok(orders.collect())
}

/// What the shop writes into its messages for the checks.
#[derive(Deserialize)]
struct Body {
    order: String,
    /// Counts the messages of one customer in the order of their commits. The shop counts by
    /// itself, so that the order is checked against something that is not Posthaste's.
    version: Option<u64>,
}

async fn outbox<S: Stage>(shop: &S) -> Result<Vec<Committed>, Failure> {
    shop.outbox().await?.into_iter().map(committed).collect()
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

async fn effects<S: Stage>(database: &S, consumer: &str) -> Result<Vec<Effect>, Failure> {
    let effects = database.ledger(consumer).await?.into_iter().map(|(id, digest)| Effect {
        consumer: consumer.to_owned(),
        id,
        digest: u64::from_str_radix(&digest, 16).unwrap_or(0),
    });
    Ok(effects.collect())
}

async fn tally<S: Stage>(database: &S, consumer: &str) -> Result<Tally, Failure> {
    Ok(Tally {
        consumer: consumer.to_owned(),
        effects: database.count(Count::Sum, consumer).await?,
        says: database.count(Count::Balance, consumer).await?,
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

async fn of_consumer<S: Stage>(
    name: &str,
    database: &S,
    effects: &[Effect],
) -> Result<Vec<String>, Failure> {
    let mut distinct: Vec<&str> = effects.iter().map(|effect| effect.id.as_str()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let remembered = database.count(Count::Remembered, name).await?;
    let dead = database.count(Count::Dead, name).await?;
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

async fn of_outbox<S: Stage>(shop: &S) -> Result<Vec<String>, Failure> {
    let status = shop.status("default").await?;
    let held = status.held;
    let figures = [
        (status.backlog, "messages in the outbox are not sent"),
        (
            held.due + held.retry + held.behind + held.unroutable,
            "messages are held back by the relay",
        ),
        (status.parked_keys, "keys are parked"),
        (status.dead_letters, "messages could not be sent and are dead letters"),
    ];
    let left = figures.into_iter().filter(|(number, _)| *number > 0);
    Ok(left.map(|(number, what)| format!("{number} {what}")).collect())
}

fn unread(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read {}: {error}", path.display()))
}
