//! The printed form of a frontier.
//!
//! `v1` is the version. The parts are separated by `;`:
//! * nothing at all: before the first row,
//! * `v1;F`: a database with one writer,
//! * `v1;F;P`: at rest between two readings,
//! * `v1;F;P;L;S`: late rows up to L are read, the rest is finished against S.
//!
//! Behind these may stand, in this order:
//! * `floor=N`: everything up to N is sent, and ids of transactions count above it only,
//! * `adopting=N`: the rows up to N are being read without regard to ids,
//! * `inherits=A|B|…`: what the lanes before this one had sent, from lane 0 on, each with the parts
//!   above, separated by `/`.

use std::str::FromStr;

use super::inheritance::MAX_LANES;
use super::{BadSnapshot, CatchUp, Frontier, Reach, Snapshot};
use crate::Checkpoint;

const VERSION: &str = "v1";
const FLOOR: &str = "floor=";
const ADOPTING: &str = "adopting=";
const INHERITS: &str = "inherits=";

/// A stored checkpoint that this rule cannot go on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadCheckpoint {
    /// A later program wrote it.
    #[error(
        "the checkpoint has version {found}, this program reads version 1: use the newer \
             program that wrote it"
    )]
    Newer {
        /// The version it has.
        found: u64,
    },
    /// It was changed or cut, or another kind of source wrote it.
    #[error(
        "the checkpoint `{text}` cannot be read ({reason}): restore it from a backup, or reset \
             it to send everything again"
    )]
    Damaged {
        /// The beginning of it.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

pub(super) fn print(frontier: &Frontier) -> Checkpoint {
    let Frontier { reach, adopting, inherited } = frontier;
    if *frontier == Frontier::start() {
        return Checkpoint::start();
    }
    let mut token = format!("{VERSION};{}", print_reach(reach, ";"));
    if let Some(floor) = adopting {
        token.push_str(&format!(";{ADOPTING}{floor}"));
    }
    if !inherited.is_empty() {
        let lanes: Vec<String> = inherited.iter().map(|reach| print_reach(reach, "/")).collect();
        token.push_str(&format!(";{INHERITS}{}", lanes.join("|")));
    }
    Checkpoint::new(token)
}

fn print_reach(reach: &Reach, separator: &str) -> String {
    let Reach { floor, through, seen, catching_up } = reach;
    let mut parts = vec![through.to_string()];
    if *seen != Snapshot::BEGINNING || catching_up.is_some() {
        parts.push(seen.to_string());
    }
    if let Some(late) = catching_up {
        parts.extend([late.through.to_string(), late.snapshot.to_string()]);
    }
    if *floor > 0 {
        parts.push(format!("{FLOOR}{floor}"));
    }
    parts.join(separator)
}

pub(super) fn parse(checkpoint: &Checkpoint) -> Result<Frontier, BadCheckpoint> {
    let text = checkpoint.as_str();
    if checkpoint.is_start() {
        return Ok(Frontier::start());
    }
    let (version, rest) = text.split_once(';').unwrap_or((text, ""));
    if version != VERSION {
        return Err(match version.strip_prefix('v').and_then(exact) {
            Some(found) if found > 1 => BadCheckpoint::Newer { found },
            _ => damaged(text, "expected a version and a number as v1;42"),
        });
    }
    parse_parts(rest).map_err(|reason| damaged(text, reason))
}

fn parse_parts(text: &str) -> Result<Frontier, &'static str> {
    let mut parts: Vec<&str> = text.split(';').collect();
    let inherited = match pop(&mut parts, INHERITS) {
        Some(lanes) => parse_lanes(lanes)?,
        None => Vec::new(),
    };
    let adopting = pop(&mut parts, ADOPTING).map(number).transpose()?;
    let reach = parse_reach(parts)?;
    if adopting.is_some_and(|floor| floor <= reach.floor || floor < reach.through) {
        return Err("an adoption ends above its floor and not below the frontier");
    }
    Ok(Frontier { reach, adopting, inherited })
}

fn parse_lanes(text: &str) -> Result<Vec<Reach>, &'static str> {
    // One more than there may be, so that a long text is refused before it is read.
    let lanes: Vec<&str> = text.split('|').take(MAX_LANES + 1).collect();
    if lanes.len() > MAX_LANES {
        return Err("it inherits from more lanes than there can be");
    }
    lanes.into_iter().map(|lane| parse_reach(lane.split('/').collect())).collect()
}

fn parse_reach(mut parts: Vec<&str>) -> Result<Reach, &'static str> {
    let floor = pop(&mut parts, FLOOR).map(number).transpose()?;
    let (through, seen, catching_up) = match parts[..] {
        [through] => (number(through)?, Snapshot::BEGINNING, None),
        [through, seen] => (number(through)?, snapshot(seen)?, None),
        [through, seen, late, against] => {
            let late = CatchUp { through: number(late)?, snapshot: snapshot(against)? };
            (number(through)?, snapshot(seen)?, Some(late))
        }
        _ => return Err("expected one, two or four parts before those with a name"),
    };
    if floor.is_some_and(|floor| floor == 0 || floor > through) {
        return Err("a floor is above 0 and not above the frontier");
    }
    let floor = floor.unwrap_or(0);
    if catching_up.as_ref().is_some_and(|late| late.through <= floor || late.through >= through) {
        return Err("late rows are above the floor and below the frontier");
    }
    Ok(Reach { floor, through, seen, catching_up })
}

/// Takes the last part away if it has this name.
fn pop<'a>(parts: &mut Vec<&'a str>, name: &str) -> Option<&'a str> {
    let value = parts.last()?.strip_prefix(name)?;
    parts.pop();
    Some(value)
}

fn number(part: &str) -> Result<u64, &'static str> {
    exact(part).ok_or("expected a whole number")
}

fn snapshot(part: &str) -> Result<Snapshot, &'static str> {
    Snapshot::from_str(part).map_err(|BadSnapshot { reason, .. }| reason)
}

/// A number as this program prints it: no sign, no leading zero.
fn exact(digits: &str) -> Option<u64> {
    digits.parse::<u64>().ok().filter(|number| number.to_string() == digits)
}

fn damaged(text: &str, reason: &'static str) -> BadCheckpoint {
    BadCheckpoint::Damaged { text: text.chars().take(64).collect(), reason }
}
