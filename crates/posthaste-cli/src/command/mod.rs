//! The commands, one file each. A command gets its arguments and the [`Context`], writes data
//! through the output, and ends well or with a [`Failure`].

mod check;
mod init;
mod migrate;
mod publish;
mod status;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Failure;

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Arguments),
    Check(check::Arguments),
    Migrate(migrate::Arguments),
    Status(status::Arguments),
    Publish(publish::Arguments),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// [`Failure`] with what to tell and the exit status.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Init(arguments) => init::run(&arguments, context),
            Self::Check(arguments) => check::run(&arguments, context),
            Self::Migrate(arguments) => migrate::run(&arguments, context).await,
            Self::Status(arguments) => status::run(&arguments, context).await,
            Self::Publish(arguments) => publish::run(arguments, context).await,
        }
    }
}
