//! I4d: while a message of a key fails, or is parked as a dead letter, no later message of that key
//! arrives for the first time.
//!
//! A message fails from the verdict that it is tried again, or the answer to its delivery that it
//! is to come again, until it is sent, done, given up or touched by an operator.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Answer, Delivered, Event, Line, OutcomeKind, VerdictKind};
use crate::examination::Examination;
use crate::index::{By, Index, Message};
use crate::violation::Harm;

/// A message that was passed.
pub(super) struct Passed<'h> {
    pub(super) consumer: &'h str,
    pub(super) id: &'h str,
    by: &'h str,
    key: &'h str,
    failed: &'h Line,
    arrived: &'h Line,
}

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    let mut failing = Failing::of(index);
    let passed = failing.walk();
    examination.looked_at = failing.failures;
    for one in passed {
        let Passed { consumer, id, by, key, failed, arrived } = one;
        let what =
            format!("message {by} of key {key} arrived at {consumer} while {id} before it failed");
        examination.find(Harm::Order, id, what, &[failed, arrived]);
    }
}

/// The messages that were passed while they failed.
pub(super) fn passed<'h>(index: &Index<'h>) -> Vec<Passed<'h>> {
    Failing::of(index).walk()
}

/// Topic and key.
type Key<'h> = (&'h str, &'h str);

/// The messages that fail at a moment, by topic and key; at a consumer, or before they are sent.
struct Failing<'i, 'h> {
    index: &'i Index<'h>,
    lines: &'h [Line],
    by_key: BTreeMap<Key<'h>, BTreeMap<By<'h>, Failure<'h>>>,
    arrived: BTreeSet<(&'h str, &'h str)>,
    failures: u64,
}

#[derive(Clone, Copy)]
struct Failure<'h> {
    line: &'h Line,
    is_parked: bool,
}

impl<'i, 'h> Failing<'i, 'h> {
    fn of(index: &'i Index<'h>) -> Self {
        let (by_key, arrived) = (BTreeMap::new(), BTreeSet::new());
        Self { index, lines: index.lines, by_key, arrived, failures: 0 }
    }

    fn walk(&mut self) -> Vec<Passed<'h>> {
        let mut passed = Vec::new();
        for line in self.lines {
            match &line.event {
                Event::Settlement(settlement) if settlement.applied => {
                    for verdict in &settlement.verdicts {
                        match verdict.verdict {
                            VerdictKind::Retry => self.fails(None, &verdict.id, line, false),
                            VerdictKind::Hold => {}
                            _ => self.ends(None, &verdict.id),
                        }
                    }
                }
                Event::Outcome(outcome) if outcome.outcome == OutcomeKind::Accepted => {
                    self.ends(None, &outcome.id);
                }
                Event::Answered(answered) => match answered.answer {
                    Answer::Retried => {
                        self.fails(Some(&answered.consumer), &answered.id, line, false);
                    }
                    Answer::Released => {}
                    _ => self.ends(Some(&answered.consumer), &answered.id),
                },
                Event::Buried(buried) if buried.parks_key => {
                    self.fails(buried.consumer.as_deref(), &buried.id, line, true);
                }
                Event::Buried(buried) => self.ends(buried.consumer.as_deref(), &buried.id),
                Event::Audit(audit) => self.decided(audit.consumer.as_deref(), &audit.id),
                Event::Delivered(delivered) => self.arrives(delivered, line, &mut passed),
                _ => {}
            }
        }
        passed
    }

    fn line_of(&self, id: &str) -> Option<Key<'h>> {
        let message = self.index.committed(id)?;
        Some((message.topic, message.key?))
    }

    fn fails(&mut self, by: Option<&'h str>, id: &'h str, line: &'h Line, is_parked: bool) {
        let Some(key) = self.line_of(id) else { return };
        self.failures += 1;
        let failing = self.by_key.entry(key).or_default();
        let failure = failing.entry((by, id)).or_insert(Failure { line, is_parked });
        failure.is_parked |= is_parked;
    }

    /// It no longer fails; a parked one still waits for an operator.
    fn ends(&mut self, by: Option<&'h str>, id: &'h str) {
        let Some(failing) = self.line_of(id).and_then(|key| self.by_key.get_mut(&key)) else {
            return;
        };
        if failing.get(&(by, id)).is_some_and(|failure| !failure.is_parked) {
            failing.remove(&(by, id));
        }
    }

    fn decided(&mut self, by: Option<&'h str>, id: &'h str) {
        if let Some(failing) = self.line_of(id).and_then(|key| self.by_key.get_mut(&key)) {
            failing.remove(&(by, id));
        }
    }

    fn arrives(&mut self, delivered: &'h Delivered, line: &'h Line, passed: &mut Vec<Passed<'h>>) {
        let (consumer, id) = (delivered.consumer.as_str(), delivered.id.as_str());
        if !self.arrived.insert((consumer, id)) {
            return;
        }
        let Some(message) = self.index.committed(id) else { return };
        let Some(failing) = message.key.and_then(|key| self.by_key.get(&(message.topic, key)))
        else {
            return;
        };
        for ((by, failed), failure) in failing {
            let is_here = match by {
                Some(by) => *by == consumer,
                None => !self.arrived.contains(&(consumer, *failed)),
            };
            let precedes = |one: &Message<'h>| one.precedes(message) && one.due.is_none();
            if is_here && self.index.committed(failed).is_some_and(precedes) {
                passed.push(Passed {
                    consumer,
                    id: failed,
                    by: id,
                    key: message.key.unwrap_or_default(),
                    failed: failure.line,
                    arrived: line,
                });
            }
        }
    }
}
