//! The model of a broker: what it says of messages, and queues that give them to consumers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::{Message, MessageId, Moment};

use crate::scenario::Personality;
use crate::witness::QUEUES;

/// Which lease a call was made under: later divisions and higher tokens are later.
pub(crate) type Epoch = (u64, u64);

/// Names a delivery.
pub(crate) type Tag = u64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) personality: Personality,
    pub(crate) is_up: bool,
    /// Kinds that nobody is bound to.
    pub(crate) unbound: BTreeSet<&'static str>,
    pub(crate) queues: [Queue; QUEUES],
    /// The last lease that wrote a key.
    epochs: BTreeMap<(String, String), Epoch>,
    accepted: BTreeMap<MessageId, Moment>,
    /// What is to come once more, by queue.
    pub(crate) copies: [VecDeque<Arc<Message>>; QUEUES],
}

impl Broker {
    pub(crate) fn new(personality: Personality) -> Self {
        Self {
            personality,
            is_up: true,
            unbound: BTreeSet::new(),
            queues: Default::default(),
            epochs: BTreeMap::new(),
            accepted: BTreeMap::new(),
            copies: Default::default(),
        }
    }

    /// Whether a call under this lease comes after one of a later lease for the same key.
    pub(crate) fn is_overtaken(&self, message: &Message, epoch: Epoch) -> bool {
        let address = address(message);
        address.is_some_and(|address| self.epochs.get(&address).is_some_and(|last| *last > epoch))
    }

    /// Notes the lease under which a message came.
    pub(crate) fn note_epoch(&mut self, message: &Message, epoch: Epoch) {
        if let Some(address) = address(message) {
            let last = self.epochs.entry(address).or_default();
            *last = epoch.max(*last);
        }
    }

    /// Whether a message is a copy that the broker's own window drops; if not, it is remembered.
    pub(crate) fn drops(&mut self, message: &Message, now: Moment) -> bool {
        let Some(window) = self.personality.window else { return false };
        let before = self.accepted.get(&message.id);
        let dropped = before.is_some_and(|at| now.since(*at) <= window);
        if !dropped {
            self.accepted.insert(message.id, now);
        }
        dropped
    }
}

fn address(message: &Message) -> Option<(String, String)> {
    message.key.clone().map(|key| (message.topic.clone(), key))
}

/// A message in a queue.
#[derive(Clone, Debug)]
struct Parcel {
    order: u64,
    message: Arc<Message>,
    deliveries: u32,
    ready_at: Moment,
}

/// A parcel in somebody's hands.
#[derive(Debug)]
struct Out {
    parcel: Parcel,
    member: usize,
    locked_until: Option<Moment>,
}

/// Messages for one consumer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Parcel>,
    out: BTreeMap<Tag, Out>,
    orders: u64,
    tags: Tag,
}

/// What a consumer is given.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) tag: Tag,
    pub(crate) message: Arc<Message>,
    pub(crate) is_redelivered: bool,
}

impl Queue {
    pub(crate) fn push(&mut self, message: Arc<Message>) {
        self.orders += 1;
        let parcel = Parcel { order: self.orders, message, deliveries: 0, ready_at: Moment::START };
        self.waiting.push_back(parcel);
    }

    /// Puts a copy before everything else.
    pub(crate) fn push_copy(&mut self, message: Arc<Message>) {
        let parcel = Parcel { order: 0, message, deliveries: 0, ready_at: Moment::START };
        self.waiting.push_front(parcel);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.out.is_empty()
    }

    /// Hands the next message to a member.
    pub(crate) fn give(
        &mut self,
        member: usize,
        ordered: bool,
        lock: Option<Duration>,
        now: Moment,
    ) -> Option<Given> {
        let out: BTreeSet<_> =
            self.out.values().filter_map(|out| address(&out.parcel.message)).collect();
        let mut taken = out;
        let place = self.waiting.iter().position(|parcel| {
            let address = address(&parcel.message).filter(|_| ordered);
            let is_free = address.is_none_or(|address| taken.insert(address));
            is_free && parcel.ready_at <= now
        })?;
        let mut parcel = self.waiting.remove(place)?;
        parcel.deliveries += 1;
        self.tags += 1;
        let (tag, message) = (self.tags, Arc::clone(&parcel.message));
        let is_redelivered = parcel.deliveries > 1;
        let locked_until = lock.map(|lock| now.plus(lock));
        self.out.insert(tag, Out { parcel, member, locked_until });
        Some(Given { tag, message, is_redelivered })
    }

    /// When the next message is ready that is not yet.
    pub(crate) fn next_ready(&self, now: Moment) -> Option<Moment> {
        let times = self.waiting.iter().map(|parcel| parcel.ready_at);
        times.filter(|at| *at > now).min()
    }

    pub(crate) fn done(&mut self, tag: Tag) -> Option<Arc<Message>> {
        self.out.remove(&tag).map(|out| out.parcel.message)
    }

    /// Takes a delivery back, to be given out again after a while; whether it was out.
    pub(crate) fn take_back(&mut self, tag: Tag, ready_at: Moment) -> bool {
        let Some(out) = self.out.remove(&tag) else { return false };
        let parcel = Parcel { ready_at, ..out.parcel };
        let place = self.waiting.partition_point(|other| other.order < parcel.order);
        self.waiting.insert(place, parcel);
        true
    }

    /// Takes back all that somebody holds.
    pub(crate) fn take_all_back(&mut self, of: Option<usize>, now: Moment) {
        let held = self.out.iter().filter(|(_, out)| of.is_none_or(|of| out.member == of));
        let tags: Vec<Tag> = held.map(|(tag, _)| *tag).collect();
        for tag in tags {
            self.take_back(tag, now);
        }
    }

    /// Extends a lock; whether there is one to extend.
    pub(crate) fn renew(&mut self, tag: Tag, until: Moment) -> bool {
        let out = self.out.get_mut(&tag);
        out.map(|out| out.locked_until = Some(until)).is_some()
    }

    /// Whether the lock of a delivery has run out.
    pub(crate) fn has_run_out(&self, tag: Tag, now: Moment) -> bool {
        let until = self.out.get(&tag).and_then(|out| out.locked_until);
        until.is_some_and(|until| until <= now)
    }

    /// When the lock of a delivery runs out.
    pub(crate) fn locked_until(&self, tag: Tag) -> Option<Moment> {
        self.out.get(&tag).and_then(|out| out.locked_until)
    }
}
