//! A real database and its model, side by side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::database::Database as Real;
use posthaste_core::dead_letter::DeadFilter;
use posthaste_core::lease::{Claim, Lease};
use posthaste_core::outbox::{Entry, Feed, ReadLimit, Settled, Settlement};
use posthaste_core::relay::Failure;
use posthaste_core::transaction::OutboxWriter;
use posthaste_core::verdict::DeadReason;
use posthaste_core::{
    Checkpoint, Lane, Message, MessageId, Position, StoreError, Timestamp, Verdict,
};
use posthaste_simulator::Chance;
use posthaste_simulator::database::{Act as Operation, Database as Model, Settling, Writers};

use super::script::{Act, OWNERS};

/// Longer than any script takes: nothing runs out, and what has to wait is not ready.
const LONG: Duration = Duration::from_hours(1);

/// How many entries of a route the real databases let go at once.
const PORTION: usize = 1000;

/// What a savepoint takes of a real database.
pub(crate) trait Statements: OutboxWriter + Real {
    /// Runs a statement without a result in a transaction.
    async fn run(&self, transaction: &mut Self::Transaction, sql: &'static str);
}

/// See the module.
pub(crate) struct Twins<'d, D: Statements> {
    real: &'d D,
    model: Model,
    one_writer: bool,
    open: BTreeMap<usize, (D::Transaction, u32)>,
    lane: Lane,
    cursors: (Checkpoint, Checkpoint),
    /// Leases of each owner in the real database and in the model, and the last number under them.
    leases: [Option<(Lease, Lease, u64)>; OWNERS],
    last: [Option<(Settlement, Settlement)>; OWNERS],
}

impl<'d, D: Statements> Twins<'d, D> {
    pub(crate) fn new(real: &'d D, writers: Writers) -> Self {
        let (model, one_writer) = (Model::new(writers, PORTION), writers == Writers::One);
        let cursors = (Checkpoint::start(), Checkpoint::start());
        let lane = Lane::whole("default");
        let open = BTreeMap::new();
        Self {
            real,
            model,
            one_writer,
            open,
            lane,
            cursors,
            leases: [None, None],
            last: [None, None],
        }
    }

    pub(crate) async fn play(&mut self, script: &[Act]) {
        for (step, act) in script.iter().enumerate() {
            self.step(*act)
                .await
                .unwrap_or_else(|differs| panic!("step {step}, {act:?}: {differs}"));
        }
    }

    async fn step(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Begin(session) if !self.open.contains_key(&session) => {
                let transaction = self.real.begin().await.map_err(|error| error.to_string())?;
                self.open.insert(session, (transaction, 0));
                same("begins", true, self.model.begin(session))
            }
            Act::State { session, number, key, kind, is_due } => {
                let Some((transaction, _)) = self.open.get_mut(&session) else { return Ok(()) };
                let message = message(number, key, kind, is_due);
                let connection = D::connection(transaction);
                let stated = self.real.enqueue(connection, std::slice::from_ref(&message)).await;
                stated.map_err(|error| error.to_string())?;
                self.model.state(session, Arc::new(message));
                Ok(())
            }
            Act::Savepoint(session) => {
                let Some((transaction, depth)) = self.open.get_mut(&session) else { return Ok(()) };
                self.real.run(transaction, "savepoint s").await;
                *depth += 1;
                self.model.savepoint(session);
                Ok(())
            }
            Act::RollBackToSavepoint(session) => {
                let Some((transaction, depth)) = self.open.get_mut(&session) else { return Ok(()) };
                if *depth > 0 {
                    *depth -= 1;
                    self.real.run(transaction, "rollback to savepoint s").await;
                    self.real.run(transaction, "release savepoint s").await;
                    self.model.roll_back_to_savepoint(session);
                }
                Ok(())
            }
            Act::Commit(session) => {
                let Some((transaction, _)) = self.open.remove(&session) else { return Ok(()) };
                let committed = self.real.commit(transaction).await;
                same("commits", committed.is_ok(), self.model.commit(session, None))
            }
            Act::RollBack(session) => {
                if let Some((mut transaction, _)) = self.open.remove(&session) {
                    self.real.run(&mut transaction, "rollback").await;
                    self.model.roll_back(session);
                }
                Ok(())
            }
            // The one writer holds the lock that all others need.
            _ if self.one_writer && !self.open.is_empty() => Ok(()),
            act => self.relay(act).await,
        }
    }

    async fn relay(&mut self, act: Act) -> Result<(), String> {
        let name = self.lane.lease_name();
        match act {
            Act::Acquire(owner) => self.acquire(owner).await,
            Act::Renew(owner) => {
                let Some((real, model, _)) = &self.leases[owner] else { return Ok(()) };
                let renewed = said(self.real.renew(real, LONG).await);
                same("renews", renewed, self.model.renew(model, LONG))
            }
            Act::Release(owner) => {
                let Some((real, model, _)) = &self.leases[owner] else { return Ok(()) };
                self.real.release(real).await.map_err(|error| error.to_string())?;
                self.model.release(model);
                let held = self.real.held(&name).await.map_err(|error| error.to_string())?;
                let held = held.into_iter().map(|it| it.owner).collect::<Vec<_>>();
                let model = self.model.held(&name).into_iter().map(|(_, owner, _)| owner);
                same("held by", held, model.collect())
            }
            Act::Read { owner, limit, luck } => self.read(owner, limit, luck).await,
            Act::Ready { owner, limit, luck } => {
                let limit = ReadLimit { messages: limit, bytes: usize::MAX >> 8 };
                let real = self.real.ready(&self.lane, limit).await;
                let real = real.map_err(|error| error.to_string())?;
                let model = self.model.ready(&self.lane, limit).map_err(|it| format!("{it:?}"))?;
                compare(&real.entries, &model.entries)?;
                same("has more", real.more, model.more)?;
                let pairs = pair(&real.entries, &model.entries);
                self.settle(owner, Feed::Ready, &pairs, (None, None), luck).await.map(|_| ())
            }
            Act::Again(owner) => {
                let Some((real, model)) = self.last[owner].clone() else { return Ok(()) };
                self.send(owner, &real, &model).await.map(|_| ())
            }
            Act::Restart => {
                let real = self.real.checkpoint(&self.lane).await;
                let real = real.map_err(|error| error.to_string())?;
                let model = self.model.checkpoint(&self.lane).map_err(|it| format!("{it:?}"))?;
                self.cursors = (real, model);
                Ok(())
            }
            Act::Operate { reposts } => self.operate(reposts).await,
            _ => Ok(()),
        }
    }

    async fn acquire(&mut self, owner: usize) -> Result<(), String> {
        let (name, by) = (self.lane.lease_name(), format!("relay {owner}"));
        let real = self.real.acquire(&name, &by, LONG).await.map_err(|error| error.to_string())?;
        match (real, self.model.acquire(&name, &by, LONG, self.model.now())) {
            (Claim::Granted(real), Claim::Granted(model)) => {
                same("token", real.token, model.token)?;
                self.leases[owner] = Some((real, model, 0));
                self.last[owner] = None;
                Ok(())
            }
            (Claim::Held { by: real, .. }, Claim::Held { by: model, .. }) => {
                same("is held by", real, model)
            }
            (real, model) => Err(format!("{real:?}, and the model says {model:?}")),
        }
    }

    async fn read(&mut self, owner: usize, limit: usize, luck: u64) -> Result<(), String> {
        let limit = ReadLimit { messages: limit, bytes: usize::MAX >> 8 };
        let real = self.real.read(&self.lane, &self.cursors.0, limit).await;
        let real = real.map_err(|error| error.to_string())?;
        let model = self.model.read(&self.lane, &self.cursors.1, limit);
        let model = model.map_err(|failure| format!("{failure:?}"))?;
        compare(&real.entries, &model.entries)?;
        // SQLite looks one row further than it reads; the model looks again.
        same("has more", real.more, model.more && (real.more || !self.one_writer))?;
        let pairs = pair(&real.entries, &model.entries);
        let next = (real.checkpoint, model.checkpoint);
        let settled = (Some(next.0.clone()), Some(next.1.clone()));
        if self.settle(owner, Feed::New, &pairs, settled, luck).await? {
            self.cursors = next;
        }
        Ok(())
    }

    /// Settles entries with verdicts as a relay could give them; whether it was carried out.
    async fn settle(
        &mut self,
        owner: usize,
        feed: Feed,
        pairs: &[(Position, Position, Message, bool)],
        checkpoints: (Option<Checkpoint>, Option<Checkpoint>),
        luck: u64,
    ) -> Result<bool, String> {
        let Some((_, _, number)) = &mut self.leases[owner] else { return Ok(false) };
        *number += 1;
        let number = *number;
        let mut chance = Chance::stream(luck, 1);
        let (mut reals, mut models) = (Vec::new(), Vec::new());
        for (real, model, message, blocked) in pairs {
            let address = Some((message.topic.clone(), message.key.clone()));
            let verdict = verdict(&mut chance, message, *blocked, feed);
            let settled = |position: &Position| Settled {
                position: position.clone(),
                feed,
                address: address.clone(),
                verdict: verdict.clone(),
            };
            reals.push(settled(real));
            models.push(settled(model));
        }
        let lane = self.lane.clone();
        let settlement =
            |checkpoint, verdicts| Settlement { lane: lane.clone(), number, checkpoint, verdicts };
        let (real, model) = (settlement(checkpoints.0, reals), settlement(checkpoints.1, models));
        self.last[owner] = Some((real.clone(), model.clone()));
        self.send(owner, &real, &model).await
    }

    async fn send(
        &mut self,
        owner: usize,
        real: &Settlement,
        model: &Settlement,
    ) -> Result<bool, String> {
        let Some((lease, model_lease, _)) = self.leases[owner].clone() else { return Ok(false) };
        let answer = said(self.real.settle(&lease, real).await);
        let modelled = self.model.settle(&model_lease, model);
        same("settles", answer, modelled.map(|_| ()))?;
        Ok(modelled == Ok(Settling::Done))
    }

    async fn operate(&mut self, reposts: bool) -> Result<(), String> {
        let filter = DeadFilter { limit: 100, ..DeadFilter::default() };
        let letters = self.real.list(&filter).await.map_err(|error| error.to_string())?;
        let mut real: Vec<_> = letters
            .iter()
            .map(|letter| (letter.id.clone(), letter.attempts, letter.parked))
            .collect();
        real.sort();
        let mut model: Vec<_> = self
            .model
            .letters()
            .map(|(_, message, letter)| (message.id.to_string(), letter.attempts, letter.parked))
            .collect();
        model.sort();
        same("dead letters", real, model)?;
        let oldest = self.model.letters().next().map(|(seq, message, _)| (seq, message.id));
        let Some((seq, id)) = oldest else { return Ok(()) };
        let letter = letters.iter().find(|letter| letter.id == id.to_string());
        let references =
            letter.map(|letter| letter.reference.clone()).into_iter().collect::<Vec<_>>();
        let done = if reposts {
            self.model.act(seq, Operation::Repost);
            self.real.repost(&references, "test").await
        } else {
            self.model.act(seq, Operation::Discard);
            self.real.discard(&references, "test", "no use").await
        };
        done.map_err(|error| error.to_string())
    }
}

/// A verdict that a relay could give.
fn verdict(chance: &mut Chance, message: &Message, blocked: bool, feed: Feed) -> Verdict {
    if blocked {
        return Verdict::Behind;
    }
    if feed == Feed::New && message.due_at.is_some() {
        return Verdict::Due;
    }
    let delay = if chance.percent(50) { Duration::ZERO } else { LONG };
    let detail = "said no".to_owned();
    match chance.below(10) {
        0..=4 => Verdict::Sent,
        5..=6 => Verdict::Retry { attempts: 1, delay, detail },
        7 if message.key.is_some() => Verdict::Behind,
        8 => Verdict::Unroutable { probe_in: LONG, detail },
        9 => Verdict::Dead {
            attempts: 3,
            reason: DeadReason::Refused,
            detail,
            park: message.key.is_some() && chance.percent(50),
        },
        _ => Verdict::Sent,
    }
}

fn message(number: u8, key: u64, kind: u64, is_due: bool) -> Message {
    let at = Timestamp::from_millis(1_700_000_000_000);
    let id = MessageId::v7(at, [number; 10]);
    let mut message = Message::new(id, "orders", format!("kind{kind}"), "x", at);
    message.key = (key > 0).then(|| format!("k{key}"));
    // In a hundred years: nothing that is not due becomes so.
    message.due_at = (!is_due).then(|| Timestamp::from_millis(4_000_000_000_000));
    message
}

fn said(answer: Result<(), StoreError>) -> Result<(), Failure> {
    answer.map_err(|error| Failure::from(&error))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, real: T, model: T) -> Result<(), String> {
    if real == model {
        Ok(())
    } else {
        Err(format!("{what} {real:?}, and the model says {model:?}"))
    }
}

fn compare(real: &[Entry], model: &[Entry]) -> Result<(), String> {
    let shown = |entries: &[Entry]| -> Vec<_> {
        let show = |entry: &Entry| {
            let id = entry.body.as_ref().map(|message| message.id.to_string());
            (id.ok(), entry.attempts, entry.due_in.is_some(), entry.blocked, entry.unroutable)
        };
        entries.iter().map(show).collect()
    };
    same("entries are", shown(real), shown(model))
}

fn pair(real: &[Entry], model: &[Entry]) -> Vec<(Position, Position, Message, bool)> {
    let pairs = real.iter().zip(model);
    let pairs = pairs.filter_map(|(real, model)| {
        let message = model.body.as_ref().ok()?.clone();
        Some((real.position.clone(), model.position.clone(), message, model.blocked))
    });
    pairs.collect()
}
