//! A group: everything that was asked at one time, applied in one transaction and answered after
//! it. If the transaction fails nobody is told that something was done, what is known in memory is
//! read from the file again, and what needs no file (locks, who asks, who is gone) stands.

use std::collections::{BTreeMap, HashMap};

use super::Engine;
use super::book::Now;
use super::call::{Answer, Call, Sink};
use super::change::Change;
use super::echo::Echo;
use super::ledger::{Consumer, Handout};
use super::publish::{Kept, Publication};
use crate::error::{self, Failure};
use crate::parcel::Parcel;
use crate::protocol::{Fate, Handed, Reply, Request};

/// Bytes of one batch of deliveries, at most (one message may be larger).
pub(super) const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What was asked in a group, and what will be said of it.
#[derive(Debug)]
struct Group {
    now: Now,
    /// The last lock that was given before this group.
    mark: u64,
    publications: Vec<Publication>,
    asked: Vec<Asked>,
    batches: BTreeMap<Consumer, Vec<Handed>>,
}

/// A call other than a publication.
#[derive(Debug)]
struct Asked {
    work: Option<(u64, Request, Option<Sink>)>,
    echo: Option<Echo>,
    answer: Answer,
    reply: Option<Reply>,
}

/// How a group failed.
#[derive(Debug)]
enum Setback {
    /// It did not begin: nothing was touched.
    Beginning(rusqlite::Error),
    /// Before the commit.
    Applying(rusqlite::Error),
    Commit(rusqlite::Error),
    /// The file says that another process owns it.
    Fenced,
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
    /// Applies a group. An error is the end: what is in the file cannot be known any more, or it
    /// is not ours any more.
    pub(super) fn apply(&mut self, calls: Vec<Call>) -> Result<(), Failure> {
        self.is_behind = false;
        let mut group = Group::new(self.now(), self.serial, calls);
        match self.attempt(&mut group) {
            Ok(()) => {
                self.retry = None;
                self.say(group);
                Ok(())
            }
            Err(setback) => self.fail(group, &setback),
        }
    }

    fn attempt(&mut self, group: &mut Group) -> Result<(), Setback> {
        self.store.begin().map_err(Setback::Beginning)?;
        if !self.store.is_ours().map_err(Setback::Beginning)? {
            return Err(Setback::Fenced);
        }
        // Another program may have kept the file busy, and locks run from when they are given.
        group.now = self.now();
        for desk in self.book.desks.values_mut() {
            desk.ledger.begin();
        }
        self.decide(group).map_err(Setback::Applying)?;
        self.store.commit().map_err(Setback::Commit)
    }

    /// All but the commit: messages, requests, deliveries, and the rows that follow from them.
    /// Locks end after the requests: one that nobody else was given may still be settled.
    fn decide(&mut self, group: &mut Group) -> rusqlite::Result<()> {
        let now = group.now;
        let kept = self.write_messages(&mut group.publications)?;
        for one in &kept {
            self.book.published(one.address, one.sequence, one.parcel.key.as_deref());
        }
        for asked in &mut group.asked {
            if let Some((client, request, sink)) = asked.work.take() {
                asked.reply = Some(self.take(now, client, request, sink, asked.echo)?);
            } else if let Some(echo) = asked.echo {
                asked.reply = self.stand(now, echo);
            }
        }
        for desk in self.book.desks.values_mut() {
            desk.ledger.advance(now.moment);
        }
        self.hand_out(now, &kept, &mut group.batches)?;
        self.write_changes(now)
    }

    /// Gives ready messages to the consumers that ask for them.
    fn hand_out(
        &mut self,
        now: Now,
        kept: &[Kept],
        batches: &mut BTreeMap<Consumer, Vec<Handed>>,
    ) -> rusqlite::Result<()> {
        let fresh: HashMap<i64, &Parcel> =
            kept.iter().map(|one| (one.sequence, &one.parcel)).collect();
        let subscriptions: Vec<i64> = self.book.desks.keys().copied().collect();
        for subscription in subscriptions {
            self.is_behind |= self.book.feed(subscription, &self.store, now)?;
            self.hand_out_of(subscription, now, &fresh, batches)?;
        }
        Ok(())
    }

    fn hand_out_of(
        &mut self,
        subscription: i64,
        now: Now,
        fresh: &HashMap<i64, &Parcel>,
        batches: &mut BTreeMap<Consumer, Vec<Handed>>,
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
                        desk.ledger.give_back(consumer);
                        continue;
                    }
                },
            };
            *bytes.entry(consumer).or_default() += parcel.size();
            let lasts = self.options.lock;
            let handed = Handed { subscription, sequence, lock, attempt, lasts, parcel };
            batches.entry(consumer).or_default().push(handed);
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

    /// The group failed: takes it back, reads the file again, lets stand what needs no file, says
    /// so, and tries again a little later.
    fn fail(&mut self, group: Group, setback: &Setback) -> Result<(), Failure> {
        let failure = self.reason(setback);
        let detail = failure.detail().to_owned();
        tracing::warn!(failure = detail, "a group of requests failed");
        let now = self.now();
        let read = self.store.roll_back().and_then(|()| match setback {
            Setback::Beginning(_) | Setback::Fenced => Ok(()),
            _ => self.book.read_again(&self.store, now, group.mark),
        });
        let is_known = match setback {
            Setback::Commit(error) => error::is_no(error),
            _ => true,
        };
        for publication in group.publications {
            publication.fail(&detail, is_known);
        }
        for Asked { echo, answer, .. } in group.asked {
            let reply = echo.and_then(|echo| self.stand(now, echo));
            let unavailable = || Reply::Failed(Failure::Unavailable(detail.clone()));
            answer.give(reply.unwrap_or_else(unavailable));
        }
        self.try_again_later();
        if matches!(setback, Setback::Fenced) {
            return Err(failure);
        }
        read.map_err(|error| self.failure("could not read", &error))
    }

    fn reason(&self, setback: &Setback) -> Failure {
        match setback {
            Setback::Beginning(error) | Setback::Applying(error) => {
                self.failure("could not write", error)
            }
            Setback::Commit(error) => self.failure("could not commit to", error),
            Setback::Fenced => Failure::Unavailable(format!(
                "another process has taken over bus file {}",
                self.store.path().display()
            )),
        }
    }

    /// Answers, and sends the batches. What cannot be taken any more is released.
    fn say(&mut self, group: Group) {
        let Group { now, publications, asked, batches, .. } = group;
        let since = self.start + now.moment.elapsed();
        for publication in publications {
            publication.tell();
        }
        for Asked { answer, reply, .. } in asked {
            if let Some(reply) = reply {
                answer.give(reply);
            }
        }
        for (consumer, batch) in batches {
            let attachment = self.book.consumers.get(&consumer);
            let subscription = attachment.map(|one| one.subscription);
            let lost = match attachment {
                Some(attachment) => attachment.sink.send(since, batch).err().unwrap_or_default(),
                None => batch,
            };
            if let Some(desk) = subscription.and_then(|id| self.book.desks.get_mut(&id)) {
                desk.ledger.served(consumer);
            }
            for one in lost {
                if let Some(desk) = self.book.desks.get_mut(&one.subscription) {
                    desk.ledger.release(one.lock, false);
                    self.is_behind = true;
                }
            }
        }
    }
}

impl Group {
    /// Publications apart from everything else, each in its order.
    fn new(now: Now, mark: u64, calls: Vec<Call>) -> Self {
        let (mut publications, mut asked) = (Vec::new(), Vec::new());
        for call in calls {
            let echo = Echo::of(&call);
            match call {
                Call::Request { request: Request::Publish { parcels }, answer, .. } => {
                    publications.push(Publication::new(parcels, answer));
                }
                Call::Request { client, request, answer, sink } => {
                    let work = Some((client, request, sink));
                    asked.push(Asked { work, echo, answer, reply: None });
                }
                Call::Gone { .. } | Call::Drained | Call::Stop => {
                    let answer = Answer::Nowhere;
                    asked.push(Asked { work: None, echo, answer, reply: None });
                }
            }
        }
        Self { now, mark, publications, asked, batches: BTreeMap::new() }
    }
}
