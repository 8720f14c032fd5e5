//! Runs every example of the tree: it has to end by itself, soon and well, without arguments and in
//! an empty folder.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::command::within;
use crate::tally::Tally;
use crate::terminal::say;
use crate::workspace::{Workspace, cargo};

const LONGEST: Duration = Duration::from_secs(120);

/// Builds all examples and runs them one after the other. Examples are the binaries of the packages
/// in `examples/` and the example targets of every package.
pub(crate) fn run(workspace: &Workspace) -> Outcome<Tally> {
    let mut tally = Tally::default();
    let mut built = Vec::new();
    let mut build = cargo();
    build.args(["build", "--workspace", "--examples"]);
    for package in &workspace.packages {
        let example = package.folder.starts_with("examples/");
        for name in package.binaries.iter().filter(|_| example) {
            build.args(["--bin", name]);
            built.push((name, workspace.target.join("debug").join(name)));
        }
        for name in &package.examples {
            built.push((name, workspace.target.join("debug/examples").join(name)));
        }
    }
    if built.is_empty() {
        return Ok(tally);
    }
    say(&format!("== examples ({})", built.len()))?;
    if !build.current_dir(&workspace.root).status()?.success() {
        say("the examples do not build")?;
        return Ok(Tally { failed: 1, ..tally });
    }
    for (name, program) in built {
        let folder = workspace.target.join("xtask/examples").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let program = program.with_extension(std::env::consts::EXE_EXTENSION);
        let ended = within(LONGEST, Command::new(&program).current_dir(&folder))
            .map_err(|error| format!("example {name} cannot be started: {error}"))?;
        let verdict = match ended {
            Some(status) if status.success() => "ok".to_owned(),
            Some(status) => format!("FAILED: {status}"),
            None => format!("FAILED: still running after {} s", LONGEST.as_secs()),
        };
        say(&format!("example {name} ... {verdict}"))?;
        if verdict == "ok" {
            tally.passed += 1;
        } else {
            tally.failed += 1;
        }
    }
    Ok(tally)
}
