//! `posthaste dead repost`: another chance.

use super::act::{self, Act, Selection};
use crate::context::Context;
use crate::failure::Failure;

/// Send or handle dead letters again, with a fresh count of attempts
#[derive(Debug, clap::Args)]
#[command(after_help = "Who did it is recorded. Later messages of the key follow in order.\n\n\
    Examples:\n  posthaste dead repost 17 18\n  \
    posthaste dead repost 01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d\n  \
    posthaste dead repost --topic orders         # shows which\n  \
    posthaste dead repost --topic orders --yes   # does it")]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    act::run(arguments.selection, &Act::Repost, context).await
}
