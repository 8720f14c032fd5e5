//! Writers carry out the script.

use std::sync::Arc;
use std::time::Duration;

use crate::marker::sometimes;
use crate::message::make;
use crate::note::Actor;
use crate::script::Step;
use crate::world::{Event, World};

impl World {
    pub(crate) fn begin_transaction(&mut self, place: usize) {
        self.waiting.remove(&place);
        if !self.database.is_up {
            return self.note(Actor::Writer(place), "cannot begin", Vec::new(), 0);
        }
        if !self.database.begin(place) {
            // Another one has to end first.
            self.waiting.insert(place);
            return self.plan(Duration::from_micros(700), Event::Begin(place));
        }
        self.note(Actor::Writer(place), "begins", Vec::new(), 0);
        let transaction = &self.scenario.transactions[place];
        // It may have begun later than it wanted to.
        let late = self.now.since(transaction.begins);
        let steps: Vec<_> = transaction.steps.iter().map(|(at, _)| at.plus(late)).collect();
        let ends = transaction.ends.plus(late);
        for (step, at) in steps.into_iter().enumerate() {
            self.plan_at(at, Event::Step(place, step));
        }
        self.plan_at(ends, Event::End(place));
    }

    pub(crate) fn step_transaction(&mut self, place: usize, step: usize) {
        let (_, step) = self.scenario.transactions[place].steps[step];
        match step {
            Step::Touch => self.database.touch(place),
            Step::Savepoint => self.database.savepoint(place),
            Step::RollBack => {
                self.database.roll_back_to_savepoint(place);
                sometimes!(self, SavepointRolledBack);
                self.note(Actor::Writer(place), "goes back to its savepoint", Vec::new(), 0);
            }
            Step::State(stated) => {
                let message = Arc::new(make(&stated, self.database.now()));
                let Some(seq) = self.database.state(place, Arc::clone(&message)) else { return };
                self.witness.stated(stated.number, seq, message);
                self.note(Actor::Writer(place), "states", vec![stated.number], seq);
            }
        }
    }

    pub(crate) fn end_transaction(&mut self, place: usize) {
        let stated = self.kept_of(place);
        let Some(open) = self.database.open.get(&place) else {
            return self.take_back(&stated.0, &stated.1);
        };
        let is_new = !open.is_empty();
        if !self.scenario.transactions[place].commits {
            self.database.roll_back(place);
            self.note(Actor::Writer(place), "rolls back", Vec::new(), 0);
            return self.take_back(&stated.0, &stated.1);
        }
        let unknown = self.writers[place].percent(self.rates.commit_unknown);
        if unknown && self.writers[place].percent(50) {
            self.database.roll_back(place);
            sometimes!(self, CommitUnknownAndGone);
            self.note(Actor::Writer(place), "commits, which is lost", Vec::new(), 0);
            return self.take_back(&stated.0, &stated.1);
        }
        self.database.commit(place, is_new.then_some(place));
        sometimes!(self, CommitUnknownAndThere, if unknown);
        for number in &stated.0 {
            self.witness.committed(*number);
        }
        self.take_back(&[], &stated.1);
        let what = if unknown { "commits, unanswered" } else { "commits" };
        self.note(Actor::Writer(place), what, stated.0, 0);
        self.hint();
    }

    /// What a transaction stated that counts if it commits, and what it took back itself.
    fn kept_of(&self, place: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut kept, mut dropped, mut savepoint) = (Vec::new(), Vec::new(), 0);
        for (_, step) in &self.scenario.transactions[place].steps {
            match step {
                Step::State(stated) => kept.push(stated.number),
                Step::Savepoint => savepoint = kept.len(),
                Step::RollBack => dropped.extend(kept.drain(savepoint.min(kept.len())..)),
                Step::Touch => {}
            }
        }
        (kept, dropped)
    }

    fn take_back(&mut self, kept: &[u32], dropped: &[u32]) {
        for number in kept.iter().chain(dropped) {
            self.witness.rolled_back(*number);
        }
    }
}
