//! The result of a check: counts, a verdict, and witnesses for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::violation::{Count, Violation};

/// Most witnesses of one count.
const WITNESSES: usize = 3;

/// What a check found. All counts are of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Messages that were committed.
    pub committed: u64,
    /// Messages whose transaction was rolled back.
    pub rolled_back: u64,
    /// Committed messages that arrived at every consumer of their topic.
    pub delivered: u64,
    /// Committed messages that took effect at every consumer of their topic.
    pub effects: u64,
    /// Arrivals after the first of a message at a consumer that had no further effect.
    pub duplicates_absorbed: u64,
    /// Committed messages that did not arrive or take effect somewhere because they stand in the
    /// dead letters.
    pub dead_letters: u64,
    /// Messages that were committed and are not there, did not arrive or took no effect.
    pub lost: u64,
    /// Messages that were not committed, or not as they arrived.
    pub phantom: u64,
    /// Messages that were overtaken by a later one of their key.
    pub order_violations: u64,
    /// Messages that took effect more than once.
    pub double_effects: u64,
    /// What follows from the counts.
    pub verdict: Verdict,
    /// The first few violations of each count.
    pub witnesses: Vec<Violation>,
}

/// Whether the promise was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was.
    Kept,
    /// It was not.
    Broken,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Broken => "broken",
        })
    }
}

/// What is counted that is no violation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plain {
    pub(crate) committed: u64,
    pub(crate) rolled_back: u64,
    pub(crate) delivered: u64,
    pub(crate) effects: u64,
    pub(crate) duplicates_absorbed: u64,
    pub(crate) dead_letters: u64,
}

impl Report {
    pub(crate) fn new(plain: Plain, violations: Vec<Violation>) -> Self {
        let mut subjects: BTreeMap<Count, BTreeSet<&str>> = BTreeMap::new();
        for violation in &violations {
            subjects.entry(violation.count()).or_default().insert(violation.subject());
        }
        let number = |count| subjects.get(&count).map_or(0, |found| found.len() as u64);
        let mut report = Self {
            committed: plain.committed,
            rolled_back: plain.rolled_back,
            delivered: plain.delivered,
            effects: plain.effects,
            duplicates_absorbed: plain.duplicates_absorbed,
            dead_letters: plain.dead_letters,
            lost: number(Count::Lost),
            phantom: number(Count::Phantom),
            order_violations: number(Count::Order),
            double_effects: number(Count::DoubleEffect),
            verdict: Verdict::Broken,
            witnesses: first_of_each(violations),
        };
        if report.is_kept() {
            report.verdict = Verdict::Kept;
        }
        report
    }

    /// The equations say again what the violations say one by one. Both have to hold, so that a
    /// mistake in one of them does not make a promise look kept.
    fn is_kept(&self) -> bool {
        let violations = [self.lost, self.phantom, self.order_violations, self.double_effects];
        let accounted = |count: u64| match self.dead_letters {
            0 => count == self.committed,
            dead => count <= self.committed && count + dead >= self.committed,
        };
        violations == [0; 4] && accounted(self.delivered) && accounted(self.effects)
    }
}

/// Keeps the first few of each count, each for another message.
fn first_of_each(mut violations: Vec<Violation>) -> Vec<Violation> {
    let mut kept: BTreeMap<Count, BTreeSet<String>> = BTreeMap::new();
    violations.retain(|violation| {
        let kept = kept.entry(violation.count()).or_default();
        kept.len() < WITNESSES && kept.insert(violation.subject().to_owned())
    });
    violations
}
