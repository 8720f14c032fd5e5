//! The printed form of a frontier.
//!
//! `v1` is the version. The parts are separated by `;`:
//! * nothing at all: before the first row,
//! * `v1;F`: a database with one writer,
//! * `v1;F;P`: at rest between two readings,
//! * `v1;F;P;L;S`: late rows up to L are read, the rest is finished against S.

use std::str::FromStr;

use super::{BadSnapshot, CatchUp, Frontier, Snapshot};
use crate::Checkpoint;

const VERSION: &str = "v1";

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
    let Frontier { through, seen, catching_up } = frontier;
    let token = match catching_up {
        Some(late) => format!("{VERSION};{through};{seen};{};{}", late.through, late.snapshot),
        None if *seen != Snapshot::BEGINNING => format!("{VERSION};{through};{seen}"),
        None if *through > 0 => format!("{VERSION};{through}"),
        None => return Checkpoint::start(),
    };
    Checkpoint::new(token)
}

pub(super) fn parse(checkpoint: &Checkpoint) -> Result<Frontier, BadCheckpoint> {
    let text = checkpoint.as_str();
    if checkpoint.is_start() {
        return Ok(Frontier::start());
    }
    let parts: Vec<&str> = text.splitn(6, ';').collect();
    let bad = |reason| damaged(text, reason);
    let number = |part: &str| exact(part).ok_or_else(|| bad("expected a whole number"));
    let snapshot = |part: &str| {
        Snapshot::from_str(part).map_err(|BadSnapshot { reason, .. }| damaged(text, reason))
    };
    if parts[0] != VERSION {
        return Err(match parts[0].strip_prefix('v').and_then(exact) {
            Some(found) if found > 1 => BadCheckpoint::Newer { found },
            _ => bad("expected a version and a number as v1;42"),
        });
    }
    let frontier = match parts[1..] {
        [through] => Frontier::one_writer(number(through)?),
        [through, seen] => {
            Frontier { through: number(through)?, seen: snapshot(seen)?, catching_up: None }
        }
        [through, seen, late, against] => {
            let late = CatchUp { through: number(late)?, snapshot: snapshot(against)? };
            Frontier { through: number(through)?, seen: snapshot(seen)?, catching_up: Some(late) }
        }
        _ => return Err(bad("expected one, two or four parts behind the version")),
    };
    match &frontier.catching_up {
        Some(late) if late.through == 0 || late.through >= frontier.through => {
            Err(bad("late rows are above 0 and below the frontier"))
        }
        _ => Ok(frontier),
    }
}

/// A number as this program prints it: no sign, no leading zero.
fn exact(digits: &str) -> Option<u64> {
    digits.parse::<u64>().ok().filter(|number| number.to_string() == digits)
}

fn damaged(text: &str, reason: &'static str) -> BadCheckpoint {
    BadCheckpoint::Damaged { text: text.chars().take(64).collect(), reason }
}
