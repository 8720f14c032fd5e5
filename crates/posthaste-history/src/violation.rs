//! What can be wrong with a history, with the events that show it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::Line;
use crate::invariant::Invariant;

/// One thing that must not be. It displays as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// What does not hold.
    pub invariant: Invariant,
    /// What that means for whoever relies on it.
    pub harm: Harm,
    /// The message, or whatever else is concerned. Violations of one invariant and one subject are
    /// counted once.
    pub subject: String,
    /// What is wrong, as a sentence without its full stop.
    pub what: String,
    /// The events that show it, the fewest that do.
    pub events: Vec<Cited>,
    /// The faults during these events.
    pub faults: Vec<String>,
}

/// What a violation means for whoever relies on the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// Committed and not there, not delivered or without effect.
    Lost,
    /// Not committed, or not as it was committed.
    Phantom,
    /// Out of order.
    Order,
    /// Took effect more than once.
    DoubleEffect,
    /// Something else.
    Other,
}

/// An event that shows something, as it can be found in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cited {
    /// Its moment, in nanoseconds.
    pub at: u64,
    /// Who saw it.
    pub node: String,
    /// What was seen.
    pub saw: String,
}

impl From<&Line> for Cited {
    fn from(line: &Line) -> Self {
        Self { at: line.at, node: line.node.clone(), saw: line.event.name().to_owned() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for (place, Cited { at, node, saw }) in self.events.iter().enumerate() {
            let before = if place == 0 { " (" } else { ", " };
            write!(f, "{before}{saw} at {at} on {node}")?;
        }
        let faults = self.faults.join(" and ");
        match (self.events.is_empty(), faults.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => f.write_str(")"),
            (false, false) => write!(f, "; during {faults})"),
        }
    }
}
