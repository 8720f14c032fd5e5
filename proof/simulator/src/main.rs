//! Runs seeds from the command line, and shows the smallest world that fails.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use posthaste_simulator::{Campaign, Marker, Mode, Sabotage, Scenario, Sum, shrink};
use serde_json::json;

const HELP: &str = "\
Usage: posthaste-simulator <COMMAND>

  simulate [--seeds N] [--seed S] [--seconds T] [--mode safety|liveness] [--sabotage NAME] [--json]
      Runs N seeds from S on, or the seed S alone, for at most T seconds.
  sabotage [--json]
      Makes each deliberate mistake and says after how many seeds it is noticed.

Exit status: 0 kept, 1 broken, 2 wrong use.";

/// Seeds that are run if nobody says how many.
const SEEDS: u64 = 20_000;

/// In campaigns at least so large every place has to have been come by.
const ENOUGH_FOR_MARKERS: u64 = 5_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("simulate") => Wish::parse(&arguments[1..]).map(|wish| simulate(&wish)),
        Some("sabotage") => Wish::parse(&arguments[1..]).map(|wish| sabotage(&wish)),
        Some("help" | "--help" | "-h") => Ok(say(HELP).map(|()| true)),
        _ => Err("say what to do".to_owned()),
    };
    match done {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        // Whoever read this has gone away.
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(reason) => {
            let _ = writeln!(io::stderr(), "posthaste-simulator: {reason}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// What was asked for.
#[derive(Debug, Default)]
struct Wish {
    seeds: Option<u64>,
    seed: Option<u64>,
    seconds: Option<u64>,
    mode: Option<Mode>,
    sabotage: Option<Sabotage>,
    json: bool,
}

impl Wish {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut wish = Self::default();
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--json" => wish.json = true,
                "--seeds" => wish.seeds = Some(number(name, value()?)?),
                "--seed" => wish.seed = Some(number(name, value()?)?),
                "--seconds" => wish.seconds = Some(number(name, value()?)?),
                "--sabotage" => {
                    let named = value()?.parse::<Sabotage>();
                    wish.sabotage = Some(named.map_err(|unknown| unknown.to_string())?);
                }
                "--mode" => {
                    wish.mode = Some(match value()?.as_str() {
                        "safety" => Mode::Safety,
                        "liveness" => Mode::Liveness,
                        other => return Err(format!("there is no mode `{other}`")),
                    });
                }
                other => return Err(format!("there is no option `{other}`")),
            }
        }
        Ok(wish)
    }

    fn campaign(&self) -> Campaign {
        let seeds = match (self.seeds, self.seed) {
            (Some(seeds), _) => seeds,
            (None, Some(_)) => 1,
            (None, None) => SEEDS,
        };
        Campaign {
            longest: self.seconds.map(Duration::from_secs),
            mode: self.mode,
            sabotage: self.sabotage,
            ..Campaign::new(self.seed.unwrap_or(0), seeds)
        }
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{name} needs a number, not `{value}`"))
}

fn simulate(wish: &Wish) -> io::Result<bool> {
    let begun = Instant::now();
    let sum = wish.campaign().run();
    let seconds = begun.elapsed().as_secs_f64();
    let missing = sum.markers.missing();
    let is_enough = wish.sabotage.is_none() && wish.mode.is_none();
    let unvisited = is_enough && sum.seeds >= ENOUGH_FOR_MARKERS && !missing.is_empty();
    if let Some((seed, violation)) = &sum.failed {
        say(&format!("seed {seed}: {violation}"))?;
        explain(*seed, wish)?;
    }
    if let Some(seed) = sum.differed {
        say(&format!("seed {seed} did not do the same when it was run again"))?;
    }
    if unvisited {
        say("no seed came to these places:")?;
        missing.iter().try_for_each(|marker| say(&format!("  {}", marker.sentence())))?;
    }
    let kept = sum.failed.is_none() && sum.differed.is_none() && !unvisited;
    tell(wish, &sum, seconds, kept)?;
    Ok(kept)
}

fn tell(wish: &Wish, sum: &Sum, seconds: f64, kept: bool) -> io::Result<()> {
    let verdict = if kept { "kept" } else { "broken" };
    let places = Marker::ALL.len() - sum.markers.missing().len();
    if !wish.json {
        let rate = sum.seeds as f64 / seconds.max(0.001);
        return say(&format!(
            "{} seeds, {} messages, {} steps in {seconds:.1} s ({rate:.0} seeds a second), \
             {places} of {} places: {verdict}",
            sum.seeds,
            sum.messages,
            sum.events,
            Marker::ALL.len(),
        ));
    }
    let line = json!({
        "campaign": "simulate",
        "seeds": sum.seeds,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "messages": sum.messages,
        "steps": sum.events,
        "places": places,
        "of_places": Marker::ALL.len(),
        "failed_seed": sum.failed.as_ref().map(|(seed, _)| seed),
        "verdict": verdict,
    });
    say(&line.to_string())
}

/// Shows the smallest world that breaks the same promise, and how to see it again.
fn explain(seed: u64, wish: &Wish) -> io::Result<()> {
    let sabotage = wish.sabotage;
    let Some((scenario, verdict)) = shrink(Scenario::new(seed, wish.mode), sabotage) else {
        return Ok(());
    };
    say("the smallest world that was found in which it happens:")?;
    scenario.to_string().lines().try_for_each(|line| say(&format!("  {line}")))?;
    verdict.notes.iter().try_for_each(|note| say(&format!("  {note}")))?;
    if let Some(violation) = verdict.violation {
        say(&format!("  {violation}"))?;
    }
    let mode = match wish.mode {
        Some(Mode::Safety) => " --mode safety",
        Some(Mode::Liveness) => " --mode liveness",
        None => "",
    };
    let named = sabotage.map(|sabotage| format!(" --sabotage {sabotage}")).unwrap_or_default();
    say(&format!("to see it again: cargo xtask prove simulate --seed {seed}{mode}{named}"))
}

/// The table of mistakes: how many seeds it takes to notice each.
fn sabotage(wish: &Wish) -> io::Result<bool> {
    let begun = Instant::now();
    let (mut noticed, mut seeds) = (true, 0);
    for &sabotage in Sabotage::ALL {
        let campaign = Campaign { sabotage: Some(sabotage), ..Campaign::new(0, sabotage.budget()) };
        let sum = campaign.run();
        seeds += sum.seeds;
        let within = format!("{}", sabotage.budget());
        let after = match &sum.failed {
            Some((seed, violation)) => {
                format!("{:>5} {:<12}", seed + 1, format!("{:?}", violation.what))
            }
            None => format!("{:>5} {:<12}", "never", ""),
        };
        noticed &= sum.failed.is_some();
        say(&format!(
            "{:<26} {after} within {within:>5}  {}",
            sabotage.name(),
            sabotage.sentence()
        ))?;
    }
    if wish.json {
        let verdict = if noticed { "kept" } else { "broken" };
        let seconds = begun.elapsed().as_secs_f64();
        let line = json!({
            "campaign": "sabotage",
            "mistakes": Sabotage::ALL.len(),
            "seeds": seeds,
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "verdict": verdict,
        });
        say(&line.to_string())?;
    }
    Ok(noticed)
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}
