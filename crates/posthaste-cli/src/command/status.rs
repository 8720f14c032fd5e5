//! `posthaste status`: the figures of one destination, from the database itself.

use posthaste_core::database::Status;
use serde_json::json;

use crate::calendar;
use crate::context::Context;
use crate::escape::printable;
use crate::failure::Failure;
use crate::settings::validation::Needs;

/// Show what waits, what is held and who relays
#[derive(Debug, clap::Args)]
#[command(after_help = "Reads the database only; no relay has to run.\n\nExamples:\n  \
    posthaste status\n  posthaste status --json | jq .backlog")]
pub(crate) struct Arguments {}

pub(crate) async fn run(_: &Arguments, context: &Context) -> Result<(), Failure> {
    let needs = Needs { database: true, broker: false };
    let configuration = context.configuration(needs, "warn")?;
    let destination = configuration.destination();
    let database = configuration.open_database(&context.registry, false).await?;
    let status = database.status(destination).await?;
    if context.output.is_json() {
        return context.output.object(&object(destination, &status));
    }
    for line in lines(destination, &status) {
        context.output.line(&line)?;
    }
    Ok(())
}

fn object(destination: &str, status: &Status) -> serde_json::Value {
    json!({
        "destination": destination,
        "backlog": status.backlog,
        "oldest_unsent_seconds": status.oldest_unsent_seconds,
        "parked_keys": status.parked_keys,
        "held": status.held,
        "dead_letters": status.dead_letters,
        "leases": status.leases,
        "rates": status.rates,
        "checkpoint": status.checkpoint,
    })
}

fn lines(destination: &str, status: &Status) -> Vec<String> {
    let oldest = match status.oldest_unsent_seconds {
        Some(seconds) => format!(", the oldest for {}", calendar::ago(seconds)),
        None => String::new(),
    };
    let held = status.held;
    let mut lines = vec![
        format!("destination   {destination}"),
        format!("backlog       {}{oldest}", status.backlog),
        format!(
            "held          {} due later, {} to retry, {} behind their key",
            held.due, held.retry, held.behind
        ),
        format!("parked keys   {}", status.parked_keys),
        format!("dead letters  {}", status.dead_letters),
        format!(
            "rates         {:.1} sent/s, {:.1} failed/s over the last minute",
            status.rates.sent_per_second, status.rates.failed_per_second
        ),
    ];
    if status.leases.is_empty() {
        lines.push("relay         none holds the lease: is 'posthaste run' running?".to_owned());
    }
    for lease in &status.leases {
        let (name, owner) = (printable(&lease.name), printable(&lease.owner));
        let remaining = calendar::ago(lease.remaining_seconds);
        let token = lease.token;
        lines.push(format!(
            "lease         {name} held by {owner} (token {token}), {remaining} left"
        ));
    }
    lines
}
