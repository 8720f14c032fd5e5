//! `posthaste dead`: what could not be delivered or handled, and what an operator does about it.

mod act;
mod discard;
mod list;
mod repost;
mod show;
mod stores;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Failure;

/// Look at dead letters, send them again, or give them up
#[derive(Debug, clap::Args)]
#[command(after_help = "A dead letter is named by its reference (a number for those in the \
    database, like orders/shipping#17 for those of the bus, like orders.shipping/ID for those of \
    RabbitMQ, whose queues [broker] subscriptions names) or by the id of its message.\n\n\
    Examples:\n  posthaste dead list --topic orders\n  posthaste dead show 17\n  \
    posthaste dead repost 17 18\n  posthaste dead discard 19 --reason 'test order'")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    List(list::Arguments),
    Show(show::Arguments),
    Repost(repost::Arguments),
    Discard(discard::Arguments),
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    match arguments.act {
        Act::List(arguments) => list::run(arguments, context).await,
        Act::Show(arguments) => show::run(&arguments, context).await,
        Act::Repost(arguments) => repost::run(arguments, context).await,
        Act::Discard(arguments) => discard::run(arguments, context).await,
    }
}
