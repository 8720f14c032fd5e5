//! The `posthaste` program as a library, so that a backend from elsewhere gets the whole program
//! with one line: `posthaste_cli::main(Registry::default().broker("acme", acme::open))`.
//!
//! It composes and decides nothing: settings are read and checked (`settings`), the URL's scheme
//! chooses the backend ([`Registry`]), and each command is one file in `command`. Data goes to
//! standard output, talk to standard error; exit status 0 is done, 1 failed, 2 wrong use.

mod actor;
mod arguments;
mod calendar;
mod command;
mod context;
mod escape;
mod failure;
mod logging;
mod output;
mod patience;
mod redact;
mod registry;
mod settings;
mod shape;
mod stop;
mod table;

use std::process::ExitCode;
use std::time::Duration;

pub use registry::{BrokerPlace, Closer, DatabasePlace, OpenBroker, Opening, Registry};
pub use settings::options::{BrokerOptions, DatabaseOptions};

use context::Context;
use failure::Failure;
use output::Output;

/// How long work that cannot be interrupted (a write to a pipe that nobody reads) may delay the
/// end of the program.
const LAST_WORK: Duration = Duration::from_millis(200);

/// Does what the command line says, with these backends, and returns the exit status.
pub fn main(registry: Registry) -> ExitCode {
    scrub_panics();
    let arguments = match arguments::parse() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    let output = Output::new(arguments.global.json);
    let context = Context::new(registry, output, arguments.flags());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::failed(format!("cannot start: {error}"));
            output.failure(&failure);
            return failure.exit_code();
        }
    };
    let done = runtime.block_on(arguments.command.run(&context));
    runtime.shutdown_timeout(LAST_WORK);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code()
        }
    }
}

/// A panic is a broken invariant of ours; it is told without secrets, whatever it quotes.
fn scrub_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string();
        Output::new(false).warn(&format!("this is a bug in posthaste: {}", redact::text(&text)));
    }));
}
