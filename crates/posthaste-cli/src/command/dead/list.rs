//! `posthaste dead list`.

use posthaste_core::dead_letter::{DeadFilter, DeadLetter, Origin};
use serde_json::{Value, json};

use super::stores::{Name, Place, Stores, said, told};
use crate::calendar;
use crate::context::Context;
use crate::escape::excerpt;
use crate::failure::Failure;
use crate::shape;
use crate::table::Table;

/// List dead letters, oldest first, those of the database before those of the broker
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  posthaste dead list\n  \
    posthaste dead list --topic orders --limit 10 --json\n  posthaste dead list --after 117")]
pub(super) struct Arguments {
    /// Only of this topic
    #[arg(long)]
    topic: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only after this reference: the last one of the page before
    #[arg(long, value_name = "REFERENCE")]
    after: Option<String>,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let stores = Stores::open(context, &[]).await?;
    let mut partial = stores.is_partial(context.output);
    stores.warn_of_unnamed(context.output);
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut dead: Vec<DeadLetter> = Vec::new();
    for place in [Place::Database, Place::Broker] {
        let Some(store) = stores.get(place) else { continue };
        let after = match arguments.after.as_deref().map(Name::of) {
            Some(Name::Reference(named)) if named == place => arguments.after.clone(),
            // A page that begins with the broker's has shown all of the database's.
            Some(Name::Reference(named)) if named > place => continue,
            Some(Name::Id) => {
                return Err(Failure::usage("--after takes a reference, not a message id"));
            }
            _ => None,
        };
        let left = limit.saturating_sub(dead.len());
        if left == 0 {
            break;
        }
        let topic = arguments.topic.clone();
        match store.list(&DeadFilter { topic, id: None, after, limit: left }).await {
            Ok(listed) => dead.extend(listed),
            Err(error) if place == Place::Broker && stores.get(Place::Database).is_some() => {
                let said = said(place, &error);
                context.output.warn(&format!("{said}; its dead letters are missing here"));
                partial = true;
            }
            Err(error) => return Err(told(place, &error)),
        }
    }
    let next = dead.last().filter(|_| dead.len() >= limit).map(|dead| dead.reference.clone());
    if context.output.is_json() {
        let dead: Vec<Value> = dead.iter().map(|dead| shape::dead_letter(dead).into()).collect();
        context.output.object(&json!({ "dead_letters": dead, "next": next }))?;
    } else {
        print(context, &dead)?;
        if let Some(next) = next {
            context.output.say(&format!("there may be more: --after '{next}'"));
        }
    }
    if partial { Err(Failure::Told) } else { Ok(()) }
}

/// As a table.
pub(super) fn print(context: &Context, dead: &[DeadLetter]) -> Result<(), Failure> {
    if dead.is_empty() {
        context.output.say("no dead letters");
        return Ok(());
    }
    let mut table =
        Table::new(["REFERENCE", "FROM", "TOPIC", "KIND", "KEY", "REASON", "DEAD SINCE", "DETAIL"]);
    for letter in dead {
        let reposted = if letter.reposted { " (reposted)" } else { "" };
        table.row([
            letter.reference.as_str(),
            &origin(&letter.origin),
            &letter.topic,
            &letter.kind,
            &excerpt(letter.key.as_deref().unwrap_or("-"), 30),
            &format!("{}{reposted}", letter.reason),
            &calendar::written(letter.dead_at),
            &excerpt(&letter.detail, 60),
        ]);
    }
    for line in table.lines() {
        context.output.line(&line)?;
    }
    Ok(())
}

/// Where it died, for people.
pub(super) fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Relay(destination) => format!("relay {destination}"),
        Origin::Consumer(name) => format!("consumer {name}"),
        Origin::Broker(place) => format!("broker {place}"),
    }
}
