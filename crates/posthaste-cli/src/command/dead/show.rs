//! `posthaste dead show`: one dead letter with its payload and its history.

use posthaste_core::dead_letter::DeadLetter;

use super::list::origin;
use super::stores::Stores;
use crate::calendar;
use crate::context::Context;
use crate::escape::printable;
use crate::failure::Failure;
use crate::shape;

/// Show one dead letter with its payload and its history
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  posthaste dead show 17\n  \
    posthaste dead show 'orders/shipping#17' --json\n  \
    posthaste dead show 17 --payload > payload.bin")]
pub(super) struct Arguments {
    /// Its reference, or the id of its message
    reference: String,
    /// Write the payload alone, byte for byte
    #[arg(long)]
    payload: bool,
}

pub(super) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let names = std::slice::from_ref(&arguments.reference);
    let stores = Stores::open(context, names).await?.whole()?;
    let (_, dead) = stores.find(&arguments.reference).await?;
    if arguments.payload {
        return context.output.bytes(dead.payload.as_bytes());
    }
    if context.output.is_json() {
        return context.output.object(&shape::whole_dead_letter(&dead));
    }
    for line in lines(&dead) {
        context.output.line(&line)?;
    }
    Ok(())
}

fn lines(dead: &DeadLetter) -> Vec<String> {
    let line = |name: &str, value: &str| format!("{name:<14}{}", printable(value));
    let time = |at: Option<_>| at.map_or_else(|| "unknown".to_owned(), calendar::written);
    let mut lines = vec![
        line("reference", &dead.reference),
        line("from", &origin(&dead.origin)),
        line("id", &dead.id),
        line("topic", &dead.topic),
        line("kind", &dead.kind),
        line("key", dead.key.as_deref().unwrap_or("-")),
        line("headers", &dead.headers),
        line("content type", dead.content_type.as_deref().unwrap_or("-")),
        line("stated", &time(dead.stated_at)),
        line("dead since", &calendar::written(dead.dead_at)),
        line("reason", &dead.reason),
        line("detail", &dead.detail),
        line("attempts", &dead.attempts.to_string()),
    ];
    if dead.parked {
        lines.push(line("parked", "later messages of its key wait until it is settled"));
    }
    if dead.reposted {
        lines.push(line("reposted", "it waits for its consumer to handle it again"));
    }
    for failure in &dead.history {
        let (at, attempt) = (calendar::written(failure.at), failure.attempt);
        lines.push(line("failure", &format!("{at}, attempt {attempt}: {}", failure.detail)));
    }
    lines.push(line("payload", &shape::readable(&dead.payload)));
    lines
}
