//! Runs a campaign for as long as asked. `cargo xtask prove` builds and starts it.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Parser, builder::TypedValueParser as _};
use posthaste_proof::campaign::{Campaign, Outcome, Plan, Verdict};
use posthaste_proof::{Failure, power};

/// Too little happened for the verdict to mean something, or nothing at all.
const INVALID: u8 = 3;

/// Faults of one kind, again and again, on real processes, files and servers.
#[derive(Debug, Parser)]
#[command(name = "posthaste-prove", after_help = EXAMPLES)]
struct Arguments {
    /// Which campaign.
    #[arg(value_parser = campaigns())]
    campaign: Campaign,
    /// Faults after which it ends.
    #[arg(long, default_value_t = 100)]
    cycles: u64,
    /// Ends after so many seconds although there were fewer faults; the world that is at work then
    /// is brought to its end.
    #[arg(long)]
    seconds: Option<u64>,
    /// Seed of the first world; each further world has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Makes the disk lie about what it has (power campaigns): the verdict must be `broken`.
    #[arg(long)]
    lying_disk: bool,
    /// Ends with one JSON object on one line.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  posthaste-prove relay-kill --cycles 2000
  posthaste-prove power-sqlite --cycles 500 --json
  posthaste-prove power-bus --cycles 10 --lying-disk   # must end with `broken`

Exit status: 0 kept, 1 broken, 2 wrong use, 3 invalid or skipped.";

fn campaigns() -> impl clap::builder::TypedValueParser<Value = Campaign> {
    let names = Campaign::ALL.map(Campaign::name);
    PossibleValuesParser::new(names).try_map(|name| {
        let found = Campaign::ALL.into_iter().find(|campaign| campaign.name() == name);
        found.ok_or_else(|| format!("there is no campaign {name}"))
    })
}

fn main() -> Result<ExitCode, Failure> {
    let arguments = Arguments::parse();
    let (campaign, mut out) = (arguments.campaign, std::io::stdout());
    if let Some(reason) = campaign.missing() {
        writeln!(std::io::stderr(), "skipped: {}: {reason}", campaign.name())?;
        if arguments.json {
            let name = campaign.name();
            let skipped = serde_json::json!({
                "campaign": name, "seeds": 0, "cycles": 0, "verdict": "skipped", "detail": reason,
            });
            writeln!(out, "{skipped}")?;
        }
        return Ok(ExitCode::from(INVALID));
    }
    if campaign.cuts_power()
        && let Some(code) = power::enter()?
    {
        return Ok(ExitCode::from(code));
    }
    let plan = Plan {
        cycles: arguments.cycles,
        within: arguments.seconds.map(Duration::from_secs),
        seed: arguments.seed,
        lying: arguments.lying_disk,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let tell = |outcome: &Outcome| {
        // Nobody has to listen.
        drop(writeln!(std::io::stderr(), "{outcome}"));
    };
    let outcome = runtime.block_on(campaign.run(plan, tell));
    match arguments.json {
        true => writeln!(out, "{}", outcome.object())?,
        false => writeln!(out, "{outcome}")?,
    }
    Ok(match outcome.verdict {
        Verdict::Kept => ExitCode::SUCCESS,
        Verdict::Broken => ExitCode::FAILURE,
        Verdict::Invalid => ExitCode::from(INVALID),
    })
}
