//! A relay process: the machines of its lanes as they ship, and a shell around them that does what
//! the shipped one does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use posthaste_core::frontier::Snapshot;
use posthaste_core::lane::Division;
use posthaste_core::lease::{Claim, Lease};
use posthaste_core::outbox::{Batch, Entry};
use posthaste_core::relay::{Effect, Facts, FlightId, Input, Relay, Settings};
use posthaste_core::{Checkpoint, Lane, Message, Moment, Outcome};

use crate::chance::Chance;
use crate::clock::ProcessClock;
use crate::database::DESTINATION;
use crate::marker::sometimes;
use crate::message::{changed, number_of, numbers};
use crate::note::Actor;
use crate::publishing::Flight;
use crate::sabotage::Sabotage;
use crate::team::{Heard, Talk};
use crate::world::{Event, World, travel};

/// A call to the database that is under way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) node: usize,
    pub(crate) incarnation: u32,
    pub(crate) what: Ask,
}

/// What the database is asked.
#[derive(Debug)]
pub(crate) enum Ask {
    /// By the machine of a lane.
    Lane {
        lane: u16,
        born: u64,
        effect: Effect,
        /// What an earlier statement of the same reading saw, if there was one.
        earlier: Option<Snapshot>,
    },
    /// About lanes.
    Talk(Talk),
}

/// What a relay process learns.
#[derive(Debug)]
pub(crate) enum ToRelay {
    Tick { lane: u16, born: u64 },
    Answer { lane: u16, born: u64, input: Input },
    Hint,
    Talk,
    Heard(Heard),
    Stop,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RelayNode {
    pub(crate) is_up: bool,
    pub(crate) incarnation: u32,
    pub(crate) clock: ProcessClock,
    /// Microseconds by which the calendar of its host is ahead.
    pub(crate) skew: i64,
    pub(crate) chance: Chance,
    pub(crate) paused_until: Moment,
    pub(crate) lanes: BTreeMap<u16, Worker>,
    pub(crate) seat: Option<Lease>,
    pub(crate) patient_until: Moment,
    pub(crate) is_stopping: bool,
    pub(crate) is_talking: bool,
    /// When it is to talk next; earlier plans count for nothing.
    pub(crate) talk_at: Moment,
}

/// The machine of a lane and what its shell knows.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) machine: Relay,
    pub(crate) of: u16,
    pub(crate) born: u64,
    pub(crate) told_to_stop: bool,
    tick_at: Option<Moment>,
    /// Handed to the broker and not settled yet.
    aboard: BTreeSet<u32>,
    pub(crate) lease: Option<Lease>,
    /// The division in which it was begun.
    pub(crate) division: u64,
    was_leading: bool,
    /// What was read last, for a sabotage.
    cursor: Option<Checkpoint>,
    /// What was handed over before, for a sabotage.
    before: BTreeSet<u32>,
}

impl RelayNode {
    pub(crate) fn new(seed: u64, node: usize) -> Self {
        let stream = 10 + u64::try_from(node).unwrap_or(0);
        Self {
            is_up: false,
            incarnation: 0,
            clock: ProcessClock::new(Moment::START, 0),
            skew: 0,
            chance: Chance::stream(seed, stream),
            paused_until: Moment::START,
            lanes: BTreeMap::new(),
            seat: None,
            patient_until: Moment::START,
            is_stopping: false,
            is_talking: false,
            talk_at: Moment::START,
        }
    }

    pub(crate) fn has_aboard(&self) -> bool {
        self.lanes.values().any(|worker| !worker.aboard.is_empty())
    }

    /// What was handed to the broker in these lanes and is not settled.
    pub(crate) fn aboard(&self, lane: Option<u16>) -> Vec<u32> {
        let lanes = self.lanes.iter().filter(|(index, _)| lane.is_none_or(|it| it == **index));
        lanes.flat_map(|(_, worker)| worker.aboard.iter().copied()).collect()
    }
}

impl World {
    pub(crate) fn relay_up(&mut self, node: usize) {
        let (drift, skew) = (self.scenario.drift, self.scenario.skew);
        let relay = &mut self.relays[node];
        if relay.is_up || self.is_winding_up {
            return;
        }
        let either = |chance: &mut Chance, most: u64| {
            i64::try_from(chance.below(2 * most + 1)).unwrap_or(0)
                - i64::try_from(most).unwrap_or(0)
        };
        relay.is_up = true;
        relay.incarnation += 1;
        relay.clock = ProcessClock::new(self.now, either(&mut relay.chance, drift));
        relay.skew = either(&mut relay.chance, skew) * 1000;
        relay.paused_until = self.now;
        relay.patient_until = self.now;
        (relay.is_stopping, relay.is_talking, relay.seat) = (false, false, None);
        relay.lanes.clear();
        let incarnation = relay.incarnation;
        self.note(Actor::Relay(node, 0), "starts", Vec::new(), incarnation.into());
        self.talk_later(node, Duration::ZERO);
    }

    /// Ends at once, with whatever it had in memory.
    pub(crate) fn relay_crash(&mut self, node: usize) {
        if !self.relays[node].is_up {
            return;
        }
        let aboard = self.relays[node].aboard(None);
        sometimes!(self, CrashInFlight, if !aboard.is_empty());
        self.note(Actor::Relay(node, 0), "crashes", aboard.clone(), 0);
        self.witness.excuse(aboard);
        self.relays[node].is_up = false;
        self.relays[node].lanes.clear();
    }

    /// All relays may hear that something was committed.
    pub(crate) fn hint(&mut self) {
        for node in 0..self.relays.len() {
            let relay = &mut self.relays[node];
            if !relay.chance.percent(self.rates.hint_lost) {
                let wait = travel(&mut relay.chance, &Default::default());
                let event = Event::Relay(node, relay.incarnation, ToRelay::Hint);
                self.plan(wait, event);
            }
        }
    }

    pub(crate) fn tell_relay(&mut self, node: usize, incarnation: u32, what: ToRelay) {
        let relay = &self.relays[node];
        if !relay.is_up || relay.incarnation != incarnation {
            return;
        }
        if relay.paused_until > self.now {
            // It will see it when it goes on, in the order in which it came.
            return self.plan_at(relay.paused_until, Event::Relay(node, incarnation, what));
        }
        match what {
            ToRelay::Tick { lane, born } => {
                if let Some(worker) = self.worker(node, lane, born) {
                    worker.tick_at = None;
                    self.step_lane(node, lane, Input::Tick);
                }
            }
            ToRelay::Answer { lane, born, input } => {
                if self.worker(node, lane, born).is_some() {
                    self.hear_answer(node, lane, input);
                }
            }
            ToRelay::Hint => {
                let lanes: Vec<u16> = relay.lanes.keys().copied().collect();
                for lane in lanes {
                    self.step_lane(node, lane, Input::Changed);
                }
            }
            ToRelay::Talk => self.talk(node),
            ToRelay::Heard(heard) => self.hear(node, heard),
            ToRelay::Stop => self.stop_relay(node),
        }
    }

    fn worker(&mut self, node: usize, lane: u16, born: u64) -> Option<&mut Worker> {
        self.relays[node].lanes.get_mut(&lane).filter(|worker| worker.born == born)
    }

    pub(crate) fn begin_lane(&mut self, node: usize, index: u16, division: Division, since: u64) {
        let lane = Lane { destination: DESTINATION.to_owned(), index, of: division.now };
        let settings = Settings { lane, ..self.scenario.settings.clone() };
        let prefix_per_key = self.scenario.personality.prefix_per_key;
        let facts = Facts { prefix_per_key, max_batch: 100 };
        self.born += 1;
        let seed = self.relays[node].chance.draw();
        let worker = Worker {
            machine: Relay::new(settings, facts, seed),
            of: division.now,
            born: self.born,
            told_to_stop: false,
            tick_at: None,
            aboard: BTreeSet::new(),
            lease: None,
            division: since,
            was_leading: false,
            cursor: None,
            before: BTreeSet::new(),
        };
        self.relays[node].lanes.insert(index, worker);
        self.step_lane(node, index, Input::Tick);
    }

    fn hear_answer(&mut self, node: usize, lane: u16, mut input: Input) {
        let blind = self.is_sabotaged(Sabotage::KeysIgnored);
        let Some(worker) = self.relays[node].lanes.get_mut(&lane) else { return };
        match &mut input {
            Input::Claimed(Ok(Claim::Granted(lease))) => worker.lease = Some(lease.clone()),
            Input::Read(Ok(Batch { entries, checkpoint, .. })) => {
                worker.cursor = Some(checkpoint.clone());
                entries.iter_mut().filter(|_| blind).for_each(hide_key);
            }
            Input::Ready(Ok(ready)) => {
                ready.entries.iter_mut().filter(|_| blind).for_each(hide_key);
            }
            Input::Published { outcomes: Some(outcomes), .. }
                if self.sabotage == Some(Sabotage::UnroutableDropped) =>
            {
                let dropped =
                    |outcome: &&mut Outcome| matches!(outcome, Outcome::Unroutable { .. });
                outcomes.iter_mut().filter(dropped).for_each(|it| *it = Outcome::accepted());
            }
            _ => {}
        }
        self.step_lane(node, lane, input);
    }

    /// The database has carried a settlement out and said so.
    pub(crate) fn settled(&mut self, node: usize, lane: u16, born: u64, settled: &[u32]) {
        if let Some(worker) = self.worker(node, lane, born) {
            settled.iter().for_each(|number| {
                worker.aboard.remove(number);
            });
        }
    }

    /// Steps the machine of a lane and starts what it asks for.
    pub(crate) fn step_lane(&mut self, node: usize, lane: u16, input: Input) {
        let now = self.relays[node].clock.read(self.now);
        let Some(worker) = self.relays[node].lanes.get_mut(&lane) else { return };
        let mut effects = Vec::new();
        worker.machine.step(now, input, &mut effects);
        let leading = worker.machine.is_leading();
        if worker.was_leading && !leading {
            let lost = std::mem::take(&mut worker.aboard);
            sometimes!(self, PausedBeyondLease, if !lost.is_empty());
            self.witness.excuse(lost);
            self.note(Actor::Relay(node, lane), "steps down", Vec::new(), 0);
        } else if !worker.was_leading && leading {
            let token = worker.lease.as_ref().map_or(0, |lease| lease.token);
            self.note(Actor::Relay(node, lane), "leads under token", Vec::new(), token);
        }
        let Some(worker) = self.relays[node].lanes.get_mut(&lane) else { return };
        worker.was_leading = leading;
        let born = worker.born;
        for effect in effects {
            if effect == Effect::Finish {
                return self.end_lane(node, lane);
            }
            self.start(node, lane, born, effect);
        }
        self.plan_tick(node, lane);
    }

    fn plan_tick(&mut self, node: usize, lane: u16) {
        let relay = &mut self.relays[node];
        let Some(worker) = relay.lanes.get_mut(&lane) else { return };
        let Some(deadline) = worker.machine.deadline() else { return };
        let at = relay.clock.when(deadline);
        if worker.tick_at.is_none_or(|planned| at < planned) {
            worker.tick_at = Some(at);
            let tick = ToRelay::Tick { lane, born: worker.born };
            let event = Event::Relay(node, relay.incarnation, tick);
            self.plan_at(at, event);
        }
    }

    fn end_lane(&mut self, node: usize, lane: u16) {
        if let Some(worker) = self.relays[node].lanes.remove(&lane) {
            self.note(Actor::Relay(node, lane), "has handed over", Vec::new(), 0);
            self.witness.excuse(worker.aboard);
        }
        self.lane_ended(node);
    }

    /// Sends a call on its way.
    fn start(&mut self, node: usize, lane: u16, born: u64, effect: Effect) {
        let relay = &mut self.relays[node];
        let wait = travel(&mut relay.chance, &self.rates);
        let incarnation = relay.incarnation;
        let Some(worker) = relay.lanes.get_mut(&lane) else { return };
        if let Effect::Publish { flight, messages } = effect {
            worker.aboard.extend(numbers(&messages));
            return self.fly(node, lane, flight, messages, wait);
        }
        let effect = match effect {
            Effect::Settle { lease, mut settlement }
                if self.sabotage == Some(Sabotage::CheckpointPastUnsettled) =>
            {
                settlement.checkpoint = worker.cursor.clone().or(settlement.checkpoint);
                Effect::Settle { lease, settlement }
            }
            effect => effect,
        };
        let what = Ask::Lane { lane, born, effect, earlier: None };
        self.plan(wait, Event::Database(Call { node, incarnation, what }));
    }

    fn fly(
        &mut self,
        node: usize,
        lane: u16,
        flight: FlightId,
        mut messages: Vec<Message>,
        wait: Duration,
    ) {
        let numbered = numbers(&messages);
        self.note(Actor::Relay(node, lane), "hands over", numbered.clone(), flight.0);
        let sabotage = self.sabotage;
        let relay = &mut self.relays[node];
        let incarnation = relay.incarnation;
        let Some(worker) = relay.lanes.get_mut(&lane) else { return };
        let (born, token) = (worker.born, worker.lease.as_ref().map_or(0, |lease| lease.token));
        let epoch = (worker.division, token);
        for message in &mut messages {
            let Some(number) = number_of(message.id) else { continue };
            let again = !worker.before.insert(number);
            if again && sabotage == Some(Sabotage::NewIdentity) {
                message.id = changed(message.id);
            }
            if sabotage == Some(Sabotage::KeysIgnored) {
                let own = self.witness.fate(number).message.as_ref();
                message.key = own.and_then(|own| own.key.clone());
            }
        }
        let count = messages.len();
        let call = Flight { node, incarnation, lane, born, flight, messages, epoch };
        self.plan(wait, Event::Broker(call));
        if sabotage == Some(Sabotage::SettledBeforeConfirm) {
            let outcomes = Some(vec![Outcome::accepted(); count]);
            let input = Input::Published { flight, outcomes };
            let answer = ToRelay::Answer { lane, born, input };
            self.plan(Duration::ZERO, Event::Relay(node, incarnation, answer));
        }
    }

    fn stop_relay(&mut self, node: usize) {
        let relay = &mut self.relays[node];
        relay.is_stopping = true;
        let in_flight = relay.has_aboard();
        sometimes!(self, StoppedInFlight, if in_flight);
        self.note(Actor::Relay(node, 0), "is asked to stop", Vec::new(), 0);
        self.end_lanes(node, |_, _| true);
        self.lane_ended(node);
    }

    /// Tells some lanes to stop.
    pub(crate) fn end_lanes(&mut self, node: usize, which: impl Fn(u16, &Worker) -> bool) {
        let lanes = self.relays[node].lanes.iter_mut();
        let chosen = lanes.filter(|(lane, worker)| !worker.told_to_stop && which(**lane, worker));
        let mut told = Vec::new();
        for (lane, worker) in chosen {
            worker.told_to_stop = true;
            told.push(*lane);
        }
        for lane in told {
            self.step_lane(node, lane, Input::Stop);
        }
    }
}

/// Unique to a process and its start.
pub(crate) fn owner(node: usize, incarnation: u32) -> String {
    format!("relay {node} #{incarnation}")
}

fn hide_key(entry: &mut Entry) {
    if let Ok(message) = &mut entry.body {
        message.key = None;
    }
}
