//! `posthaste adopt`: accepts a database that was copied or restored somewhere else.

use posthaste_core::{Lane, StoreError};
use serde_json::json;

use crate::actor;
use crate::context::Context;
use crate::failure::{Failure, sentence};
use crate::settings::validation::Needs;

/// Accept a database that was restored from a dump, so that relays go on with it
#[derive(Debug, clap::Args)]
#[command(after_help = "A dump that is restored in another cluster brings checkpoints that mean \
    something else there, so relays refuse it until somebody says that this copy is now the \
    database. What the copy had not sent is then sent, once. Stop the relays and the writers of \
    the original first, or both will send. Without --yes it only says what it would do.\n\n\
    Examples:\n  posthaste adopt\n  posthaste adopt --yes\n  \
    posthaste adopt --yes --actor 'restore of 12 May' --json")]
pub(crate) struct Arguments {
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Who is recorded as having done it [default: user@host]
    #[arg(long)]
    actor: Option<String>,
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let actor = arguments.actor.clone().unwrap_or_else(actor::this_user);
    if actor.trim().is_empty() {
        return Err(Failure::usage("--actor must not be empty, because it is recorded"));
    }
    let needs = Needs { database: true, broker: false };
    let configuration = context.configuration(needs, "warn")?;
    let database = configuration.open_database(&context.registry, false).await?;
    if !arguments.yes {
        // Who reads has to know whether it is a copy.
        let looked = database.checkpoint(&Lane::whole(configuration.destination())).await;
        return preview(looked.map(drop), context);
    }
    let notes = database.adopt(&actor).await?;
    if context.output.is_json() {
        return context.output.object(&json!({ "adopted": notes, "actor": actor }));
    }
    if notes.is_empty() {
        return context.output.line("nothing had to be changed");
    }
    notes.iter().try_for_each(|note| context.output.line(note))
}

fn preview(looked: Result<(), StoreError>, context: &Context) -> Result<(), Failure> {
    let reason = match looked {
        Ok(()) => None,
        Err(error @ StoreError::Failed { .. }) if sentence(&error).contains("posthaste adopt") => {
            Some(sentence(&error))
        }
        Err(error) => return Err(error.into()),
    };
    if context.output.is_json() {
        context.output.object(&json!({ "would": "adopt", "reason": reason }))?;
    } else if let Some(reason) = &reason {
        context.output.line(reason)?;
    }
    match reason {
        Some(_) => Err(Failure::usage(
            "nothing was done; this copy would become the database, and what it had not sent would \
             be sent: add --yes once nobody relays or writes to the original",
        )),
        None => {
            context.output.say("this database is no copy: there is nothing to adopt");
            Ok(())
        }
    }
}
