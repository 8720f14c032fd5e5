//! A run that is made up event by event: writers, two relays, two consumers, and what befalls them.

use std::collections::BTreeMap;

use posthaste_history::event::{
    Answer, Answered, Commit, CommitAnswer, Confirmed, Delivered, Effect, Event, Fault,
    FaultTarget, Handling, Lease, LeaseAct, Outcome, OutcomeKind, Publishing, Read, ReadEntry, Row,
    Settlement, Stated, Stating, Transaction, Verdict, VerdictKind,
};
use posthaste_history::{Digest, History};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const TTL: u64 = 200 * MS;
pub(crate) const WINDOW: u64 = 60_000 * MS;
pub(crate) const BACKOFF: u64 = 50 * MS;
pub(crate) const TOPIC: &str = "orders";
pub(crate) const CONSUMERS: [&str; 2] = ["shipping", "billing"];
pub(crate) const LANE: &str = "lane";
/// How far the database's clock is from that of the nodes.
const SKEW: u64 = 1_700_000_000_000 * MS;

/// Draws of a linear congruential generator: enough to vary a history.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % limit
    }
}

/// The run so far.
pub(crate) struct Run {
    pub(crate) history: History,
    pub(crate) now: u64,
    pub(crate) draws: Draws,
    pub(crate) holder: usize,
    pub(crate) token: u64,
    number: u64,
    flights: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) effects: BTreeMap<&'static str, i64>,
}

pub(crate) fn digest(id: &str) -> u64 {
    Digest::new().field(id.as_bytes()).finish()
}

pub(crate) fn stated(id: &str, key: Option<&str>, due: Option<u64>) -> Stated {
    let (id, digest, key) = (id.to_owned(), digest(id), key.map(str::to_owned));
    Stated { id, topic: TOPIC.to_owned(), key, digest, due }
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            history: History::new(),
            now: 0,
            draws: Draws(seed),
            holder: 1,
            token: 0,
            number: 0,
            flights: 0,
            rows: Vec::new(),
            transactions: Vec::new(),
            effects: BTreeMap::new(),
        }
    }

    pub(crate) fn database_time(&self) -> u64 {
        self.now + SKEW
    }

    /// Something is seen a moment later.
    pub(crate) fn note(&mut self, node: &str, event: impl Into<Event>) {
        self.now += 1_000 + self.draws.below(50_000);
        self.history.note(self.now, node, event);
    }

    pub(crate) fn wait(&mut self, time: u64) {
        self.now += time;
    }

    pub(crate) fn relay(&self) -> String {
        format!("relay-{}", self.holder)
    }

    /// States messages in a transaction and ends it.
    pub(crate) fn write(&mut self, name: &str, messages: &[Stated], answer: CommitAnswer) {
        self.begin(name, messages);
        self.commit(name, messages, answer, answer != CommitAnswer::RolledBack);
    }

    pub(crate) fn begin(&mut self, name: &str, messages: &[Stated]) {
        let messages = messages.to_vec();
        self.note("writer", Stating { transaction: Some(name.to_owned()), messages });
    }

    pub(crate) fn commit(
        &mut self,
        name: &str,
        messages: &[Stated],
        answer: CommitAnswer,
        is_there: bool,
    ) {
        if is_there {
            let count = messages.len() as u64;
            self.transactions.push(Transaction { id: name.to_owned(), messages: count });
            let before = self.rows.len() as u64;
            self.rows.extend((1..).zip(messages).map(|(place, one)| Row {
                id: one.id.clone(),
                topic: one.topic.clone(),
                key: one.key.clone(),
                digest: one.digest,
                position: Some(before + place),
                transaction: Some(name.to_owned()),
                stated: None,
                committed: None,
                due: one.due,
                request: None,
            }));
        }
        let ids = messages.iter().map(|one| one.id.clone()).collect();
        self.note("writer", Commit { transaction: Some(name.to_owned()), ids, answer });
    }

    pub(crate) fn lease(&mut self, act: LeaseAct) {
        if act == LeaseAct::Granted {
            self.token += 1;
        }
        let (owner, token) = (self.relay(), self.token);
        let until = matches!(act, LeaseAct::Granted | LeaseAct::Renewed);
        let lease = Lease {
            name: LANE.to_owned(),
            owner: owner.clone(),
            token,
            act,
            database_time: Some(self.database_time()),
            until: until.then(|| self.database_time() + TTL),
        };
        self.note(&owner, lease);
    }

    pub(crate) fn position(&self, id: &str) -> u64 {
        let row = self.rows.iter().find(|row| row.id == id);
        row.and_then(|row| row.position).unwrap_or(0)
    }

    pub(crate) fn read(&mut self, ids: &[&str]) {
        let entry = |id: &&str| ReadEntry { id: (*id).to_owned(), position: self.position(id) };
        let entries = ids.iter().map(entry).collect();
        self.note(&self.relay(), Read { lane: LANE.to_owned(), entries });
    }

    pub(crate) fn publish(&mut self, ids: &[&str], outcome: OutcomeKind) {
        self.flights += 1;
        let flight = format!("f{}", self.flights);
        let relay = self.relay();
        let all = ids.iter().map(|id| (*id).to_owned()).collect();
        self.note(&relay, Publishing { flight: flight.clone(), ids: all, replay: None });
        for id in ids {
            let id = (*id).to_owned();
            self.note(&relay, Outcome { flight: flight.clone(), id, outcome });
        }
    }

    pub(crate) fn settle(&mut self, verdicts: &[(&str, VerdictKind, u32)]) {
        self.lease(LeaseAct::Renewed);
        self.number += 1;
        let last = verdicts.iter().map(|(id, ..)| self.position(id)).max();
        let passed = self.history.lines().iter().rev().find_map(|line| match &line.event {
            Event::Settlement(settlement) => settlement.checkpoint,
            _ => None,
        });
        let verdict = |&(id, verdict, attempts): &(&str, VerdictKind, u32)| Verdict {
            id: id.to_owned(),
            verdict,
            attempts,
        };
        let settlement = Settlement {
            lane: LANE.to_owned(),
            token: self.token,
            number: Some(self.number),
            applied: true,
            database_time: Some(self.database_time()),
            checkpoint: last.max(passed),
            verdicts: verdicts.iter().map(verdict).collect(),
        };
        let position = settlement.checkpoint.unwrap_or(0);
        self.note(&self.relay(), settlement);
        self.note(&self.relay(), Confirmed { lane: LANE.to_owned(), position });
    }

    pub(crate) fn deliver(&mut self, consumer: &'static str, id: &str) {
        let database_time = Some(self.database_time());
        let digest = digest(id.trim_end_matches("-again"));
        let (name, id) = (consumer.to_owned(), id.to_owned());
        let attempt = None;
        self.note(consumer, Delivered { consumer: name, id, digest, attempt, database_time });
    }

    pub(crate) fn handle(&mut self, consumer: &'static str, id: &str, attempt: u32) {
        let (name, id, attempt) = (consumer.to_owned(), id.to_owned(), Some(attempt));
        self.note(consumer, Handling { consumer: name, id, attempt });
    }

    pub(crate) fn answer(&mut self, consumer: &'static str, id: &str, answer: Answer) {
        let (name, id) = (consumer.to_owned(), id.to_owned());
        self.note(consumer, Answered { consumer: name, id, answer });
    }

    pub(crate) fn effect(&mut self, consumer: &'static str, id: &str) {
        let digest = digest(id.trim_end_matches("-again"));
        let (name, id) = (consumer.to_owned(), id.to_owned());
        *self.effects.entry(consumer).or_default() += 7;
        self.note(consumer, Effect { consumer: name, id, digest });
    }

    /// A message arrives and takes effect.
    pub(crate) fn consume(&mut self, consumer: &'static str, id: &str) {
        self.deliver(consumer, id);
        self.handle(consumer, id, 1);
        self.effect(consumer, id);
        self.answer(consumer, id, Answer::Completed);
    }

    /// A message goes all its way.
    pub(crate) fn send(&mut self, ids: &[&str]) {
        self.read(ids);
        self.publish(ids, OutcomeKind::Accepted);
        self.consume_all(ids);
        self.settle_sent(ids);
    }

    pub(crate) fn consume_all(&mut self, ids: &[&str]) {
        for consumer in CONSUMERS {
            for id in ids {
                self.consume(consumer, id);
            }
        }
    }

    pub(crate) fn settle_sent(&mut self, ids: &[&str]) {
        let verdicts: Vec<_> = ids.iter().map(|id| (*id, VerdictKind::Sent, 0)).collect();
        self.settle(&verdicts);
    }

    /// A fault that lasts for a while, of a node if one is named.
    pub(crate) fn fault(&mut self, id: &str, target: FaultTarget, name: Option<String>, time: u64) {
        let (from, until) = (self.now, self.now + time);
        let (id, kind, key) = (id.to_owned(), "kill".to_owned(), None);
        self.note("driver", Fault { id, kind, target, name, key, from, until });
    }
}
