//! Carries out what the consumer's machine decides.
//!
//! Receiving, runs and settling are tasks of their own whose results come back as inputs, so that
//! nothing that holds state is dropped half way.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::join_all;
use posthaste_core::consumer::{Consumer, Effect, Input, Ran, Ticket};
use posthaste_core::inbox::{Inbox, InboxUpkeep};
use posthaste_core::outbox::Signal;
use posthaste_core::{BrokerError, Delivery, Message, MessageId, Moment, RetryPolicy, Subscriber};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Duration, Instant, MissedTickBehavior};

use super::hands::{Held, InHand};
use super::options::ConsumerOptions;
use super::run::Runner;
use crate::relay::story;

/// Most ids that are pruned in one step, and most steps of one round.
const PRUNE_LIMIT: usize = 1000;
const PRUNE_STEPS: usize = 50;

/// Most reposted dead letters that are read at once beside those that wait for their next try.
const REPOSTED_LIMIT: usize = 16;

/// How a run has ended, and the attempt it had counted if it was of a single message.
type Ended = (Input, Option<(Ticket, u32)>);

/// A delivery and the place it takes; the place is free again once it is settled.
type Arrival = (Delivery, tokio::sync::OwnedSemaphorePermit);

pub(super) struct Shell<D: Inbox> {
    runner: Runner<D>,
    options: ConsumerOptions,
    machine: Consumer,
    in_hand: InHand,
    places: BTreeMap<Ticket, tokio::sync::OwnedSemaphorePermit>,
    /// Reposted dead letters that failed again, and when they may be tried next.
    later: BTreeMap<MessageId, Instant>,
    /// Attempts that were counted and could not be brought to their end.
    begun: BTreeMap<Ticket, u32>,
    runs: JoinSet<Ended>,
    settling: JoinSet<()>,
    upkeep: JoinSet<Vec<Message>>,
    started: Instant,
    finished: bool,
}

impl<D> Shell<D>
where
    D: Inbox + InboxUpkeep + Signal + Clone,
{
    pub(super) fn new(runner: Runner<D>, options: ConsumerOptions, seed: u64) -> Self {
        Self {
            machine: Consumer::new(options.settings(), seed),
            runner,
            options,
            in_hand: InHand::default(),
            places: BTreeMap::new(),
            later: BTreeMap::new(),
            begun: BTreeMap::new(),
            runs: JoinSet::new(),
            settling: JoinSet::new(),
            upkeep: JoinSet::new(),
            started: Instant::now(),
            finished: false,
        }
    }

    pub(super) async fn run(
        mut self,
        subscriber: Box<dyn Subscriber>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), BrokerError> {
        let (sender, mut arrivals) = mpsc::channel(1);
        let mut receiving = JoinSet::new();
        receiving.spawn(receive(subscriber, sender, self.options.prefetch.max(1)));
        let mut upkeep = tokio::time::interval(self.options.upkeep.max(Duration::from_millis(1)));
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = pin!(stop);
        let mut stopped: Option<Instant> = None;
        let mut failure = None;
        while !self.finished {
            let overdue = stopped.map(|at| later(at, self.options.grace));
            let (renewal, deadline) = (self.in_hand.next_renewal(), self.deadline());
            tokio::select! {
                biased;
                () = &mut stop, if stopped.is_none() => {
                    stopped = Some(Instant::now());
                    receiving.abort_all();
                    arrivals.close();
                    self.step(Input::Stop);
                }
                Some(ended) = self.runs.join_next() => self.ran(joined(ended)),
                Some(ended) = self.settling.join_next() => joined(ended),
                Some(ended) = self.upkeep.join_next() => self.take_in_reposted(joined(ended)),
                () = sleep_until(renewal) => self.in_hand.renew().await,
                Some(ended) = receiving.join_next(), if stopped.is_none() => {
                    // Receiving ends by itself only when the subscription fails for good.
                    failure = Some(joined(ended));
                    stopped = Some(Instant::now());
                    self.step(Input::Stop);
                }
                Some(batch) = arrivals.recv(), if stopped.is_none() => self.take_in(batch),
                _ = upkeep.tick(), if stopped.is_none() && self.upkeep.is_empty() => {
                    let limit = REPOSTED_LIMIT + self.later.len();
                    self.upkeep.spawn(tidy(self.runner.clone(), limit));
                }
                () = sleep_until(deadline) => self.step(Input::Tick),
                () = sleep_until(overdue) => {
                    tracing::warn!("a handler did not end in time; its message comes again");
                    break;
                }
            }
        }
        // What cannot be settled in time comes again, and the inbox knows it.
        let patience = stopped.map(|at| later(at, self.options.grace));
        while !self.settling.is_empty() {
            tokio::select! {
                Some(ended) = self.settling.join_next() => joined(ended),
                () = sleep_until(patience) => break,
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn now(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    fn deadline(&self) -> Option<Instant> {
        self.machine.deadline().map(|at| self.started + at.elapsed())
    }

    fn take_in(&mut self, batch: Vec<Arrival>) {
        for (delivery, place) in batch {
            let alone = delivery.is_redelivered();
            let ticket = self.in_hand.take_in(delivery);
            self.places.insert(ticket, place);
            self.step(Input::Arrived { ticket, alone });
        }
    }

    fn take_in_reposted(&mut self, messages: Vec<Message>) {
        let now = Instant::now();
        self.later.retain(|_, at| *at > now);
        for message in messages {
            let waits = self.later.contains_key(&message.id);
            if !waits && !self.in_hand.holds_reposted(message.id) {
                let ticket = self.in_hand.take_in_reposted(message);
                self.step(Input::Arrived { ticket, alone: true });
            }
        }
    }

    fn ran(&mut self, (input, begun): Ended) {
        let away = matches!(input, Input::Ran { result: Ran::Away, .. });
        if let Some((ticket, attempt)) = begun {
            if away {
                self.begun.insert(ticket, attempt);
            } else {
                self.begun.remove(&ticket);
            }
        }
        self.step(input);
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.machine.step(self.now(), input, &mut effects);
        let mut done = Vec::new();
        for effect in effects {
            match effect {
                Effect::Run { run, tickets, alone } => {
                    let messages: Vec<Message> =
                        tickets.iter().filter_map(|ticket| self.in_hand.message(*ticket)).collect();
                    let runner = self.runner.clone();
                    let single = tickets.first().copied().filter(|_| tickets.len() == 1);
                    let begun = single.and_then(|ticket| self.begun.get(&ticket).copied());
                    self.runs.spawn(async move {
                        let (result, begun) = match messages.as_slice() {
                            [message] if alone => runner.run_alone(message, begun).await,
                            messages => runner.run_together(messages).await,
                        };
                        (Input::Ran { run, result }, single.zip(begun))
                    });
                }
                Effect::Complete(ticket) => done.push(ticket),
                Effect::Retry { ticket, delay } => self.retry(ticket, delay),
                Effect::Drop(ticket) => {
                    self.places.remove(&ticket);
                    drop(self.in_hand.give(ticket));
                }
                Effect::Finish => self.finished = true,
            }
        }
        self.complete(done);
    }

    fn complete(&mut self, tickets: Vec<Ticket>) {
        let held = tickets.into_iter().filter_map(|ticket| {
            let place = self.places.remove(&ticket);
            match self.in_hand.give(ticket)? {
                Held::Delivery { delivery, .. } => Some((delivery, place)),
                Held::Reposted(_) => None,
            }
        });
        let deliveries: Vec<_> = held.collect();
        if deliveries.is_empty() {
            return;
        }
        self.settling.spawn(async move {
            let settled = deliveries.into_iter().map(|(delivery, place)| async move {
                let result = delivery.complete().await;
                drop(place);
                result
            });
            for result in join_all(settled).await {
                note(result);
            }
        });
    }

    fn retry(&mut self, ticket: Ticket, delay: Duration) {
        let place = self.places.remove(&ticket);
        match self.in_hand.give(ticket) {
            Some(Held::Delivery { delivery, .. }) => {
                self.settling.spawn(async move {
                    note(delivery.retry(delay).await);
                    drop(place);
                });
            }
            Some(Held::Reposted(message)) => {
                self.later.insert(message.id, later(Instant::now(), delay));
            }
            None => {}
        }
    }
}

/// An unsettled delivery comes again, and the inbox knows it: nothing to do but to say so.
fn note(result: Result<(), BrokerError>) {
    if let Err(error) = result {
        tracing::debug!(error = %story(&error), "a delivery could not be settled; it comes again");
    }
}

/// Receives as many deliveries as there are places for; ends only with an error that lasts.
async fn receive(
    mut subscriber: Box<dyn Subscriber>,
    sender: mpsc::Sender<Vec<Arrival>>,
    places: usize,
) -> BrokerError {
    let places = Arc::new(Semaphore::new(places));
    let backoff = RetryPolicy {
        limit: u32::MAX,
        first: Duration::from_millis(50),
        longest: Duration::from_secs(2),
    };
    let mut failures = 0;
    loop {
        let closed = || BrokerError::unavailable("the consumer has stopped");
        let Ok(first) = Arc::clone(&places).acquire_owned().await else { return closed() };
        let free = 1 + places.available_permits();
        match subscriber.receive(free).await {
            Ok(deliveries) => {
                failures = 0;
                let mut first = Some(first);
                let mut batch = Vec::with_capacity(deliveries.len());
                for delivery in deliveries {
                    let place = match first.take() {
                        Some(place) => place,
                        None => match Arc::clone(&places).acquire_owned().await {
                            Ok(place) => place,
                            Err(_) => return closed(),
                        },
                    };
                    batch.push((delivery, place));
                }
                if sender.send(batch).await.is_err() {
                    return closed();
                }
            }
            Err(error) if error.is_transient() => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(error = %story(&error), "cannot receive; trying again");
                }
                tokio::time::sleep(backoff.delay(failures, 512)).await;
            }
            Err(error) => return error,
        }
    }
}

/// Forgets old ids and brings reposted dead letters.
async fn tidy<D>(runner: Runner<D>, reposted: usize) -> Vec<Message>
where
    D: Inbox + InboxUpkeep + Signal + Clone,
{
    let (database, name) = (&runner.database, &*runner.name);
    for _ in 0..PRUNE_STEPS {
        match database.prune_inbox(name, runner.options.window, PRUNE_LIMIT).await {
            Ok(pruned) if pruned >= PRUNE_LIMIT as u64 => {}
            Ok(_) => break,
            Err(error) => {
                tracing::debug!(error = %story(&error), "cannot tidy the inbox; later again");
                break;
            }
        }
    }
    database.reposted(name, reposted).await.unwrap_or_else(|error| {
        tracing::debug!(error = %story(&error), "cannot look for reposts; trying again later");
        Vec::new()
    })
}

/// A moment some time after another; a time beyond all use is as good as never.
fn later(from: Instant, wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_hours(24 * 365 * 30);
    from + wait.min(NEVER)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What a task returned. A panic in one of ours is a broken invariant and goes on.
fn joined<T>(ended: Result<T, JoinError>) -> T {
    match ended {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("a task of the consumer was cancelled: {error}"),
        },
    }
}
