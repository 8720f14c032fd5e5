//! What is done to the tree: `cargo xtask test` and `cargo xtask tidy`. Needs cargo and nothing
//! else; some of the tests do, and get it where it may be installed.

mod command;
mod examples;
mod packages;
mod prove;
mod suite;
mod tally;
mod terminal;
mod tidy;
mod workspace;

use std::error::Error;
use std::process::ExitCode;

use crate::suite::Selection;
use crate::terminal::{complain, say};
use crate::workspace::Workspace;

type Outcome<T> = Result<T, Box<dyn Error>>;

const HELP: &str = "\
Usage: cargo xtask <COMMAND>

  test [--no-skips] [-p PACKAGE]... [NAME]...
      Builds what the tests need, runs all of them, the examples and the tidy checks, and ends with
      `N passed, N failed, N skipped`. With --no-skips a skipped test is a failure. With packages
      or parts of names, only the tests that fit. A whole run provides first what the tests need.
  packages
      Provides the servers and languages that the tests need: installs Debian packages if it is run
      as root, otherwise says which are missing.
  prove simulate [--seeds N] [--seed S] [--seconds T] [--mode safety|liveness]
                 [--sabotage NAME] [--json] [--no-ledger]
      Runs seeds of the simulator (proof/simulator): 20000, or N, from S on, or the seed S alone; a
      seed that fails is shown as the smallest world in which it happens. Adds a row to
      evidence/ledger.csv.
  prove sabotage [--json] [--no-ledger]
      Makes each deliberate mistake in the simulator and says after how many seeds it is noticed.
  prove relay-kill|consumer-kill|writer-kill|every-kill|database-kill|
        power-sqlite|power-bus|power-postgres
                 [--cycles N] [--seconds T] [--seed S] [--lying-disk] [--json] [--no-ledger]
      Faults on real processes, files and servers (proof/src/campaign): 100 of them, or N, or as
      many as fit into T seconds. What cuts power needs root, loop devices and btrfs.
  tidy
      Checks the rules of the tree that no compiler checks.

Exit status: 0 done, 1 failed, 2 wrong use.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("test") => match Selection::parse(&arguments[1..]) {
            Ok(selection) => workspace::load().and_then(|tree| suite::run(&tree, &selection)),
            Err(reason) => return wrong_use(&reason),
        },
        Some("packages") if arguments.len() == 1 => {
            workspace::load().and_then(|tree| packages::provide(&tree))
        }
        Some("prove") if arguments.get(1).is_some_and(|name| prove::knows(name)) => {
            workspace::load().and_then(|tree| prove::run(&tree, &arguments[1..]))
        }
        Some("prove") => {
            return wrong_use(&format!("say what to prove: {}", prove::names()));
        }
        Some("tidy") if arguments.len() == 1 => workspace::load().and_then(|tree| tidy(&tree)),
        Some("help" | "--help" | "-h") => say(HELP).map(|()| true).map_err(Into::into),
        Some(other) => return wrong_use(&format!("there is no command `{other}`")),
        None => return wrong_use("say what to do"),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("xtask: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn wrong_use(reason: &str) -> ExitCode {
    complain(&format!("xtask: {reason}\n\n{HELP}"));
    ExitCode::from(2)
}

fn tidy(workspace: &Workspace) -> Outcome<bool> {
    let tally = tidy::run(workspace)?;
    Ok(tally.failed == 0)
}
