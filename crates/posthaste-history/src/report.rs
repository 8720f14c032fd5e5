//! The result of a check: a verdict, what was found of each invariant, counts, and witnesses for
//! people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::Fault;
use crate::examination::Examination;
use crate::floors::Shortfall;
use crate::invariant::Invariant;
use crate::violation::{Harm, Violation};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What follows from the rest.
    pub verdict: Verdict,
    /// Every invariant, in the order of the labels.
    pub invariants: Vec<Finding>,
    /// What there was.
    pub counts: Counts,
    /// What there was too little of for the verdict to mean something.
    pub shortfalls: Vec<Shortfall>,
    /// Events that this version does not know, by name.
    pub unknown_events: BTreeMap<String, u64>,
    /// Lines that killed processes have left unfinished.
    pub torn_lines: u64,
}

/// Whether the promise was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was, as far as was looked.
    Kept,
    /// It was not.
    Broken,
    /// Too little happened to say so.
    Invalid,
}

/// What was found of one invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which.
    pub invariant: Invariant,
    /// Its short name.
    pub label: String,
    /// How it stands.
    pub state: State,
    /// How many messages, events or whatever it is about were looked at.
    pub looked_at: u64,
    /// Of how many of them something is wrong.
    pub broken: u64,
    /// The smallest evidence of that.
    pub witness: Option<Violation>,
}

/// How an invariant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is wrong.
    Kept,
    /// Something is wrong.
    Broken,
    /// The history holds nothing that it could be judged by.
    NotLookedAt,
}

/// What there was in a history. Of messages, unless it is said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// From the first to the last event.
    pub nanoseconds: u64,
    /// Committed.
    pub committed: u64,
    /// Whose commit was answered with success.
    pub acknowledged: u64,
    /// Whose transaction was rolled back.
    pub rolled_back: u64,
    /// Committed, and arrived at every consumer of their topic.
    pub delivered: u64,
    /// Committed, and took effect at every consumer of their topic.
    pub effects: u64,
    /// Arrivals after the first of a message at a consumer.
    pub repeated: u64,
    /// Arrivals after the first of a message at a consumer that had no further effect.
    pub duplicates_absorbed: u64,
    /// Committed, and did not arrive or take effect somewhere because they were given up.
    pub dead_letters: u64,
    /// Faults.
    pub faults: u64,
    /// Faults that met something on its way.
    pub faults_that_hit: u64,
    /// How often a lease went to another owner.
    pub failovers: u64,
    /// That were committed and are not there, did not arrive or took no effect.
    pub lost: u64,
    /// That were not committed, or not as they arrived.
    pub phantom: u64,
    /// That were overtaken by a later one of their key.
    pub order_violations: u64,
    /// That took effect more than once.
    pub double_effects: u64,
}

impl Report {
    pub(crate) fn new(
        mut counts: Counts,
        examinations: &[Examination],
        faults: &[&Fault],
        shortfalls: impl FnOnce(&Counts) -> Vec<Shortfall>,
    ) -> Self {
        counts.take_harm(examinations);
        let invariants: Vec<Finding> =
            examinations.iter().map(|one| Finding::new(one, faults)).collect();
        let shortfalls = shortfalls(&counts);
        let is_broken = invariants.iter().any(|finding| finding.state == State::Broken);
        let is_empty = invariants.iter().all(|finding| finding.state == State::NotLookedAt);
        let verdict = match is_broken {
            true => Verdict::Broken,
            false if is_empty || !shortfalls.is_empty() => Verdict::Invalid,
            false => Verdict::Kept,
        };
        let (unknown_events, torn_lines) = (BTreeMap::new(), 0);
        Self { verdict, invariants, counts, shortfalls, unknown_events, torn_lines }
    }

    /// What was found of one invariant.
    pub fn of(&self, invariant: Invariant) -> Option<&Finding> {
        self.invariants.iter().find(|finding| finding.invariant == invariant)
    }

    /// Those that are broken.
    pub fn broken(&self) -> impl Iterator<Item = &Finding> {
        self.invariants.iter().filter(|finding| finding.state == State::Broken)
    }

    /// The smallest evidence of each that is broken.
    pub fn witnesses(&self) -> impl Iterator<Item = &Violation> {
        self.invariants.iter().filter_map(|finding| finding.witness.as_ref())
    }
}

impl Finding {
    fn new(examination: &Examination, faults: &[&Fault]) -> Self {
        let broken = examination.broken();
        let state = match (broken, examination.looked_at) {
            (0, 0) => State::NotLookedAt,
            (0, _) => State::Kept,
            _ => State::Broken,
        };
        Self {
            invariant: examination.invariant,
            label: examination.invariant.label().to_owned(),
            state,
            looked_at: examination.looked_at,
            broken,
            witness: examination.witness(faults),
        }
    }
}

impl Counts {
    /// Counts what went wrong by what it means: each message once for each harm.
    fn take_harm(&mut self, examinations: &[Examination]) {
        let mut subjects: BTreeMap<Harm, BTreeSet<&str>> = BTreeMap::new();
        for violation in examinations.iter().flat_map(|one| &one.violations) {
            subjects.entry(violation.harm).or_default().insert(&violation.subject);
        }
        let number = |harm| subjects.get(&harm).map_or(0, |found| found.len() as u64);
        self.lost = number(Harm::Lost);
        self.phantom = number(Harm::Phantom);
        self.order_violations = number(Harm::Order);
        self.double_effects = number(Harm::DoubleEffect);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Broken => "broken",
            Self::Invalid => "invalid",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Broken => "broken",
            Self::NotLookedAt => "not looked at",
        })
    }
}
