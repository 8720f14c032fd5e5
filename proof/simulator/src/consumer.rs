//! A consumer process: the machine as it ships, and a shell around it that does what the shipped
//! one does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::consumer::{Consumer, Effect, Input, Ran, RunId, Settings, Ticket};
use posthaste_core::{Message, Moment, RetryPolicy};

use crate::broker::{Given, Tag};
use crate::chance::Chance;
use crate::clock::ProcessClock;
use crate::marker::sometimes;
use crate::message::number_of;
use crate::note::Actor;
use crate::run::Run;
use crate::sabotage::Sabotage;
use crate::settlement::ToQueue;
use crate::world::{Event, World, travel};

/// Most deliveries in one process.
const PREFETCH: usize = 16;

/// Marks the members of a queue apart that are starts of one process.
const STARTS: usize = 1 << 16;

/// What a consumer process learns.
#[derive(Debug)]
pub(crate) enum ToConsumer {
    Delivery(Given),
    Tick,
    /// A step of a run.
    Run(RunId),
    /// The lock of this delivery has to be extended.
    Renew(Ticket),
    Stop,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ConsumerNode {
    /// Which consumer it belongs to: its queue and its database.
    pub(crate) queue: usize,
    pub(crate) is_up: bool,
    pub(crate) is_stopping: bool,
    pub(crate) incarnation: u32,
    clock: ProcessClock,
    pub(crate) chance: Chance,
    pub(crate) paused_until: Moment,
    machine: Consumer,
    tick_at: Option<Moment>,
    pub(crate) in_hand: BTreeMap<Ticket, (Tag, Arc<Message>)>,
    next_ticket: u64,
    /// Given out by the broker and not here yet.
    pub(crate) under_way: usize,
    pub(crate) runs: BTreeMap<RunId, Run>,
    /// Attempts that were counted and could not be brought to their end.
    pub(crate) begun: BTreeMap<Ticket, u32>,
}

impl ConsumerNode {
    pub(crate) fn new(seed: u64, node: usize, queue: usize) -> Self {
        let stream = 60 + u64::try_from(node).unwrap_or(0);
        Self {
            queue,
            is_up: false,
            is_stopping: false,
            incarnation: 0,
            clock: ProcessClock::new(Moment::START, 0),
            chance: Chance::stream(seed, stream),
            paused_until: Moment::START,
            machine: Consumer::new(Settings::default(), seed),
            tick_at: None,
            in_hand: BTreeMap::new(),
            next_ticket: 0,
            under_way: 0,
            runs: BTreeMap::new(),
            begun: BTreeMap::new(),
        }
    }

    /// What the broker knows this start of the process by.
    pub(crate) fn member(&self, node: usize) -> usize {
        node + STARTS * usize::try_from(self.incarnation).unwrap_or(0)
    }

    pub(crate) fn has_room(&self) -> bool {
        let places = self.in_hand.len() + self.under_way;
        self.is_up && !self.is_stopping && places < PREFETCH
    }
}

impl World {
    pub(crate) fn consumer_up(&mut self, node: usize) {
        let now = self.now;
        let consumer = &mut self.consumers[node];
        if consumer.is_up || self.is_winding_up {
            return;
        }
        let millis = Duration::from_millis;
        let settings = Settings {
            batch: consumer.chance.pick(&[1, 4, 16]),
            linger: millis(consumer.chance.pick(&[0, 2])),
            concurrency: consumer.chance.pick(&[1, 2]),
            database_backoff: RetryPolicy {
                limit: u32::MAX,
                first: millis(2),
                longest: millis(20),
            },
        };
        consumer.machine = Consumer::new(settings, consumer.chance.draw());
        consumer.clock = ProcessClock::new(now, 0);
        consumer.incarnation += 1;
        (consumer.is_up, consumer.is_stopping) = (true, false);
        (consumer.tick_at, consumer.under_way, consumer.paused_until) = (None, 0, now);
        consumer.in_hand.clear();
        consumer.runs.clear();
        consumer.begun.clear();
        let (queue, incarnation) = (consumer.queue, consumer.incarnation);
        self.note(Actor::Consumer(node), "starts", Vec::new(), incarnation.into());
        self.plan(millis(1), Event::Queue(queue, ToQueue::HandOut));
    }

    pub(crate) fn consumer_crash(&mut self, node: usize) {
        if self.consumers[node].is_up {
            self.note(Actor::Consumer(node), "crashes", Vec::new(), 0);
            self.consumer_gone(node);
        }
    }

    /// The process is no more: its transactions end, and the broker sees it go.
    fn consumer_gone(&mut self, node: usize) {
        let consumer = &mut self.consumers[node];
        consumer.is_up = false;
        let (queue, incarnation) = (consumer.queue, consumer.incarnation);
        let member = consumer.member(node);
        let runs: Vec<RunId> = std::mem::take(&mut consumer.runs).into_keys().collect();
        let noticed = consumer.chance.millis(0, 8);
        for RunId(run) in runs {
            self.inboxes[queue].end((node, incarnation, run), false);
        }
        self.plan(noticed, Event::Queue(queue, ToQueue::Gone(member)));
    }

    pub(crate) fn tell_consumer(&mut self, node: usize, incarnation: u32, what: ToConsumer) {
        let consumer = &mut self.consumers[node];
        if !consumer.is_up || consumer.incarnation != incarnation {
            return;
        }
        if consumer.paused_until > self.now {
            let until = consumer.paused_until;
            return self.plan_at(until, Event::Consumer(node, incarnation, what));
        }
        match what {
            ToConsumer::Delivery(given) => self.delivered(node, given),
            ToConsumer::Tick => {
                consumer.tick_at = None;
                self.step_consumer(node, Input::Tick);
            }
            ToConsumer::Run(run) => self.step_run(node, run),
            ToConsumer::Renew(ticket) => self.renew_lock(node, ticket),
            ToConsumer::Stop => {
                consumer.is_stopping = true;
                self.note(Actor::Consumer(node), "is asked to stop", Vec::new(), 0);
                self.step_consumer(node, Input::Stop);
            }
        }
    }

    fn delivered(&mut self, node: usize, given: Given) {
        let consumer = &mut self.consumers[node];
        consumer.under_way = consumer.under_way.saturating_sub(1);
        if consumer.is_stopping {
            // What comes in now is let go of by the end of the process.
            return;
        }
        let ticket = Ticket(consumer.next_ticket);
        consumer.next_ticket += 1;
        let number = number_of(given.message.id).unwrap_or(0);
        consumer.in_hand.insert(ticket, (given.tag, given.message));
        self.note(Actor::Consumer(node), "receives", vec![number], given.is_redelivered.into());
        if let Some(lock) = self.scenario.personality.lock {
            let incarnation = self.consumers[node].incarnation;
            self.plan(lock / 3, Event::Consumer(node, incarnation, ToConsumer::Renew(ticket)));
        }
        self.step_consumer(node, Input::Arrived { ticket, alone: given.is_redelivered });
    }

    fn renew_lock(&mut self, node: usize, ticket: Ticket) {
        let consumer = &mut self.consumers[node];
        let Some((tag, _)) = consumer.in_hand.get(&ticket) else { return };
        let Some(lock) = self.scenario.personality.lock else { return };
        let (queue, tag, incarnation) = (consumer.queue, *tag, consumer.incarnation);
        let wait = travel(&mut consumer.chance, &self.rates);
        self.plan(wait, Event::Queue(queue, ToQueue::Renew(tag)));
        self.plan(lock / 3, Event::Consumer(node, incarnation, ToConsumer::Renew(ticket)));
    }

    /// A run has ended.
    pub(crate) fn ran(&mut self, node: usize, run: RunId, result: Ran) {
        let consumer = &mut self.consumers[node];
        if let Some(ended) = consumer.runs.remove(&run)
            && let [ticket] = ended.tickets[..]
        {
            match ended.attempt.filter(|_| result == Ran::Away) {
                Some(attempt) => {
                    consumer.begun.insert(ticket, attempt);
                }
                None => {
                    consumer.begun.remove(&ticket);
                }
            }
        }
        sometimes!(self, RanAlone, if result == Ran::Failed);
        self.step_consumer(node, Input::Ran { run, result });
    }

    fn step_consumer(&mut self, node: usize, input: Input) {
        let consumer = &mut self.consumers[node];
        let now = consumer.clock.read(self.now);
        let mut effects = Vec::new();
        consumer.machine.step(now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Run { run, tickets, alone } => self.begin_run(node, run, tickets, alone),
                Effect::Complete(ticket) => self.settle_delivery(node, ticket, ToQueue::Done),
                Effect::Retry { ticket, delay } => {
                    self.settle_delivery(node, ticket, |tag| ToQueue::Again(tag, delay));
                }
                Effect::Drop(ticket) => {
                    self.settle_delivery(node, ticket, |tag| ToQueue::Again(tag, Duration::ZERO));
                }
                Effect::Finish => {
                    self.note(Actor::Consumer(node), "has stopped", Vec::new(), 0);
                    self.consumer_gone(node);
                    if !self.is_winding_up {
                        self.plan(Duration::from_millis(3), Event::ConsumerUp(node));
                    }
                    return;
                }
            }
        }
        let consumer = &mut self.consumers[node];
        let Some(deadline) = consumer.machine.deadline() else { return };
        let at = consumer.clock.when(deadline);
        if consumer.tick_at.is_none_or(|planned| at < planned) {
            consumer.tick_at = Some(at);
            let incarnation = consumer.incarnation;
            self.plan_at(at, Event::Consumer(node, incarnation, ToConsumer::Tick));
        }
    }

    /// Tells the broker what becomes of a delivery. If that is lost, so is the line, and with it
    /// everything that was given out over it.
    pub(crate) fn settle_delivery(
        &mut self,
        node: usize,
        ticket: Ticket,
        how: impl FnOnce(Tag) -> ToQueue,
    ) {
        let consumer = &mut self.consumers[node];
        let Some((tag, _)) = consumer.in_hand.remove(&ticket) else { return };
        let wait = travel(&mut consumer.chance, &self.rates);
        let lost = consumer.chance.percent(self.rates.done_lost);
        let (queue, member) = (consumer.queue, consumer.member(node));
        let what = if lost { ToQueue::Gone(member) } else { how(tag) };
        self.plan(wait, Event::Queue(queue, what));
    }

    /// What a delivery in hand is.
    pub(crate) fn message_of(&self, node: usize, ticket: Ticket) -> Option<Arc<Message>> {
        self.consumers[node].in_hand.get(&ticket).map(|(_, message)| Arc::clone(message))
    }

    /// Tells the broker that it is done before it is.
    pub(crate) fn done_too_early(&mut self, node: usize, tickets: &[Ticket], sabotage: Sabotage) {
        if !self.is_sabotaged(sabotage) {
            return;
        }
        for ticket in tickets {
            let Some((tag, _)) = self.consumers[node].in_hand.get(ticket) else { continue };
            let (queue, tag) = (self.consumers[node].queue, *tag);
            self.plan(Duration::ZERO, Event::Queue(queue, ToQueue::Done(tag)));
        }
    }
}
