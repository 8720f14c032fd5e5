//! Campaigns that prove the promise: each is a program of its own, started here, whose last line is
//! one JSON object; a row of the ledger says that it was run, on what, and how it went.

mod faults;
mod ledger;
mod sabotage;
mod simulate;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::Outcome;
use crate::command::stream;
use crate::terminal::say;
use crate::workspace::{Workspace, cargo};

/// Runs the campaign of this name with the options behind it.
type Campaign = fn(&Workspace, &str, &[String]) -> Outcome<Proof>;

/// All of them by name. A new kind is a file beside this and a line here.
const CAMPAIGNS: [(&str, Campaign); 10] = [
    ("simulate", simulate::run),
    ("sabotage", sabotage::run),
    ("relay-kill", faults::run),
    ("consumer-kill", faults::run),
    ("writer-kill", faults::run),
    ("every-kill", faults::run),
    ("database-kill", faults::run),
    ("power-sqlite", faults::run),
    ("power-bus", faults::run),
    ("power-postgres", faults::run),
];

/// What came of a campaign.
#[derive(Debug)]
struct Proof {
    /// Its last line.
    summary: Value,
    kept: bool,
    seconds: f64,
}

/// The names of all campaigns, for people.
pub(crate) fn names() -> String {
    CAMPAIGNS.map(|(name, _)| name).join(", ")
}

/// Whether there is a campaign of this name.
pub(crate) fn knows(name: &str) -> bool {
    CAMPAIGNS.iter().any(|(campaign, _)| *campaign == name)
}

/// Runs a campaign with the arguments after its name; whether the promise was kept.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Outcome<bool> {
    let (name, options) = arguments.split_first().ok_or("say what to prove")?;
    let campaign = CAMPAIGNS.iter().find(|(campaign, _)| campaign == name);
    let (name, campaign) = campaign.ok_or_else(|| format!("there is no campaign `{name}`"))?;
    let silent = options.iter().any(|option| option == "--no-ledger");
    let json = options.iter().any(|option| option == "--json");
    let passed: Vec<String> =
        options.iter().filter(|option| *option != "--no-ledger").cloned().collect();
    let proof = campaign(workspace, name, &passed)?;
    let verdict = proof.summary["verdict"].as_str();
    // What was skipped, or met nothing, proves nothing either way.
    if !silent && matches!(verdict, Some("kept" | "broken")) {
        ledger::append(&workspace.root, name, &proof)?;
    }
    if json {
        say(&proof.summary.to_string())?;
    }
    Ok(proof.kept)
}

/// Builds a program of the proofs for speed and returns where it is.
fn build(workspace: &Workspace, package: &str) -> Outcome<PathBuf> {
    let built =
        stream(cargo().args(["build", "--release", "--quiet", "--package", package]), |line| {
            Ok(say(line)?)
        })?;
    if !built.success() {
        return Err(format!("{package} cannot be built; the reason is above").into());
    }
    Ok(workspace.target.join("release").join(package))
}

/// Runs a program, shows what it prints, and takes for its summary the last object that it prints:
/// what it says beside that comes through another pipe, and perhaps later.
fn carry_out(program: &Path, command: &str, options: &[String]) -> Outcome<Proof> {
    let begun = Instant::now();
    let mut summary = None;
    let mut all: Vec<&str> = vec![command];
    all.extend(options.iter().map(String::as_str).filter(|option| *option != "--json"));
    all.push("--json");
    let status = stream(std::process::Command::new(program).args(all), |line| {
        match serde_json::from_str::<Value>(line) {
            Ok(object) if object.is_object() => summary = Some(object),
            _ => say(line)?,
        }
        Ok(())
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let summary = summary.ok_or_else(|| format!("{command} ended without a summary: {status}"))?;
    let kept = status.success() && summary["verdict"] == "kept";
    Ok(Proof { summary, kept, seconds })
}
