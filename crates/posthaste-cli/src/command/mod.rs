//! The commands, one file each. A command gets its arguments and the [`Context`], writes data
//! through the output, and ends well or with a [`Failure`].

mod adopt;
mod check;
mod dead;
mod demo;
mod doctor;
mod init;
mod lanes;
mod migrate;
mod outbox;
mod publish;
mod run;
mod status;
mod subscribe;
mod verify;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Failure;

/// What the program can do, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Arguments),
    #[command(hide = true)]
    DemoNode(demo::node::Arguments),
    Init(init::Arguments),
    Migrate(migrate::Arguments),
    Check(check::Arguments),
    Doctor(doctor::Arguments),
    Run(run::Arguments),
    Status(status::Arguments),
    Outbox(outbox::Arguments),
    Dead(dead::Arguments),
    Publish(publish::Arguments),
    Subscribe(subscribe::Arguments),
    Lanes(lanes::Arguments),
    Adopt(adopt::Arguments),
    Verify(verify::Arguments),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// [`Failure`] with what to tell and the exit status.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Demo(arguments) => Box::pin(demo::run(&arguments, context)).await,
            Self::DemoNode(arguments) => Box::pin(demo::node::run(arguments, context)).await,
            Self::Init(arguments) => init::run(&arguments, context),
            Self::Migrate(arguments) => Box::pin(migrate::run(&arguments, context)).await,
            Self::Check(arguments) => check::run(&arguments, context),
            Self::Doctor(arguments) => Box::pin(doctor::run(&arguments, context)).await,
            Self::Run(_) => Box::pin(run::run(context)).await,
            Self::Status(arguments) => Box::pin(status::run(&arguments, context)).await,
            Self::Outbox(arguments) => Box::pin(outbox::run(arguments, context)).await,
            Self::Dead(arguments) => Box::pin(dead::run(arguments, context)).await,
            Self::Publish(arguments) => Box::pin(publish::run(arguments, context)).await,
            Self::Subscribe(arguments) => Box::pin(subscribe::run(arguments, context)).await,
            Self::Lanes(arguments) => Box::pin(lanes::run(&arguments, context)).await,
            Self::Adopt(arguments) => Box::pin(adopt::run(&arguments, context)).await,
            Self::Verify(arguments) => verify::run(&arguments, context),
        }
    }
}
