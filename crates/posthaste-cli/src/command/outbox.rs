//! `posthaste outbox`: what is in the outbox.

use clap::Subcommand;
use posthaste_core::database::{EntryFilter, Listed};
use serde_json::json;

use crate::calendar;
use crate::context::Context;
use crate::escape::excerpt;
use crate::failure::Failure;
use crate::settings::validation::Needs;
use crate::table::Table;

/// Look at the messages in the outbox
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  posthaste outbox list --stuck\n  \
    posthaste outbox list --topic orders --limit 10 --json")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    List(List),
}

/// List messages, oldest first
#[derive(Debug, clap::Args)]
#[command(
    after_help = "States: new, sent, due (not yet due), retry (failed, tried again), behind \
    (waits for its key), parked (its key waits for a dead letter).\n\nExamples:\n  \
    posthaste outbox list --stuck\n  posthaste outbox list --topic orders --after 1000 --limit 100"
)]
struct List {
    /// Only of this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only those that wait for more than their turn: failed, parked, behind
    #[arg(long)]
    stuck: bool,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only after this position: the last one of the page before
    #[arg(long, value_name = "POSITION")]
    after: Option<String>,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Act::List(list) = arguments.act;
    let needs = Needs { database: true, broker: false };
    let configuration = context.configuration(needs, "warn")?;
    let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
    let filter = EntryFilter {
        destination: configuration.destination().to_owned(),
        topic: list.topic,
        stuck: list.stuck,
        after: list.after,
        limit,
    };
    let database = configuration.open_database(&context.registry, false).await?;
    let entries = database.entries(&filter).await?;
    let last = entries.last().filter(|_| entries.len() == limit);
    let next = last.map(|entry| entry.position.clone());
    if context.output.is_json() {
        let entries: Vec<_> = entries.iter().map(object).collect();
        return context.output.object(&json!({ "entries": entries, "next": next }));
    }
    print(context, &entries)?;
    if let Some(next) = next {
        context.output.say(&format!("there may be more: --after {next}"));
    }
    Ok(())
}

fn object(entry: &Listed) -> serde_json::Value {
    json!({
        "position": entry.position,
        "id": entry.id,
        "topic": entry.topic,
        "kind": entry.kind,
        "key": entry.key,
        "state": entry.state,
        "attempts": entry.attempts,
        "stated_at": calendar::written(entry.stated_at),
        "ready_at": entry.ready_at.map(calendar::written),
        "detail": entry.detail,
    })
}

fn print(context: &Context, entries: &[Listed]) -> Result<(), Failure> {
    if entries.is_empty() {
        context.output.say("nothing there");
        return Ok(());
    }
    let mut table =
        Table::new(["POSITION", "STATE", "TOPIC", "KIND", "KEY", "TRIES", "STATED", "DETAIL"]);
    for entry in entries {
        table.row([
            entry.position.as_str(),
            &entry.state,
            &entry.topic,
            &entry.kind,
            &excerpt(entry.key.as_deref().unwrap_or("-"), 30),
            &entry.attempts.to_string(),
            &calendar::written(entry.stated_at),
            &excerpt(entry.detail.as_deref().unwrap_or_default(), 60),
        ]);
    }
    for line in table.lines() {
        context.output.line(&line)?;
    }
    Ok(())
}
