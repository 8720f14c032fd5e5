//! What a check has to say of one invariant.

use std::collections::BTreeSet;

use crate::event::{Fault, Line};
use crate::invariant::Invariant;
use crate::violation::{Cited, Harm, Violation};

/// How much was looked at, and what is wrong.
#[derive(Debug)]
pub(crate) struct Examination {
    pub(crate) invariant: Invariant,
    pub(crate) looked_at: u64,
    pub(crate) violations: Vec<Violation>,
}

impl Examination {
    pub(crate) fn new(invariant: Invariant) -> Self {
        Self { invariant, looked_at: 0, violations: Vec::new() }
    }

    /// One more thing was looked at.
    pub(crate) fn look(&mut self) {
        self.looked_at += 1;
    }

    /// Something is wrong. `events` are the fewest lines that show it.
    pub(crate) fn find(&mut self, harm: Harm, subject: &str, what: String, events: &[&Line]) {
        self.violations.push(Violation {
            invariant: self.invariant,
            harm,
            subject: subject.to_owned(),
            what,
            events: events.iter().map(|line| Cited::from(*line)).collect(),
            faults: events.iter().filter_map(|line| line.fault.clone()).collect(),
        });
    }

    /// The number of subjects of which something is wrong.
    pub(crate) fn broken(&self) -> u64 {
        let subjects = self.violations.iter().map(|violation| violation.subject.as_str());
        subjects.collect::<BTreeSet<_>>().len() as u64
    }

    /// The violation with the fewest events, the earliest of several, with the faults during it.
    pub(crate) fn witness(&self, faults: &[&Fault]) -> Option<Violation> {
        let smallest = self.violations.iter().min_by_key(|violation| violation.events.len());
        let mut witness = smallest.cloned()?;
        let moments = || witness.events.iter().map(|event| event.at);
        if let (Some(from), Some(to)) = (moments().min(), moments().max()) {
            let during = faults.iter().filter(|fault| fault.from <= to && fault.until >= from);
            witness.faults.extend(during.map(|fault| fault.id.clone()));
        }
        witness.faults.sort();
        witness.faults.dedup();
        witness.faults.truncate(FAULTS);
        Some(witness)
    }
}

/// Most faults that are named with a witness.
const FAULTS: usize = 5;
