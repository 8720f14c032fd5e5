//! `posthaste verify`: judges what happened from the files that processes wrote of it.

use std::path::PathBuf;

use posthaste_history::{Finding, Floors, Report, Verdict, check, read};
use serde_json::json;

use crate::context::Context;
use crate::escape::printable;
use crate::failure::{Failure, sentence};
use crate::table::Table;

/// Check a history of what happened against what must hold
#[derive(Debug, clap::Args)]
#[command(after_help = "A history is what the demo, a test or the processes of a service note of \
    a run: JSON lines, one file or one for each process. It is checked against each invariant of \
    docs/history.md that it says something of; the smallest evidence of what is broken is shown. \
    A history below one of the floors is invalid, however well it went.\n\n\
    Examples:\n  \
    posthaste verify history.jsonl\n  \
    posthaste verify writer.jsonl relay-1.jsonl relay-2.jsonl\n  \
    posthaste verify history.jsonl --acknowledged 1000 --faults-that-hit 30 --duplicates 1\n  \
    posthaste verify history.jsonl --json | jq .verdict\n\n\
    Exit status: 0 kept, 1 broken, 2 wrong use or no history, 3 invalid.")]
pub(crate) struct Arguments {
    /// The files of one run
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How many messages have to be acknowledged at least
    #[arg(long, value_name = "N", default_value_t = 0)]
    acknowledged: u64,
    /// How many percent of the faults have to meet something on its way
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=100))]
    faults_that_hit: u64,
    /// How often a minute another relay has to take over
    #[arg(long, value_name = "N", default_value_t = 0)]
    failovers_per_minute: u64,
    /// How many repeated arrivals there have to be
    #[arg(long, value_name = "N", default_value_t = 0)]
    duplicates: u64,
}

/// Judges the files.
///
/// # Errors
/// [`Failure::Told`] if something is broken, [`Failure::Invalid`] if the history proves nothing,
/// another one if it cannot be read.
pub(crate) fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let floors = Floors {
        acknowledged: arguments.acknowledged,
        faults_that_hit: arguments.faults_that_hit,
        failovers_per_minute: arguments.failovers_per_minute,
        duplicates: arguments.duplicates,
    };
    let history = read(&arguments.files).map_err(|error| Failure::usage(sentence(&error)))?;
    let report = check(&history, &floors);
    for (name, number) in &report.unknown_events {
        let events = if *number == 1 { "event" } else { "events" };
        context.output.warn(&format!(
            "{number} {events} '{name}' are not known to this version; nothing was judged by them"
        ));
    }
    if context.output.is_json() {
        context.output.object(&json!(report))?;
    } else {
        context.output.line(&shown(&report))?;
    }
    match report.verdict {
        Verdict::Kept => Ok(()),
        Verdict::Broken => Err(Failure::Told),
        Verdict::Invalid => Err(Failure::Invalid),
    }
}

fn shown(report: &Report) -> String {
    let mut lines = table(report);
    for finding in report.broken() {
        let witness = finding.witness.as_ref().map(ToString::to_string).unwrap_or_default();
        lines.push(format!("{}: {}", finding.label, printable(&witness)));
    }
    for short in &report.shortfalls {
        lines.push(format!("{}: {}, of at least {}", short.what, short.found, short.floor));
    }
    if report.torn_lines > 0 {
        lines.push(format!("lines that killed processes left unfinished: {}", report.torn_lines));
    }
    let counts = &report.counts;
    lines.push(format!(
        "{} events, {} messages committed, {} arrived and {} took effect everywhere, {} arrivals \
         repeated, {} faults",
        counts.events,
        counts.committed,
        counts.delivered,
        counts.effects,
        counts.repeated,
        counts.faults
    ));
    lines.push(report.verdict.to_string());
    lines.join("\n")
}

fn table(report: &Report) -> Vec<String> {
    let mut table = Table::new(["", "STATE", "LOOKED AT", "BROKEN", "WHAT MUST HOLD"]);
    for finding in &report.invariants {
        let Finding { label, state, looked_at, broken, .. } = finding;
        let numbers = [state.to_string(), looked_at.to_string(), broken.to_string()];
        let [state, looked_at, broken] = &numbers;
        table.row([label, state, looked_at, broken, finding.invariant.statement()]);
    }
    table.lines()
}
