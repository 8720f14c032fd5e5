//! A group: everything that was asked at one time, applied in one transaction and answered after
//! it. If the transaction fails nobody is told that something was done, and what is known in
//! memory is read from the file again.

use std::collections::{BTreeMap, HashMap};

use super::Engine;
use super::book::Now;
use super::call::{Answer, Call};
use super::change::Change;
use super::ledger::{Consumer, Handout};
use super::publish::{Kept, Publication};
use crate::error::Failure;
use crate::parcel::Parcel;
use crate::protocol::{Fate, Handed, Reply, Request, Word};

/// Bytes of one batch of deliveries, at most (one message may be larger).
pub(super) const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What is said after the commit.
#[derive(Debug, Default)]
struct Said {
    answers: Vec<(Answer, Reply)>,
    batches: BTreeMap<Consumer, Vec<Handed>>,
}

/// Bytes that a call brings.
pub(super) fn bytes_of(call: &Call) -> usize {
    match call {
        Call::Request { request: Request::Publish { parcels }, .. } => {
            parcels.iter().map(Parcel::size).sum()
        }
        _ => 64,
    }
}

impl Engine {
    /// Applies a group. An error is the end: what is in the file cannot be known any more.
    pub(super) fn apply(&mut self, calls: Vec<Call>) -> Result<(), Failure> {
        self.is_behind = false;
        let now = self.now();
        let (mut publications, others) = sort(calls);
        let kept = match self.begin_with(&mut publications) {
            Ok(kept) => kept,
            Err(error) => {
                let failure = self.failure("could not write", &error);
                return self.fail(publications, unasked(others), &failure, false);
            }
        };
        let mut asked = Vec::new();
        let mut said = Said::default();
        match self.decide(now, &kept, others, &mut asked, &mut said) {
            Ok(()) => {}
            Err(error) => {
                let failure = self.failure("could not write", &error);
                return self.fail(publications, answers(asked, said), &failure, false);
            }
        }
        if let Err(error) = self.store.commit() {
            let failure = self.failure("could not commit to", &error);
            return self.fail(publications, answers(asked, said), &failure, true);
        }
        for publication in publications {
            publication.answer.give(Reply::Published(publication.words));
        }
        self.say(said);
        Ok(())
    }

    /// Begins the transaction and writes the messages. When that fails they are refused, and the
    /// rest of the group goes on in a new transaction.
    fn begin_with(&mut self, publications: &mut Vec<Publication>) -> rusqlite::Result<Vec<Kept>> {
        self.store.begin()?;
        let error = match self.write_messages(publications) {
            Ok(kept) => return Ok(kept),
            Err(error) => error,
        };
        let failure = self.failure("could not write", &error);
        tracing::warn!(failure = failure.detail(), "messages were refused");
        self.store.roll_back()?;
        // Only to forget addresses that were not created after all; no lock is lost by it.
        self.book.forget_places(&self.store.addresses()?);
        for publication in publications.drain(..) {
            let detail = failure.detail().to_owned();
            publication.fail(&Word::Refused { permanent: false, detail });
        }
        self.store.begin()?;
        Ok(Vec::new())
    }

    /// All but the commit: requests, deliveries, and the rows that follow from them.
    fn decide(
        &mut self,
        now: Now,
        kept: &[Kept],
        others: Vec<Call>,
        asked: &mut Vec<Answer>,
        said: &mut Said,
    ) -> rusqlite::Result<()> {
        for desk in self.book.desks.values_mut() {
            desk.ledger.advance(now.moment);
        }
        for one in kept {
            self.book.published(one.address, one.sequence, one.parcel.key.as_deref());
        }
        let mut others = others.into_iter();
        while let Some(call) = others.next() {
            match self.take(now, call) {
                Ok(Some((answer, reply))) => said.answers.push((answer, reply)),
                Ok(None) => {}
                Err((answer, error)) => {
                    asked.push(answer);
                    asked.extend(others.filter_map(Call::into_answer));
                    return Err(error);
                }
            }
        }
        self.hand_out(now, kept, said)?;
        self.write_changes(now)
    }

    /// Gives ready messages to the consumers that ask for them.
    fn hand_out(&mut self, now: Now, kept: &[Kept], said: &mut Said) -> rusqlite::Result<()> {
        let fresh: HashMap<i64, &Parcel> =
            kept.iter().map(|one| (one.sequence, &one.parcel)).collect();
        let subscriptions: Vec<i64> = self.book.desks.keys().copied().collect();
        for subscription in subscriptions {
            self.is_behind |= self.book.feed(subscription, &self.store, now)?;
            self.hand_out_of(subscription, now, &fresh, said)?;
        }
        Ok(())
    }

    fn hand_out_of(
        &mut self,
        subscription: i64,
        now: Now,
        fresh: &HashMap<i64, &Parcel>,
        said: &mut Said,
    ) -> rusqlite::Result<()> {
        let consumers = &self.book.consumers;
        let Some(desk) = self.book.desks.get_mut(&subscription) else { return Ok(()) };
        let mut bytes: HashMap<Consumer, usize> = HashMap::new();
        loop {
            let has_room = |consumer: Consumer| {
                bytes.get(&consumer).is_none_or(|bytes| *bytes < BATCH_BYTES)
                    && consumers.get(&consumer).is_some_and(|one| one.sink.has_room())
            };
            let next = desk.ledger.next(now.moment, &mut self.serial, has_room);
            let Some((consumer, Handout { sequence, lock, attempt })) = next else { break };
            let parcel = match fresh.get(&sequence) {
                Some(parcel) => (*parcel).clone(),
                None => match self.store.message(sequence)? {
                    Some(parcel) => parcel,
                    None => {
                        tracing::error!(
                            sequence,
                            "a message is missing or damaged in the bus file"
                        );
                        let reason = "unreadable".to_owned();
                        let detail = "its row is missing or damaged".to_owned();
                        desk.ledger.settle(now.moment, lock, Fate::Dead { reason, detail });
                        continue;
                    }
                },
            };
            *bytes.entry(consumer).or_default() += parcel.size();
            let lasts = self.options.lock;
            let handed = Handed { subscription, sequence, lock, attempt, lasts, parcel };
            said.batches.entry(consumer).or_default().push(handed);
        }
        for consumer in bytes.keys() {
            desk.ledger.served(*consumer);
        }
        Ok(())
    }

    /// Writes what the ledgers decided.
    fn write_changes(&mut self, now: Now) -> rusqlite::Result<()> {
        let subscriptions: Vec<i64> = self.book.desks.keys().copied().collect();
        for subscription in subscriptions {
            let Some(desk) = self.book.desks.get_mut(&subscription) else { continue };
            let (low, delivered_to) = (desk.ledger.low(), desk.ledger.delivered_to());
            for change in desk.ledger.take_changes() {
                self.write_change(subscription, change, low, now)?;
            }
            let Some(desk) = self.book.desks.get_mut(&subscription) else { continue };
            if desk.written != (low, delivered_to) {
                self.store.set_marks(subscription, low, delivered_to)?;
                self.is_littered |= desk.written.0 != low;
                desk.written = (low, delivered_to);
            }
            if let Some((first, last)) = desk.rows
                && first <= low
            {
                self.store.remove_passed(subscription, low)?;
                desk.rows = (last > low).then_some((low + 1, last));
            }
        }
        Ok(())
    }

    /// Writes one change. Above the watermark a settled message needs a row that says so, below it
    /// none.
    pub(super) fn write_change(
        &mut self,
        subscription: i64,
        change: Change,
        low: i64,
        now: Now,
    ) -> rusqlite::Result<()> {
        let change = match change {
            Change::Settled { sequence } if sequence <= low => return Ok(()),
            Change::Removed { sequence } if sequence > low => Change::Settled { sequence },
            other => other,
        };
        self.store.write_change(subscription, &change, now.wall)?;
        match change {
            Change::Settled { sequence } | Change::Again { sequence, aside: false, .. } => {
                if let Some(desk) = self.book.desks.get_mut(&subscription) {
                    let (first, last) = desk.rows.unwrap_or((sequence, sequence));
                    desk.rows = Some((first.min(sequence), last.max(sequence)));
                }
            }
            Change::Removed { sequence } => self.body_is_free(subscription, sequence),
            Change::Again { .. } | Change::Dead { .. } | Change::Deferred { .. } => {}
        }
        Ok(())
    }

    /// The group failed: takes it back, says so, and reads the file again.
    fn fail(
        &mut self,
        publications: Vec<Publication>,
        answers: Vec<Answer>,
        failure: &Failure,
        at_commit: bool,
    ) -> Result<(), Failure> {
        tracing::warn!(failure = failure.detail(), "a group of requests failed");
        let detail = failure.detail().to_owned();
        let word = if at_commit {
            Word::Unknown { detail }
        } else {
            Word::Refused { permanent: false, detail }
        };
        let now = self.now();
        let rolled_back = self.store.roll_back();
        let read = rolled_back.and_then(|()| self.book.read_again(&self.store, now));
        for publication in publications {
            publication.fail(&word);
        }
        for answer in answers {
            answer.give(Reply::Failed(Failure::Unavailable(failure.detail().to_owned())));
        }
        read.map_err(|error| self.failure("could not read", &error))
    }

    /// Answers, and sends the batches. What cannot be taken any more is released.
    fn say(&mut self, said: Said) {
        for (answer, reply) in said.answers {
            answer.give(reply);
        }
        for (consumer, batch) in said.batches {
            let lost = match self.book.consumers.get(&consumer) {
                Some(attachment) => attachment.sink.send(batch).err().unwrap_or_default(),
                None => batch,
            };
            for one in lost {
                if let Some(desk) = self.book.desks.get_mut(&one.subscription) {
                    desk.ledger.release(one.lock, false);
                    self.is_behind = true;
                }
            }
        }
    }
}

/// Publications apart from everything else, each in its order.
fn sort(calls: Vec<Call>) -> (Vec<Publication>, Vec<Call>) {
    let mut publications = Vec::new();
    let mut others = Vec::new();
    for call in calls {
        match call {
            Call::Request { request: Request::Publish { parcels }, answer, .. } => {
                publications.push(Publication::new(parcels, answer));
            }
            other => others.push(other),
        }
    }
    (publications, others)
}

fn unasked(calls: Vec<Call>) -> Vec<Answer> {
    calls.into_iter().filter_map(Call::into_answer).collect()
}

fn answers(mut asked: Vec<Answer>, said: Said) -> Vec<Answer> {
    asked.extend(said.answers.into_iter().map(|(answer, _)| answer));
    asked
}
