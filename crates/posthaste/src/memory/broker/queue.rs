//! The queue of one subscription: what is to be delivered, what is locked, what waits.
//!
//! Invariant: an item has at most one lock at a time, and a lock is told from every other one of
//! its queue by its number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use posthaste_core::Message;
use posthaste_core::delivery::Disposition;
use tokio::time::Instant;

use super::BrokerDeadLetter;

/// The messages of one subscription that are not settled, in the order of their acceptance.
#[derive(Default)]
pub(super) struct Queue {
    items: BTreeMap<u64, Item>,
    pub(super) dead: Vec<BrokerDeadLetter>,
    last_number: u64,
    last_lock: u64,
}

struct Item {
    message: Message,
    deliveries: u32,
    state: ItemState,
}

enum ItemState {
    /// To be delivered; `None`: at once.
    Waiting { from: Option<Instant> },
    /// In somebody's hands.
    Locked { lock: u64, holder: u64, until: Instant },
    /// Kept until asked for.
    Deferred,
}

/// How to take deliveries.
pub(super) struct Taking {
    pub(super) holder: u64,
    pub(super) max: usize,
    pub(super) prefetch: usize,
    pub(super) ordered: bool,
    pub(super) now: Instant,
    pub(super) lock: Duration,
}

/// A delivery that was taken, by the number of its item and of its lock.
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) lock: u64,
    pub(super) message: Message,
    pub(super) deliveries: u32,
}

/// The lock is not there any more.
pub(super) struct Lost;

impl Queue {
    pub(super) fn push(&mut self, message: Message) {
        self.last_number += 1;
        let state = ItemState::Waiting { from: None };
        self.items.insert(self.last_number, Item { message, deliveries: 0, state });
    }

    /// Locks what may be delivered now. On an ordered subscription a key has one message out.
    pub(super) fn take(&mut self, taking: &Taking) -> Vec<Taken> {
        let in_hand = self.items.values().filter(|item| {
            matches!(item.state, ItemState::Locked { holder, until, .. }
                if holder == taking.holder && until > taking.now)
        });
        let room = taking.max.min(taking.prefetch.saturating_sub(in_hand.count()));
        let mut taken = Vec::new();
        let mut busy: BTreeSet<String> = BTreeSet::new();
        for (&number, item) in &mut self.items {
            if taken.len() >= room {
                break;
            }
            if matches!(item.state, ItemState::Deferred) {
                continue;
            }
            let key = item.message.key.as_ref().filter(|_| taking.ordered);
            if key.is_some_and(|key| !busy.insert(key.clone())) || !item.is_there(taking.now) {
                continue;
            }
            self.last_lock += 1;
            let (lock, until) = (self.last_lock, taking.now + taking.lock);
            item.state = ItemState::Locked { lock, holder: taking.holder, until };
            item.deliveries = item.deliveries.saturating_add(1);
            let (message, deliveries) = (item.message.clone(), item.deliveries);
            taken.push(Taken { number, lock, message, deliveries });
        }
        taken
    }

    /// When something that waits for time only may be there.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let times = self.items.values().filter_map(|item| match item.state {
            ItemState::Waiting { from } => from,
            ItemState::Locked { until, .. } => Some(until),
            ItemState::Deferred => None,
        });
        times.min()
    }

    /// Settles what is held under a lock that still runs.
    pub(super) fn settle(
        &mut self,
        number: u64,
        lock: u64,
        disposition: Disposition,
        now: Instant,
    ) -> Result<(), Lost> {
        let item = self.locked(number, lock, now)?;
        match disposition {
            Disposition::Complete => {
                self.items.remove(&number);
            }
            Disposition::Retry { delay } => {
                item.state = ItemState::Waiting { from: Some(now + delay) };
            }
            Disposition::Defer => item.state = ItemState::Deferred,
            Disposition::DeadLetter { reason, detail } => {
                let message = item.message.clone();
                self.items.remove(&number);
                self.dead.push(BrokerDeadLetter { message, reason, detail });
            }
        }
        Ok(())
    }

    /// Extends a lock that still runs.
    pub(super) fn renew(
        &mut self,
        number: u64,
        lock: u64,
        now: Instant,
        length: Duration,
    ) -> Result<(), Lost> {
        let item = self.locked(number, lock, now)?;
        if let ItemState::Locked { until, .. } = &mut item.state {
            *until = now + length;
        }
        Ok(())
    }

    /// Puts back what is held under this lock, to be delivered again at once.
    pub(super) fn release(&mut self, number: u64, lock: u64, now: Instant) {
        if let Ok(item) = self.locked(number, lock, now) {
            item.state = ItemState::Waiting { from: None };
        }
    }

    fn locked(&mut self, number: u64, wanted: u64, now: Instant) -> Result<&mut Item, Lost> {
        let item = self.items.get_mut(&number).ok_or(Lost)?;
        match item.state {
            ItemState::Locked { lock, until, .. } if lock == wanted && until > now => Ok(item),
            _ => Err(Lost),
        }
    }

    pub(super) fn unsettled(&self) -> Vec<Message> {
        let open = self.items.values().filter(|item| !matches!(item.state, ItemState::Deferred));
        open.map(|item| item.message.clone()).collect()
    }

    pub(super) fn deferred(&self) -> Vec<Message> {
        let kept = self.items.values().filter(|item| matches!(item.state, ItemState::Deferred));
        kept.map(|item| item.message.clone()).collect()
    }
}

impl Item {
    /// Whether it may be delivered: nobody holds it, and no delay runs.
    fn is_there(&self, now: Instant) -> bool {
        match self.state {
            ItemState::Waiting { from } => from.is_none_or(|from| from <= now),
            ItemState::Locked { until, .. } => until <= now,
            ItemState::Deferred => false,
        }
    }
}
