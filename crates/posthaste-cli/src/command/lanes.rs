//! `posthaste lanes`: into how many shares the keys of a destination are divided.

use clap::Subcommand;
use posthaste_core::lane::{Division, MAX_LANES};
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::settings::validation::Needs;

/// Show or change the number of lanes, so that several relays share the work
#[derive(Debug, clap::Args)]
#[command(after_help = "Each key falls into one lane, and each lane is led by one relay. Running \
    relays carry a change out by themselves: nothing is lost, and keys stay in order. \
    '[relay] lanes' in the settings asks for a number whenever a relay starts.\n\n\
    Examples:\n  posthaste lanes show\n  posthaste lanes set 4")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Show how many there are, and how many are wanted
    Show,
    /// Ask for another number
    Set {
        /// How many
        #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_LANES)))]
        lanes: u16,
    },
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let needs = Needs { database: true, broker: false };
    let configuration = context.configuration(needs, "warn")?;
    let destination = configuration.destination();
    let database = configuration.open_database(&context.registry, false).await?;
    if let Act::Set { lanes } = arguments.act {
        database.want_lanes(destination, lanes).await?;
    }
    let Division { now, wanted } = database.division(destination).await?;
    if context.output.is_json() {
        let division = json!({ "destination": destination, "now": now, "wanted": wanted });
        return context.output.object(&division);
    }
    context.output.line(&match now == wanted {
        true => format!("{destination}: lanes {now}"),
        false => format!("{destination}: lanes {now}, of which running relays make {wanted}"),
    })
}
