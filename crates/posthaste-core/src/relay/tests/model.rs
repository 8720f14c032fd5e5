//! A model of the two sides of a relay: an outbox with its side table, and a broker that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lease::{Claim, Lease};
use crate::outbox::{Batch, Entry, Feed, ReadLimit, Ready, Settlement};
use crate::relay::{Effect, Failure, FlightId, Input, Relay};
use crate::retry::Jitter;
use crate::{Checkpoint, Message, MessageId, Moment, Outcome, Position, Timestamp, Verdict};

/// What messages are of.
pub(super) const KINDS: [&str; 3] = ["a", "b", "c"];

/// Entries of a route that are let go at once.
const PORTION: usize = 2;

/// When the first of a route is ready that was found open and is worked off.
const OPEN: Moment = Moment::START;

/// A row of the side table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) state: &'static str,
    pub(super) ready_at: Option<Moment>,
    pub(super) attempts: u32,
}

/// How likely each fault is, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) refused: u64,
    pub(super) refused_for_good: u64,
    pub(super) unknown: u64,
    /// The broker gives no answer, and has nothing.
    pub(super) silent: u64,
    pub(super) unavailable: u64,
    pub(super) database: u64,
}

/// The world around one or more relays.
pub(super) struct World {
    pub(super) now: Moment,
    pub(super) random: Jitter,
    pub(super) faults: Faults,
    /// Rows, the first with sequence number 1.
    pub(super) outbox: Vec<Message>,
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) dead: BTreeSet<u64>,
    pub(super) checkpoint: u64,
    pub(super) token: u64,
    pub(super) holder: Option<(usize, Moment)>,
    pub(super) recorded: u64,
    /// What the broker has, in the order of arrival.
    pub(super) accepted: Vec<u64>,
    /// Rows that break the connection whenever they are sent.
    pub(super) poison: BTreeSet<u64>,
    pub(super) prefix_per_key: bool,
    pub(super) prunes: usize,
    /// Kinds that somebody is bound to; all others are unroutable.
    pub(super) bound: BTreeSet<String>,
    /// How often something was set aside.
    pub(super) set_aside: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Moment::START,
            random: Jitter::new(seed),
            faults: Faults::default(),
            outbox: Vec::new(),
            held: BTreeMap::new(),
            dead: BTreeSet::new(),
            checkpoint: 0,
            token: 0,
            holder: None,
            recorded: 0,
            accepted: Vec::new(),
            poison: BTreeSet::new(),
            prefix_per_key: false,
            prunes: 0,
            bound: KINDS.map(str::to_owned).into(),
            set_aside: 0,
        }
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.random.draw() % 100 < percent
    }

    /// States a message; `key` 0 is none.
    pub(super) fn state(&mut self, key: u64, due_in: Option<Duration>) {
        let number = u64::try_from(self.outbox.len()).unwrap_or(0) + 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        let at = Timestamp::from_millis(0);
        let kind = KINDS[usize::try_from(self.random.draw() % 3).unwrap_or(0)];
        let mut message = Message::new(MessageId::from_bytes(id), "t", kind, "x", at);
        message.key = (key > 0).then(|| key.to_string());
        message.due_at = due_in.map(|wait| at.plus(self.now.elapsed()).plus(wait));
        self.outbox.push(message);
    }

    pub(super) fn key(&self, seq: u64) -> Option<&str> {
        self.row(seq).key.as_deref()
    }

    fn row(&self, seq: u64) -> &Message {
        &self.outbox[usize::try_from(seq).unwrap_or(0) - 1]
    }

    /// The side table's rows of one key that hold others back, in order.
    fn line(&self, key: &str) -> Vec<u64> {
        let blocking = |held: &Held| matches!(held.state, "retry" | "behind" | "parked");
        let of_key = |seq: &u64| self.key(*seq) == Some(key);
        self.held
            .iter()
            .filter(|(_, held)| blocking(held))
            .map(|(seq, _)| *seq)
            .filter(of_key)
            .collect()
    }

    /// Entries of this one's kind that are set aside, in order.
    fn route(&self, kind: &str) -> Vec<u64> {
        let aside = |(seq, held): &(&u64, &Held)| {
            held.state == "unroutable" && self.row(**seq).kind == kind
        };
        self.held.iter().filter(aside).map(|(seq, _)| *seq).collect()
    }

    /// Whether a new message joins those of its route that are set aside: all do while it is
    /// closed; while it is worked off, those whose key is among them.
    fn is_aside(&self, seq: u64) -> bool {
        let aside = self.route(&self.row(seq).kind);
        let closed = |seq: &u64| self.held[seq].ready_at.is_some_and(|at| at > OPEN);
        let same_key = |other: &u64| self.key(seq).is_some() && self.key(*other) == self.key(seq);
        aside.iter().any(closed) || aside.iter().any(same_key)
    }

    fn is_ready(&self, held: &Held) -> bool {
        held.ready_at.is_some_and(|at| at <= self.now)
    }

    fn entry(&self, seq: u64, blocked: bool, unroutable: bool) -> Entry {
        let message = self.row(seq).clone();
        let due = message.due_at.map(|at| at.since(Timestamp::from_millis(0)));
        let due_in = due.map(|due| due.saturating_sub(self.now.elapsed()));
        Entry {
            position: Position::new(seq.to_string()),
            attempts: self.held.get(&seq).map_or(0, |held| held.attempts),
            due_in: due_in.filter(|wait| *wait > Duration::ZERO),
            blocked,
            unroutable,
            body: Ok(message),
        }
    }

    pub(super) fn read(&self, from: &Checkpoint, limit: ReadLimit) -> Batch {
        let from: u64 = from.as_str().parse().unwrap_or(0);
        let end = u64::try_from(self.outbox.len()).unwrap_or(0);
        let last = end.min(from + u64::try_from(limit.messages).unwrap_or(0));
        let blocked = |seq| self.key(seq).is_some_and(|key| !self.line(key).is_empty());
        Batch {
            entries: (from + 1..=last)
                .map(|seq| self.entry(seq, blocked(seq), self.is_aside(seq)))
                .collect(),
            checkpoint: Checkpoint::new(last.to_string()),
            more: last < end,
        }
    }

    pub(super) fn ready(&self, limit: ReadLimit) -> Ready {
        let mut entries = Vec::new();
        let mut more = false;
        for (&seq, held) in &self.held {
            if !self.is_ready(held) || held.state == "parked" {
                continue;
            }
            let line = self.key(seq).map(|key| self.line(key)).unwrap_or_default();
            let stands = |other: &u64| {
                let other = &self.held[other];
                !(other.state == "retry" && self.is_ready(other))
            };
            let withheld = line.iter().filter(|other| **other < seq).any(stands);
            let in_line = held.state == "retry";
            if withheld && in_line {
                continue;
            }
            if entries.len() == limit.messages {
                more = true;
                break;
            }
            let aside = self.route(&self.row(seq).kind);
            let joins = held.state != "unroutable" && aside.first().is_some_and(|it| *it < seq);
            entries.push(self.entry(seq, !in_line && !line.is_empty(), joins));
        }
        let later = self.held.values().filter_map(|held| held.ready_at);
        let next = later.filter(|at| *at > self.now).min();
        Ready { entries, more, next_in: next.map(|at| at.since(self.now)) }
    }

    pub(super) fn settle(&mut self, lease: &Lease, settlement: &Settlement) -> Result<(), Failure> {
        if lease.token != self.token {
            return Err(Failure::Fenced);
        }
        if settlement.number <= self.recorded {
            return Ok(());
        }
        self.recorded = settlement.number;
        let mut touched = BTreeSet::new();
        let mut routes: BTreeMap<String, (bool, Duration)> = BTreeMap::new();
        for settled in &settlement.verdicts {
            let seq: u64 = settled.position.as_str().parse().unwrap_or(0);
            let attempts = self.held.get(&seq).map_or(0, |held| held.attempts);
            let probed = self.held.get(&seq).is_some_and(|held| held.state == "unroutable");
            let route = (probed || matches!(settled.verdict, Verdict::Unroutable { .. }))
                .then(|| self.row(seq).kind.clone());
            if let Some(kind) = route {
                let (open, probe) = routes.entry(kind).or_default();
                match settled.verdict {
                    Verdict::Unroutable { probe_in, .. } => *probe = probe_in.max(*probe),
                    // Tried and taken, or given up by policy: the others need not wait.
                    Verdict::Sent | Verdict::Dead { .. } => *open = true,
                    _ => {}
                }
            }
            let mut file = |state, ready_at, attempts| {
                self.held.insert(seq, Held { state, ready_at, attempts });
            };
            match &settled.verdict {
                Verdict::Sent if settled.feed == Feed::New => continue,
                Verdict::Sent => {
                    self.held.remove(&seq);
                }
                Verdict::Due => {
                    let due = self.row(seq).due_at.map(|at| at.since(Timestamp::from_millis(0)));
                    let at = due.map(Moment::after_start);
                    self.held.insert(seq, Held { state: "due", ready_at: at, attempts });
                }
                Verdict::Retry { attempts, delay, .. } => {
                    file("retry", Some(self.now.plus(*delay)), *attempts);
                }
                Verdict::Behind => file("behind", None, attempts),
                Verdict::Unroutable { .. } => {
                    file("unroutable", None, attempts);
                    self.set_aside += 1;
                }
                Verdict::Dead { attempts, park, .. } => {
                    self.dead.insert(seq);
                    if *park {
                        self.held.insert(
                            seq,
                            Held { state: "parked", ready_at: None, attempts: *attempts },
                        );
                    } else {
                        self.held.remove(&seq);
                    }
                }
            }
            touched.extend(self.key(seq).map(str::to_owned));
        }
        for (kind, (open, probe)) in routes {
            touched.extend(self.normalise_route(&kind, open, probe));
        }
        for key in touched {
            self.promote(&key);
        }
        if let Some(checkpoint) = &settlement.checkpoint {
            self.checkpoint = checkpoint.as_str().parse().unwrap_or(0);
        }
        Ok(())
    }

    /// Has the first of a route probed. If the route was found open and nothing of it came back,
    /// those at its front are let go, and the first of the rest is tried at once. Returns the keys
    /// of those that were let go.
    fn normalise_route(&mut self, kind: &str, open: bool, probe: Duration) -> Vec<String> {
        let now = self.now;
        let returned = probe > Duration::ZERO;
        let mut keys = Vec::new();
        if open && !returned {
            for seq in self.route(kind).into_iter().take(PORTION) {
                let attempts = self.held[&seq].attempts;
                self.held.insert(seq, Held { state: "retry", ready_at: Some(now), attempts });
                keys.extend(self.key(seq).map(str::to_owned));
            }
        }
        let rest = self.route(kind);
        let before = rest.iter().filter_map(|seq| self.held[seq].ready_at).min();
        let at = match before {
            _ if returned => now.plus(probe),
            _ if open => OPEN,
            Some(at) => at,
            None => now,
        };
        for (place, seq) in rest.iter().enumerate() {
            if let Some(held) = self.held.get_mut(seq) {
                held.ready_at = (place == 0).then_some(at);
            }
        }
        keys
    }

    /// Makes the head of a line ready if nothing failed stands before it.
    pub(super) fn promote(&mut self, key: &str) {
        for seq in self.line(key) {
            let now = self.now;
            let Some(held) = self.held.get_mut(&seq).filter(|held| held.state == "behind") else {
                return;
            };
            held.state = "retry";
            held.ready_at = Some(now);
        }
    }

    /// The broker's answer to one call.
    pub(super) fn publish(&mut self, messages: &[Message]) -> Option<Vec<Outcome>> {
        if self.chance(self.faults.unavailable) {
            return None;
        }
        if self.chance(self.faults.silent) {
            return Some(messages.iter().map(|_| Outcome::unknown("no answer")).collect());
        }
        let seqs: Vec<u64> = messages.iter().map(seq_of).collect();
        let broken = seqs.iter().any(|seq| self.poison.contains(seq));
        let cut = self.chance(self.faults.unknown);
        let mut failed: BTreeSet<String> = BTreeSet::new();
        let mut outcomes = Vec::new();
        for seq in seqs {
            let key = self.key(seq).map(str::to_owned);
            let follows = key.as_ref().is_some_and(|key| failed.contains(key));
            let outcome = if broken {
                Outcome::unknown("the channel broke")
            } else if self.prefix_per_key && follows {
                Outcome::refused("follows a refused one")
            } else if cut {
                if self.chance(50) {
                    self.accepted.push(seq);
                } else {
                    failed.extend(key.clone());
                }
                Outcome::unknown("cut")
            } else if !self.bound.contains(&self.row(seq).kind) {
                Outcome::unroutable("nobody is bound")
            } else if self.chance(self.faults.refused_for_good) {
                Outcome::refused_for_good("never")
            } else if self.chance(self.faults.refused) {
                Outcome::refused("busy")
            } else {
                self.accepted.push(seq);
                Outcome::accepted()
            };
            if matches!(outcome, Outcome::Refused(_)) {
                failed.extend(key);
            }
            outcomes.push(outcome);
        }
        Some(outcomes)
    }

    /// Answers a call to the database by relay number `who`, or fails before or after its effect.
    pub(super) fn answer(&mut self, who: usize, effect: Effect) -> Input {
        let lost_before = self.chance(self.faults.database);
        let lost_after = self.chance(self.faults.database);
        if lost_before && !matches!(effect, Effect::Publish { .. }) {
            return unavailable(&effect);
        }
        let question = effect.clone();
        let answer = match effect {
            Effect::Acquire { name, ttl } => Input::Claimed(Ok(self.claim(who, name, ttl))),
            Effect::Renew { lease, ttl } => Input::Renewed(if lease.token == self.token {
                self.holder = Some((who, self.now.plus(ttl)));
                Ok(())
            } else {
                Err(Failure::Fenced)
            }),
            Effect::Release { lease } => {
                if lease.token == self.token {
                    self.holder = None;
                }
                Input::Released
            }
            Effect::Load => Input::Loaded(Ok(Checkpoint::new(self.checkpoint.to_string()))),
            Effect::Read { from, limit } => Input::Read(Ok(self.read(&from, limit))),
            Effect::Ready { limit } => Input::Ready(Ok(self.ready(limit))),
            Effect::Settle { lease, settlement } => {
                Input::Settled(self.settle(&lease, &settlement))
            }
            Effect::Prune { .. } => {
                self.prunes += 1;
                Input::Pruned(Ok(false))
            }
            Effect::Publish { flight, messages } => {
                let outcomes = self.publish(&messages);
                return Input::Published { flight, outcomes };
            }
            Effect::Finish => Input::Tick,
        };
        if lost_after { unavailable(&question) } else { answer }
    }

    fn claim(&mut self, who: usize, name: String, ttl: Duration) -> Claim {
        match self.holder {
            Some((holder, until)) if holder != who && until > self.now => {
                Claim::Held { by: holder.to_string(), remaining: until.since(self.now) }
            }
            before => {
                if before.map(|(holder, _)| holder) != Some(who) {
                    self.token += 1;
                    self.recorded = 0;
                }
                self.holder = Some((who, self.now.plus(ttl)));
                Claim::Granted(Lease { name, owner: who.to_string(), token: self.token })
            }
        }
    }
}

fn seq_of(message: &Message) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&message.id.as_bytes()[8..]);
    u64::from_be_bytes(number)
}

fn unavailable(effect: &Effect) -> Input {
    let failure = Failure::Unavailable;
    match effect {
        Effect::Acquire { .. } => Input::Claimed(Err(failure)),
        Effect::Renew { .. } => Input::Renewed(Err(failure)),
        Effect::Release { .. } => Input::Released,
        Effect::Load => Input::Loaded(Err(failure)),
        Effect::Read { .. } => Input::Read(Err(failure)),
        Effect::Ready { .. } => Input::Ready(Err(failure)),
        Effect::Settle { .. } => Input::Settled(Err(failure)),
        Effect::Prune { .. } => Input::Pruned(Err(failure)),
        Effect::Publish { flight, .. } => Input::Published { flight: *flight, outcomes: None },
        Effect::Finish => Input::Tick,
    }
}

/// A relay in the world: its machine and what it waits for.
pub(super) struct Node {
    pub(super) machine: Relay,
    pub(super) who: usize,
    /// Calls whose effect has not happened yet.
    pub(super) pending: Vec<Effect>,
    /// Publish calls whose answer is on its way: the broker has acted already.
    pub(super) answers: Vec<(FlightId, Option<Vec<Outcome>>)>,
    pub(super) finished: bool,
}

impl Node {
    pub(super) fn new(machine: Relay, who: usize) -> Self {
        Self { machine, who, pending: Vec::new(), answers: Vec::new(), finished: false }
    }

    pub(super) fn step(&mut self, now: Moment, input: Input) {
        let mut effects = Vec::new();
        self.machine.step(now, input, &mut effects);
        for effect in effects {
            if effect == Effect::Finish {
                self.finished = true;
            } else {
                self.pending.push(effect);
            }
        }
    }

    /// Lets one thing happen that this node waits for, chosen by chance; whether there was one.
    pub(super) fn advance(&mut self, world: &mut World) -> bool {
        let things = self.pending.len() + self.answers.len();
        if things == 0 {
            return false;
        }
        let chosen = usize::try_from(world.random.draw() % 1_000_003).unwrap_or(0) % things;
        if chosen >= self.pending.len() {
            let (flight, outcomes) = self.answers.remove(chosen - self.pending.len());
            self.step(world.now, Input::Published { flight, outcomes });
            return true;
        }
        let effect = self.pending.remove(chosen);
        match world.answer(self.who, effect) {
            Input::Published { flight, outcomes } => self.answers.push((flight, outcomes)),
            input => self.step(world.now, input),
        }
        true
    }
}
