//! Reads what happened from the databases and files, once everything has come to rest.

use std::fs::File;
use std::path::PathBuf;

use posthaste_core::Headers;
use posthaste_history::event::{Effect, Leftover, Rest, Row as Stored, Sum, Transaction};
use posthaste_history::{Event, Floors, History, Report, check, moment, read};
use serde::Deserialize;

use crate::failure::{Failure, sentence};

use super::arrivals::Content;
use super::carrier;
use super::site::Site;
use super::stage::{Count, Row, Stage};
use super::world::World;

/// Who tells what is there at the end.
const TRUTH: &str = "truth";

/// What databases and files say.
#[derive(Debug)]
pub(super) struct Evidence {
    /// Everything that happened, as it stands in the file.
    history: History,
    /// State changes that were committed.
    pub(super) orders: u64,
    /// What is left over where nothing should be, a sentence each.
    pub(super) leftovers: Vec<String>,
}

impl Evidence {
    /// Reads all of them and writes the whole history. The child must have ended.
    ///
    /// # Errors
    /// If one of them cannot be read, or the history cannot be written.
    pub(super) async fn gather<S: Stage>(world: &World<S>) -> Result<Self, Failure> {
        let site = world.site();
        let mut truth: Vec<Event> = Vec::new();
        let orders = orders(world.shop()).await?;
        let number = orders.len() as u64;
        truth.extend(orders.into_iter().map(Event::from));
        truth.extend(outbox(world.shop()).await?.into_iter().map(Event::from));
        let mut leftovers = Vec::new();
        for (name, database) in world.consumers() {
            let effects = effects(database, name).await?;
            truth.push(sum(database, name).await?.into());
            leftovers.extend(of_consumer(name, database, &effects).await?);
            truth.extend(effects.into_iter().map(Event::from));
        }
        leftovers.extend(of_outbox(world.shop()).await?);
        leftovers.extend(carrier::leftovers(site).await?);
        truth.extend(leftovers.iter().map(|what| Leftover { what: what.clone() }.into()));
        truth.push(Rest {}.into());
        let parts = world.consumers().map(|(name, _)| site.arrivals(name));
        // A child that was killed early may not have begun.
        let parts = parts.filter(|path| path.exists()).chain([site.journal()]);
        let history = whole(site, &parts.collect::<Vec<_>>(), truth)?;
        Ok(Self { history, orders: number, leftovers })
    }

    /// What follows from it.
    pub(super) fn check(&self) -> Report {
        check(&self.history, &Floors::default())
    }
}

/// The history of these parts and of what is there at the end, as its file says it: what is judged
/// here is what everybody can judge again.
fn whole(site: &Site, parts: &[PathBuf], truth: Vec<Event>) -> Result<History, Failure> {
    let mut history = read(parts).map_err(|error| Failure::failed(sentence(&error)))?;
    for event in truth {
        history.note(moment(), TRUTH, event);
    }
    let path = site.history();
    let written = File::create(&path).and_then(|file| history.write(file));
    written
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    read(&[path]).map_err(|error| Failure::failed(sentence(&error)))
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

async fn outbox<S: Stage>(shop: &S) -> Result<Vec<Stored>, Failure> {
    shop.outbox().await?.into_iter().map(committed).collect()
}

fn committed(row: Row) -> Result<Stored, Failure> {
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
    Ok(Stored {
        id: row.id,
        topic: row.topic,
        key: row.key,
        digest,
        position: None,
        transaction: Some(body.order),
        stated: Some(version),
        committed: Some(version),
        due: None,
        request: None,
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

async fn sum<S: Stage>(database: &S, consumer: &str) -> Result<Sum, Failure> {
    Ok(Sum {
        consumer: consumer.to_owned(),
        effects: database.count(Count::Sum, consumer).await?,
        says: database.count(Count::Balance, consumer).await?,
    })
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
