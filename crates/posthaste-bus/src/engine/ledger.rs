//! What is known of the messages of one subscription, and the decisions that follow from it: which
//! message may go to which consumer, when a lock is over, how often a message was delivered.
//!
//! A pure state machine: it has no clock (`now` is passed in) and no file. What must be written is
//! collected as [`Change`]s, which the engine writes before anything it decided becomes visible.
//!
//! Invariants:
//! - A message is in one place: ready, behind another of its key, waiting, or locked.
//! - Of the messages of one key of an ordered subscription, at most the first is not behind.
//! - Everything up to [`Ledger::low`] is settled, except what stands aside in a row of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::Moment;

use super::change::Change;
use crate::protocol::Fate;

/// Reason of the dead letters that the bus makes by itself.
pub(crate) const MAX_DELIVERIES: &str = "max-deliveries";

/// Which consumer: the client and its own number for it.
pub(crate) type Consumer = (u64, u64);

/// The rules of a subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) lock: Duration,
    pub(crate) max_deliveries: u32,
}

/// A message as it was found in the file.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) sequence: i64,
    pub(crate) key: Option<Arc<str>>,
    /// Deliveries so far; `None` if no row says so and the watermark decides.
    pub(crate) deliveries: Option<u32>,
    pub(crate) due: Option<Moment>,
    /// Whether it has a row that does not depend on the watermark (a reposted dead letter).
    pub(crate) aside: bool,
}

/// A message that may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handout {
    pub(crate) sequence: i64,
    pub(crate) lock: u64,
    pub(crate) attempt: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    Waiting(Moment),
    Locked(u64),
}

/// A message that is not behind another.
#[derive(Clone, Debug)]
struct Entry {
    key: Option<Arc<str>>,
    deliveries: u32,
    aside: bool,
    /// Lives in the row of a deferred message and goes back there.
    deferred: bool,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
struct Lock {
    sequence: i64,
    consumer: Consumer,
    until: Moment,
}

/// A lock that outlives a group that failed.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    number: u64,
    lock: Lock,
    entry: Entry,
}

/// What a consumer asks for: how much, and how much of it is still to come.
#[derive(Clone, Copy, Debug)]
struct Demand {
    consumer: Consumer,
    most: u32,
    left: u32,
}

/// A message behind another of its key.
#[derive(Clone, Copy, Debug)]
struct Follower {
    deliveries: u32,
    aside: bool,
    /// Whether a row says how often it was delivered.
    recorded: bool,
    due: Option<Moment>,
}

/// The messages of one subscription.
#[derive(Debug)]
pub(crate) struct Ledger {
    terms: Terms,
    ordered: bool,
    delivered_to: i64,
    /// Everything up to here was looked at; what is above is in the file only.
    read_to: i64,
    entries: HashMap<i64, Entry>,
    lines: HashMap<Arc<str>, BTreeMap<i64, Follower>>,
    ready: BTreeSet<i64>,
    waiting: BTreeSet<(Moment, i64)>,
    locks: BTreeMap<u64, Lock>,
    expiries: BTreeSet<(Moment, u64)>,
    unsettled: BTreeSet<i64>,
    demands: VecDeque<Demand>,
    /// Locks that ended since the group began.
    ended: Vec<Carried>,
    changes: Vec<Change>,
}

impl Ledger {
    /// A subscription that is past `low` and has handed out nothing above `delivered_to`.
    pub(crate) fn new(terms: Terms, ordered: bool, low: i64, delivered_to: i64) -> Self {
        Self {
            terms,
            ordered,
            delivered_to,
            read_to: low,
            entries: HashMap::new(),
            lines: HashMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            locks: BTreeMap::new(),
            expiries: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            demands: VecDeque::new(),
            ended: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Decides on the order before anything was read.
    pub(crate) fn set_ordered(&mut self, ordered: bool) {
        self.ordered = ordered;
    }

    /// Whether the message is in somebody's hands or on its way there.
    pub(crate) fn is_taken(&self, sequence: i64) -> bool {
        self.entries.contains_key(&sequence)
    }

    /// Everything up to here is settled or stands aside.
    pub(crate) fn low(&self) -> i64 {
        self.unsettled.first().map_or(self.read_to, |first| self.read_to.min(first - 1))
    }

    /// The highest number that was ever handed out.
    pub(crate) fn delivered_to(&self) -> i64 {
        self.delivered_to
    }

    /// How far the file was read.
    pub(crate) fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Whether more should be read from the file, if there is more: somebody waits, fewer than
    /// `window` can go out, and fewer than `most` are known. The last bounds the memory that a
    /// long backlog of few keys takes; what is beyond it waits until some of these are settled.
    pub(crate) fn is_hungry(&self, window: usize, most: usize) -> bool {
        !self.demands.is_empty() && self.ready.len() < window && self.unsettled.len() < most
    }

    /// How many of the known ones are to be delivered, and how many are locked.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let behind: usize = self.lines.values().map(BTreeMap::len).sum();
        let locked = self.locks.len();
        (self.entries.len() - locked + behind, locked)
    }

    /// How many are known that the reading of the file has not come to: locks that outlived a
    /// group that failed.
    pub(crate) fn known_above(&self) -> usize {
        self.unsettled.range(self.read_to + 1..).count()
    }

    /// The file was read up to `read_to`; these are the messages that are not settled.
    pub(crate) fn load(&mut self, found: impl IntoIterator<Item = Found>, read_to: i64) {
        for one in found {
            self.admit(one);
        }
        self.read_to = self.read_to.max(read_to);
    }

    /// Takes in one message that is neither settled nor dead nor deferred.
    pub(crate) fn admit(&mut self, found: Found) {
        let Found { sequence, key, deliveries, due, aside } = found;
        if self.entries.contains_key(&sequence) {
            return;
        }
        if !aside {
            self.unsettled.insert(sequence);
        }
        let recorded = deliveries.is_some();
        let deliveries = deliveries.unwrap_or(u32::from(sequence <= self.delivered_to));
        let key = if self.ordered { key } else { None };
        if let Some(key) = &key {
            if let Some(line) = self.lines.get_mut(key) {
                line.insert(sequence, Follower { deliveries, aside, recorded, due });
                return;
            }
            self.lines.insert(Arc::clone(key), BTreeMap::new());
        }
        let entry = Entry { key, deliveries, aside, deferred: false, place: Place::Ready };
        self.entries.insert(sequence, entry);
        self.come_forward(sequence, recorded, due);
    }

    /// A message that nothing is before any more waits, is ready, or was delivered often enough.
    fn come_forward(&mut self, sequence: i64, recorded: bool, due: Option<Moment>) {
        match due {
            Some(due) => self.wait(sequence, due),
            None if recorded => self.make_ready(sequence),
            // The watermark says "perhaps once", which is not enough to give a message up.
            None => {
                self.ready.insert(sequence);
            }
        }
    }

    /// Asks for up to `most` messages for a consumer, in place of what it asked for before.
    pub(crate) fn demand(&mut self, consumer: Consumer, most: u32) {
        self.withdraw(consumer);
        if most > 0 {
            self.demands.push_back(Demand { consumer, most, left: most });
        }
    }

    /// What the consumer was to get it does not get after all, and something else in its place.
    pub(crate) fn give_back(&mut self, consumer: Consumer) {
        if let Some(demand) = self.demands.iter_mut().find(|one| one.consumer == consumer) {
            demand.left += 1;
        }
    }

    /// The consumer asks for nothing any more.
    pub(crate) fn withdraw(&mut self, consumer: Consumer) {
        self.demands.retain(|one| one.consumer != consumer);
    }

    /// Who asks for how much: what survives a ledger that is built anew.
    pub(crate) fn demands(&self) -> impl Iterator<Item = (Consumer, u32)> + '_ {
        self.demands.iter().map(|one| (one.consumer, one.most))
    }

    /// Whether anybody is to get more.
    #[cfg(test)]
    fn is_asked(&self) -> bool {
        self.demands.iter().any(|one| one.left > 0)
    }

    /// The next message and who gets it, or none. Consumers take turns; one for whom `has_room` is
    /// false is passed over and keeps its demand.
    pub(crate) fn next(
        &mut self,
        now: Moment,
        serial: &mut u64,
        has_room: impl Fn(Consumer) -> bool,
    ) -> Option<(Consumer, Handout)> {
        let sequence = *self.ready.first()?;
        let can = |one: &Demand| one.left > 0 && has_room(one.consumer);
        let turn = self.demands.iter().position(can)?;
        let Demand { consumer, most, left } = self.demands.remove(turn)?;
        self.demands.push_back(Demand { consumer, most, left: left - 1 });
        self.ready.remove(&sequence);
        let handout = self.lock(now, serial, consumer, sequence)?;
        let aside = self.entries.get(&sequence).is_some_and(|entry| entry.aside);
        self.delivered_to = self.delivered_to.max(sequence);
        if handout.attempt > 1 || aside {
            let deliveries = handout.attempt;
            self.changes.push(Change::Again { sequence, deliveries, wait: None, aside });
        }
        Some((consumer, handout))
    }

    /// The consumer has got its batch: its demand is over.
    pub(crate) fn served(&mut self, consumer: Consumer) {
        self.withdraw(consumer);
    }

    /// Locks a deferred message that was asked for by its number, unless somebody has it.
    pub(crate) fn take_deferred(
        &mut self,
        now: Moment,
        serial: &mut u64,
        consumer: Consumer,
        sequence: i64,
        deliveries: u32,
    ) -> Option<Handout> {
        if self.entries.contains_key(&sequence) {
            return None;
        }
        let place = Place::Ready;
        let entry = Entry { key: None, deliveries, aside: true, deferred: true, place };
        self.entries.insert(sequence, entry);
        let handout = self.lock(now, serial, consumer, sequence)?;
        self.changes.push(Change::Deferred { sequence, deliveries: handout.attempt });
        Some(handout)
    }

    /// Settles a locked message; false if that lock is no more.
    pub(crate) fn settle(&mut self, now: Moment, lock: u64, fate: Fate) -> bool {
        let Some((sequence, entry)) = self.unlock(lock) else { return false };
        let Entry { deliveries, aside, deferred, .. } = entry;
        match fate {
            Fate::Complete => {
                let change =
                    if aside { Change::Removed { sequence } } else { Change::Settled { sequence } };
                self.leave(sequence, change);
            }
            Fate::Retry { .. } if deliveries >= self.terms.max_deliveries => {
                self.give_up(sequence, deliveries);
            }
            Fate::Retry { .. } if deferred => self.put_back_deferred(sequence, deliveries),
            Fate::Retry { delay } => {
                let wait = Some(delay);
                self.changes.push(Change::Again { sequence, deliveries, wait, aside });
                self.wait(sequence, now.plus(delay));
            }
            Fate::Dead { reason, detail } => {
                self.leave(sequence, Change::Dead { sequence, deliveries, reason, detail });
            }
            Fate::Defer => self.leave(sequence, Change::Deferred { sequence, deliveries }),
        }
        true
    }

    /// Gives a locked message back; false if that lock is no more.
    pub(crate) fn release(&mut self, lock: u64, counted: bool) -> bool {
        let Some((sequence, entry)) = self.unlock(lock) else { return false };
        let deliveries = entry.deliveries.saturating_sub(u32::from(!counted));
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.deliveries = deliveries;
        }
        if counted && deliveries >= self.terms.max_deliveries {
            self.give_up(sequence, deliveries);
        } else if entry.deferred {
            self.put_back_deferred(sequence, deliveries);
        } else {
            self.set_ready(sequence);
        }
        true
    }

    /// Extends a lock to its full length from now; false if that lock is no more.
    pub(crate) fn renew(&mut self, now: Moment, lock: u64) -> bool {
        let Some(held) = self.locks.get_mut(&lock) else { return false };
        self.expiries.remove(&(held.until, lock));
        held.until = now.plus(self.terms.lock);
        self.expiries.insert((held.until, lock));
        true
    }

    /// Ends the locks and waits that are over.
    pub(crate) fn advance(&mut self, now: Moment) {
        while let Some(&(until, lock)) = self.expiries.first() {
            if until > now {
                break;
            }
            self.release(lock, true);
        }
        while let Some(&(due, sequence)) = self.waiting.first() {
            if due > now {
                break;
            }
            self.waiting.remove(&(due, sequence));
            self.make_ready(sequence);
        }
    }

    /// When [`Ledger::advance`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let lock = self.expiries.first().map(|(until, _)| *until);
        let wait = self.waiting.first().map(|(due, _)| *due);
        lock.into_iter().chain(wait).min()
    }

    /// The consumer ends in good order: what it has not taken (locks above `taken`) goes back
    /// uncounted; what it has taken can still be settled.
    pub(crate) fn detach(&mut self, consumer: Consumer, taken: u64) {
        self.withdraw(consumer);
        for lock in self.locks_of(|who| who == consumer) {
            if lock > taken {
                self.release(lock, false);
            }
        }
    }

    /// The client is gone: all it held goes back, counted.
    pub(crate) fn lose_client(&mut self, client: u64) {
        self.demands.retain(|one| one.consumer.0 != client);
        for lock in self.locks_of(|who| who.0 == client) {
            self.release(lock, true);
        }
    }

    /// A group begins: what ended before it is over for good.
    pub(crate) fn begin(&mut self) {
        self.ended.clear();
    }

    /// The locks up to number `mark` that were there when the group began.
    pub(crate) fn held_before(&self, mark: u64) -> Vec<Carried> {
        let held = self.locks.range(..=mark).filter_map(|(number, lock)| {
            let entry = self.entries.get(&lock.sequence)?.clone();
            Some(Carried { number: *number, lock: *lock, entry })
        });
        held.chain(self.ended.iter().filter(|one| one.number <= mark).cloned()).collect()
    }

    /// Takes over a lock from a ledger whose group failed, before anything else is known.
    pub(crate) fn carry(&mut self, carried: Carried) {
        let Carried { number, lock, mut entry } = carried;
        if let Some(key) = &entry.key {
            self.lines.entry(Arc::clone(key)).or_default();
        }
        if !entry.aside {
            self.unsettled.insert(lock.sequence);
        }
        entry.place = Place::Locked(number);
        self.entries.insert(lock.sequence, entry);
        self.expiries.insert((lock.until, number));
        self.locks.insert(number, lock);
    }

    /// What giving a locked message up would write.
    pub(crate) fn burial(&self, lock: u64, reason: &str, detail: &str) -> Option<Change> {
        let sequence = self.locks.get(&lock)?.sequence;
        let deliveries = self.entries.get(&sequence)?.deliveries;
        let (reason, detail) = (reason.to_owned(), detail.to_owned());
        Some(Change::Dead { sequence, deliveries, reason, detail })
    }

    /// What has to be written, in order.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn locks_of(&self, is_its: impl Fn(Consumer) -> bool) -> Vec<u64> {
        let held = self.locks.iter().filter(|(_, lock)| is_its(lock.consumer));
        held.map(|(lock, _)| *lock).collect()
    }

    fn lock(
        &mut self,
        now: Moment,
        serial: &mut u64,
        consumer: Consumer,
        sequence: i64,
    ) -> Option<Handout> {
        let entry = self.entries.get_mut(&sequence)?;
        *serial += 1;
        let (lock, until) = (*serial, now.plus(self.terms.lock));
        entry.deliveries = entry.deliveries.saturating_add(1);
        entry.place = Place::Locked(lock);
        self.locks.insert(lock, Lock { sequence, consumer, until });
        self.expiries.insert((until, lock));
        Some(Handout { sequence, lock, attempt: entry.deliveries })
    }

    fn unlock(&mut self, lock: u64) -> Option<(i64, Entry)> {
        let held = self.locks.remove(&lock)?;
        self.expiries.remove(&(held.until, lock));
        let entry = self.entries.get(&held.sequence)?.clone();
        self.ended.push(Carried { number: lock, lock: held, entry: entry.clone() });
        Some((held.sequence, entry))
    }

    fn wait(&mut self, sequence: i64, due: Moment) {
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.place = Place::Waiting(due);
            self.waiting.insert((due, sequence));
        }
    }

    fn set_ready(&mut self, sequence: i64) {
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.place = Place::Ready;
            self.ready.insert(sequence);
        }
    }

    fn make_ready(&mut self, sequence: i64) {
        let deliveries = self.entries.get(&sequence).map_or(0, |entry| entry.deliveries);
        if deliveries >= self.terms.max_deliveries {
            self.give_up(sequence, deliveries);
        } else {
            self.set_ready(sequence);
        }
    }

    fn give_up(&mut self, sequence: i64, deliveries: u32) {
        let reason = MAX_DELIVERIES.to_owned();
        let detail = format!("delivered {deliveries} times and never completed");
        self.leave(sequence, Change::Dead { sequence, deliveries, reason, detail });
    }

    fn put_back_deferred(&mut self, sequence: i64, deliveries: u32) {
        self.entries.remove(&sequence);
        self.changes.push(Change::Deferred { sequence, deliveries });
    }

    /// The message is not to be delivered any more; the next of its key comes forward.
    fn leave(&mut self, sequence: i64, change: Change) {
        self.changes.push(change);
        self.unsettled.remove(&sequence);
        let Some(entry) = self.entries.remove(&sequence) else { return };
        match entry.place {
            Place::Ready => drop(self.ready.remove(&sequence)),
            Place::Waiting(due) => drop(self.waiting.remove(&(due, sequence))),
            Place::Locked(_) => {}
        }
        let Some(key) = entry.key else { return };
        let Some(line) = self.lines.get_mut(&key) else { return };
        let Some((next, follower)) = line.pop_first() else {
            self.lines.remove(&key);
            return;
        };
        let Follower { deliveries, aside, recorded, due } = follower;
        let place = Place::Ready;
        let entry = Entry { key: Some(key), deliveries, aside, deferred: false, place };
        self.entries.insert(next, entry);
        self.come_forward(next, recorded, due);
    }
}

#[cfg(test)]
mod tests;
