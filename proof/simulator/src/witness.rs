//! What truly happened to every message, and the judgement of each step as it is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use posthaste_core::{Message, MessageId};

use crate::message::{digest, number_of};
use crate::scenario::{CONSUMERS, TOPICS};
use crate::script::Stated;
use crate::verdict::{Violation, Wrong};

/// How many queues there are: one for each consumer.
pub(crate) const QUEUES: usize = CONSUMERS.len();

/// Where a message stands as far as its transaction goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    #[default]
    Unstated,
    Open,
    Committed,
    RolledBack,
    /// Committed, and lost with the server that had it.
    Forgotten,
}

/// What happened to one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) message: Option<Arc<Message>>,
    pub(crate) seq: u64,
    pub(crate) standing: Standing,
    pub(crate) stated_at: u64,
    pub(crate) committed_at: u64,
    pub(crate) is_due_later: bool,
    /// A dead letter that its key did not wait for, or that an operator discarded.
    pub(crate) given_up: bool,
    /// Nobody was bound to it, and it counts as sent by policy.
    pub(crate) unwanted: bool,
    /// Counted attempts of the relay.
    pub(crate) attempts: u32,
    /// By queue.
    pub(crate) arrivals: [u32; QUEUES],
    /// When it first arrived; 0 if it did not.
    arrived_at: [u64; QUEUES],
    /// Copies that a fault explains.
    excuses: [u32; QUEUES],
    pub(crate) effects: [u32; QUEUES],
    pub(crate) buried: [bool; QUEUES],
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    tick: u64,
    pub(crate) fates: Vec<Fate>,
    /// Committed messages by topic and key.
    lines: BTreeMap<(String, String), Line>,
    /// Whether a kind may overtake another one.
    pub(crate) rebinds: bool,
    /// Whether the broker shuts old calls out, and nothing else may disturb the rewinding.
    pub(crate) rewinds_cleanly: bool,
    /// Done messages of each consumer, in order, as its inbox has to know them.
    done: [Vec<MessageId>; QUEUES],
    pub(crate) violation: Option<Violation>,
    /// What came to which queue, in order.
    pub(crate) arrivals: Vec<(usize, u32)>,
}

#[derive(Debug, Default)]
struct Line {
    members: Vec<u32>,
    /// What arrived last, copies too.
    last: [Option<u32>; QUEUES],
}

impl Witness {
    pub(crate) fn new(messages: impl Iterator<Item = Stated>) -> Self {
        let most = messages.map(|stated| stated.number).max().unwrap_or(0);
        let fates = vec![Fate::default(); usize::try_from(most).unwrap_or(0) + 1];
        Self { fates, ..Self::default() }
    }

    pub(crate) fn blame(&mut self, what: Wrong, message: Option<u32>, detail: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { what, message, detail });
        }
    }

    pub(crate) fn fate(&mut self, number: u32) -> &mut Fate {
        let place = usize::try_from(number).unwrap_or(0);
        &mut self.fates[place]
    }

    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub(crate) fn stated(&mut self, number: u32, seq: u64, message: Arc<Message>) {
        let tick = self.tick();
        let fate = self.fate(number);
        fate.is_due_later = message.due_at.is_some();
        (fate.seq, fate.stated_at, fate.message) = (seq, tick, Some(message));
        fate.standing = Standing::Open;
    }

    pub(crate) fn committed(&mut self, number: u32) {
        let tick = self.tick();
        let fate = self.fate(number);
        (fate.standing, fate.committed_at) = (Standing::Committed, tick);
        let Some(message) = fate.message.clone() else { return };
        if let Some(key) = &message.key {
            let line = self.lines.entry((message.topic.clone(), key.clone())).or_default();
            line.members.push(number);
        }
    }

    pub(crate) fn rolled_back(&mut self, number: u32) {
        self.fate(number).standing = Standing::RolledBack;
    }

    /// A fault explains one more copy of these.
    pub(crate) fn excuse(&mut self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            let fate = self.fate(number);
            fate.excuses.iter_mut().for_each(|excuses| *excuses += 1);
        }
    }

    /// What the server had committed and lost is forgotten; what it had sent may be sent again.
    /// Returns whether anything was forgotten.
    pub(crate) fn failed_over(&mut self, kept: &BTreeSet<u32>) -> bool {
        let mut forgot = false;
        for (number, fate) in (0..).zip(&mut self.fates) {
            if fate.standing == Standing::Committed && !kept.contains(&number) {
                fate.standing = Standing::Forgotten;
                forgot = true;
            }
            fate.excuses.iter_mut().for_each(|excuses| *excuses += 1);
            fate.attempts = 0;
        }
        forgot
    }

    /// A message reaches a queue.
    pub(crate) fn arrived(&mut self, queue: usize, message: &Message) {
        let Some(number) = number_of(message.id).filter(|it| self.knows(*it)) else {
            let detail = format!("{} arrived and was never stated", message.id);
            return self.blame(Wrong::Invented, None, detail);
        };
        let tick = self.tick();
        self.arrivals.push((queue, number));
        let fate = self.fate(number);
        let known = matches!(fate.standing, Standing::Committed | Standing::Forgotten);
        let same = fate.message.as_ref().is_some_and(|own| digest(own) == digest(message));
        fate.arrivals[queue] += 1;
        if !known || !same {
            let standing = fate.standing;
            let detail = format!("m{number} arrived as it was not committed ({standing:?})");
            return self.blame(Wrong::Invented, Some(number), detail);
        }
        if fate.arrivals[queue] == 1 {
            fate.arrived_at[queue] = tick;
            self.check_order(queue, number, message);
        } else if fate.excuses[queue] == 0 {
            let detail = format!("m{number} arrived once more, and nothing had gone wrong with it");
            self.blame(Wrong::Copied, Some(number), detail);
        } else {
            fate.excuses[queue] -= 1;
        }
        self.check_rewind(queue, number, message);
    }

    fn knows(&self, number: u32) -> bool {
        usize::try_from(number).is_ok_and(|number| number < self.fates.len())
    }

    /// By first arrival: what was committed before it was stated came before it.
    fn check_order(&mut self, queue: usize, number: u32, message: &Message) {
        let Some(key) = &message.key else { return };
        let address = (message.topic.clone(), key.clone());
        let own = self.fate(number).clone();
        if own.is_due_later || own.standing != Standing::Committed {
            return;
        }
        let line = self.lines.get(&address).map_or(&[][..], |line| &line.members);
        let missing = line.iter().copied().find(|earlier| {
            let fate = &self.fates[usize::try_from(*earlier).unwrap_or(0)];
            let kind = fate.message.as_ref().is_some_and(|it| it.kind == message.kind);
            fate.standing == Standing::Committed
                && fate.committed_at < own.stated_at
                && fate.arrivals[queue] == 0
                && !(fate.given_up || fate.unwanted || fate.is_due_later)
                && (kind || !self.rebinds)
        });
        if let Some(earlier) = missing {
            let queue = CONSUMERS[queue].0;
            let detail = format!("m{number} of key {key} came to {queue} before m{earlier}");
            self.blame(Wrong::Overtaken, Some(earlier), detail);
        }
    }

    /// After a copy a key goes on by single steps: nothing is left out that stands between two
    /// messages which follow each other.
    fn check_rewind(&mut self, queue: usize, number: u32, message: &Message) {
        let Some(key) = message.key.clone().filter(|_| self.rewinds_cleanly) else { return };
        let address = (message.topic.clone(), key);
        let Some(line) = self.lines.get_mut(&address) else { return };
        let Some(before) = line.last[queue].replace(number) else { return };
        let fate = |number: u32| &self.fates[usize::try_from(number).unwrap_or(0)];
        let (from, to) = (fate(before), fate(number));
        let left_out = self.lines[&address].members.iter().copied().find(|between| {
            let between = fate(*between);
            let stands_between =
                from.committed_at < between.stated_at && between.committed_at < to.stated_at;
            stands_between && !(between.is_due_later || between.given_up)
        });
        if let Some(between) = left_out.filter(|_| !(from.is_due_later || to.is_due_later)) {
            let detail = format!("m{number} follows m{before}, without m{between} between them");
            self.blame(Wrong::Interleaved, Some(number), detail);
        }
    }

    /// A message takes effect at a consumer; `forgotten` if its inbox no longer had to know it.
    pub(crate) fn took_effect(&mut self, queue: usize, id: MessageId, ordered: bool) {
        let Some(number) = number_of(id).filter(|it| self.knows(*it)) else {
            let detail = format!("{id} took effect and was never stated");
            return self.blame(Wrong::Invented, None, detail);
        };
        let fate = self.fate(number);
        fate.effects[queue] += 1;
        if fate.effects[queue] > 1 {
            let name = CONSUMERS[queue].0;
            let detail = format!("m{number} took effect {} times at {name}", fate.effects[queue]);
            self.blame(Wrong::Twice, Some(number), detail);
        }
        if ordered {
            self.check_effects(queue, number);
        }
    }

    /// On an ordered subscription, effects of a key are in the order of arrival.
    fn check_effects(&mut self, queue: usize, number: u32) {
        let Some(message) = self.fate(number).message.clone() else { return };
        let Some(key) = &message.key else { return };
        let arrived_at = self.fate(number).arrived_at[queue];
        let line = self.lines.get(&(message.topic.clone(), key.clone()));
        let members = line.map_or(&[][..], |line| &line.members);
        let waiting = members.iter().copied().find(|earlier| {
            let fate = &self.fates[usize::try_from(*earlier).unwrap_or(0)];
            let before = fate.arrivals[queue] > 0 && fate.arrived_at[queue] < arrived_at;
            before && fate.effects[queue] == 0 && !fate.buried[queue]
        });
        if let Some(earlier) = waiting {
            let name = CONSUMERS[queue].0;
            let detail = format!("m{number} took effect at {name} before m{earlier} of its key");
            self.blame(Wrong::Overtaken, Some(earlier), detail);
        }
    }

    /// A consumer is done with a message; of those, its inbox has to know the last `keep`.
    pub(crate) fn done(&mut self, queue: usize, id: MessageId) {
        self.done[queue].push(id);
    }

    /// How many messages were done after this one was, if it was.
    pub(crate) fn done_after(&self, queue: usize, id: MessageId) -> Option<usize> {
        self.done[queue].iter().rev().position(|other| *other == id)
    }

    /// The inbox has forgotten it, as it may: another effect is its due.
    pub(crate) fn may_repeat(&mut self, queue: usize, id: MessageId) {
        if let Some(number) = number_of(id) {
            self.fate(number).effects[queue] = 0;
        }
        self.done[queue].retain(|other| *other != id);
    }

    /// The messages that an inbox has to know, the oldest first.
    pub(crate) fn known(&self, queue: usize, keep: usize) -> &[MessageId] {
        let done = &self.done[queue];
        &done[done.len().saturating_sub(keep)..]
    }
}

/// The queues that receive a topic.
pub(crate) fn audience(topic: &str) -> impl Iterator<Item = usize> + '_ {
    let receives = move |(_, (_, topics)): &(usize, &(&str, &[&str]))| topics.contains(&topic);
    CONSUMERS.iter().enumerate().filter(receives).map(|(queue, _)| queue)
}

const _: () = assert!(!TOPICS.is_empty());
