//! `posthaste dead discard`: giving up, with a reason.

use super::act::{self, Act, Selection};
use crate::context::Context;
use crate::failure::Failure;

/// Give dead letters up for good; what waits behind them goes on
#[derive(Debug, clap::Args)]
#[command(after_help = "Who did it and why is recorded.\n\nExamples:\n  \
    posthaste dead discard 17 --reason 'test order'\n  \
    posthaste dead discard --all --reason 'staging data' --yes")]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Why; it is recorded
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let reason = arguments.reason.trim().to_owned();
    if reason.is_empty() {
        return Err(Failure::usage("--reason must say why; it is recorded"));
    }
    act::run(arguments.selection, &Act::Discard { reason }, context).await
}
