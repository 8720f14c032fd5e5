//! The world: everything that there is, and the loop that lets one thing happen after the other.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::lease::Lease;
use posthaste_core::{Message, Moment};

use crate::broker::{Broker, Epoch};
use crate::chance::Chance;
use crate::consumer::{ConsumerNode, ToConsumer};
use crate::database::Database;
use crate::fault::{Calamity, Rates};
use crate::inbox::Inbox;
use crate::marker::Markers;
use crate::note::{Actor, Note};
use crate::publishing::Flight;
use crate::relay::{Call, RelayNode, ToRelay};
use crate::sabotage::Sabotage;
use crate::scenario::{Mode, Scenario};
use crate::schedule::Schedule;
use crate::settlement::ToQueue;
use crate::verdict::{Verdict, Wrong};
use crate::witness::{QUEUES, Witness};

/// How many entries of a route are let go at once: few, so that it takes several rounds.
const PORTION: usize = 2;

/// How long a world may take to come to rest once all is well, and how long to stop after that. It
/// takes long to give up on messages that break the connection if nothing else is left to send.
const CONVERGE: Duration = Duration::from_secs(60);
const WIND_UP: Duration = Duration::from_secs(3);

/// How often it is looked at whether all has come to rest.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// More than any world needs that comes to rest.
const MOST_EVENTS: u64 = 300_000;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// The transaction with this place in the script begins, takes a step, or ends.
    Begin(usize),
    Step(usize, usize),
    End(usize),
    /// The incident with this place in the list.
    Befall(usize),
    /// A standby receives nothing from now on.
    Lag,
    DatabaseUp,
    InboxUp,
    BrokerUp,
    /// Somebody is bound to this kind again.
    Rebind(usize),
    RelayUp(usize),
    /// A process learns of something, if it is still in this incarnation.
    Relay(usize, u32, ToRelay),
    Database(Call),
    Broker(Flight),
    /// What was in the lines of a broken connection arrives after all.
    Late(Vec<Arc<Message>>, Epoch),
    ConsumerUp(usize),
    Consumer(usize, u32, ToConsumer),
    Queue(usize, ToQueue),
    Look,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) now: Moment,
    schedule: Schedule<Event>,
    pub(crate) rates: Rates,
    pub(crate) database: Database,
    pub(crate) broker: Broker,
    pub(crate) inboxes: [Inbox; QUEUES],
    pub(crate) relays: Vec<RelayNode>,
    pub(crate) consumers: Vec<ConsumerNode>,
    /// The luck of each transaction of the script, and of the broker by itself.
    pub(crate) writers: Vec<Chance>,
    pub(crate) queues: [Chance; QUEUES],
    /// Transactions that wait for another one to end before they begin.
    pub(crate) waiting: BTreeSet<usize>,
    pub(crate) witness: Witness,
    pub(crate) markers: Markers,
    /// Settlements that were carried out: lease, token, number.
    pub(crate) settled: BTreeSet<(String, u64, u64)>,
    /// How often the destination was divided.
    pub(crate) divisions: u64,
    /// Counts the machines that were begun.
    pub(crate) born: u64,
    pub(crate) is_winding_up: bool,
    /// The leases of those who led when they were asked to stop at the end.
    pub(crate) led: Vec<Lease>,
    digest: Fnv,
    events: u64,
    notes: Option<Vec<Note>>,
}

impl World {
    /// Runs a scenario to its end and says what came of it; with its notes if `tell`.
    pub(crate) fn run(scenario: Scenario, sabotage: Option<Sabotage>, tell: bool) -> Verdict {
        let mut world = Self::new(scenario, sabotage, tell);
        world.begin();
        world.until(Moment::after_start(world.scenario.horizon), |_| false);
        if world.scenario.mode == Mode::Liveness && world.witness.violation.is_none() {
            world.heal();
            world.converge();
        }
        world.account();
        if world.scenario.mode == Mode::Liveness && world.witness.violation.is_none() {
            world.have_it_checked();
        }
        Verdict {
            committed: world.committed(),
            violation: world.witness.violation,
            markers: world.markers,
            digest: world.digest.0,
            events: world.events,
            notes: world.notes.unwrap_or_default(),
        }
    }

    fn new(scenario: Scenario, sabotage: Option<Sabotage>, tell: bool) -> Self {
        let seed = scenario.seed;
        let mut database = Database::new(scenario.writers, PORTION);
        database.sabotage = sabotage;
        let mut witness = Witness::new(scenario.messages());
        witness.rebinds = scenario.rebinds();
        witness.rewinds_cleanly = scenario.rewinds_cleanly();
        let streams = 100..100 + u64::try_from(scenario.transactions.len()).unwrap_or(0);
        Self {
            now: Moment::START,
            schedule: Schedule::new(),
            rates: scenario.rates,
            database,
            broker: Broker::new(scenario.personality),
            inboxes: std::array::from_fn(|_| Inbox::new()),
            relays: (0..scenario.relays).map(|node| RelayNode::new(seed, node)).collect(),
            consumers: (0..QUEUES * scenario.members)
                .map(|node| ConsumerNode::new(seed, node, node % QUEUES))
                .collect(),
            writers: streams.map(|stream| Chance::stream(seed, stream)).collect(),
            queues: [Chance::stream(seed, 40), Chance::stream(seed, 41)],
            waiting: BTreeSet::new(),
            witness,
            markers: Markers::default(),
            settled: BTreeSet::new(),
            divisions: 0,
            born: 0,
            is_winding_up: false,
            led: Vec::new(),
            digest: Fnv::new(),
            events: 0,
            notes: tell.then(Vec::new),
            scenario,
            sabotage,
        }
    }

    fn begin(&mut self) {
        for place in 0..self.scenario.transactions.len() {
            let at = self.scenario.transactions[place].begins;
            self.plan_at(at, Event::Begin(place));
        }
        for place in 0..self.scenario.incidents.len() {
            let incident = self.scenario.incidents[place];
            self.plan_at(incident.at, Event::Befall(place));
            if let Calamity::Failover { lag, .. } = incident.what {
                let before = incident.at.elapsed().saturating_sub(lag);
                self.plan_at(Moment::after_start(before), Event::Lag);
            }
        }
        for node in 0..self.relays.len() {
            self.plan_at(Moment::START, Event::RelayUp(node));
        }
        for node in 0..self.consumers.len() {
            self.plan_at(Moment::START, Event::ConsumerUp(node));
        }
    }

    /// Lets things happen up to a moment, or until something wrong happened or `enough` says so.
    fn until(&mut self, limit: Moment, enough: impl Fn(&Self) -> bool) {
        while self.witness.violation.is_none() && !enough(self) {
            if self.schedule.next_at().is_none_or(|at| at > limit) {
                self.now = limit.max(self.now);
                self.database.at(self.now);
                return;
            }
            let Some((at, event)) = self.schedule.next() else { return };
            self.now = at;
            self.database.at(at);
            self.events += 1;
            if self.events > MOST_EVENTS {
                let detail = "it goes round and round".to_owned();
                return self.witness.blame(Wrong::Stuck, None, detail);
            }
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begin(place) => self.begin_transaction(place),
            Event::Step(place, step) => self.step_transaction(place, step),
            Event::End(place) => self.end_transaction(place),
            Event::Befall(place) => self.befall(self.scenario.incidents[place].what),
            Event::Lag => self.database.cut_standby(),
            Event::DatabaseUp => self.database.is_up = true,
            Event::InboxUp => self.inboxes.iter_mut().for_each(|inbox| inbox.is_up = true),
            Event::BrokerUp => self.broker_up(),
            Event::Rebind(kind) => {
                self.broker.unbound.remove(crate::scenario::KINDS[kind]);
            }
            Event::RelayUp(node) => self.relay_up(node),
            Event::Relay(node, incarnation, what) => self.tell_relay(node, incarnation, what),
            Event::Database(call) => self.at_database(call),
            Event::Broker(flight) => self.at_broker(flight),
            Event::Late(messages, epoch) => self.arrive_late(&messages, epoch),
            Event::ConsumerUp(node) => self.consumer_up(node),
            Event::Consumer(node, incarnation, what) => {
                self.tell_consumer(node, incarnation, what);
            }
            Event::Queue(queue, what) => self.at_queue(queue, what),
            Event::Look => self.plan(LOOK_EVERY, Event::Look),
        }
    }

    fn heal(&mut self) {
        self.rates = self.scenario.rates.healed();
        self.database.is_up = true;
        self.inboxes.iter_mut().for_each(|inbox| inbox.is_up = true);
        self.broker.unbound.clear();
        self.broker_up();
        self.plan(LOOK_EVERY, Event::Look);
    }

    fn converge(&mut self) {
        self.until(self.now.plus(CONVERGE), Self::is_at_rest);
        if self.witness.violation.is_some() {
            return;
        }
        if let Some(what) = self.unrest() {
            return self.witness.blame(Wrong::Stuck, None, format!("all is well, but {what}"));
        }
        self.is_winding_up = true;
        self.stop_everything();
        self.until(self.now.plus(WIND_UP), Self::has_stopped);
        if self.witness.violation.is_none()
            && let Some(what) = self.left_behind()
        {
            self.witness.blame(Wrong::LeftBehind, None, what);
        }
    }

    pub(crate) fn plan(&mut self, wait: Duration, event: Event) {
        self.schedule.plan(self.now.plus(wait), event);
    }

    pub(crate) fn plan_at(&mut self, at: Moment, event: Event) {
        self.schedule.plan(at.max(self.now), event);
    }

    pub(crate) fn is_sabotaged(&self, by: Sabotage) -> bool {
        self.sabotage == Some(by)
    }

    /// Tells what happened.
    pub(crate) fn note(&mut self, who: Actor, what: &'static str, messages: Vec<u32>, number: u64) {
        let note = Note { at: self.now, who, what, messages, number };
        note.hash(&mut self.digest);
        if let Some(notes) = &mut self.notes {
            notes.push(note);
        }
    }
}

/// How long a call or an answer is under way.
pub(crate) fn travel(chance: &mut Chance, rates: &Rates) -> Duration {
    if chance.percent(rates.slow) {
        return chance.millis(5, 140);
    }
    chance.between(Duration::from_micros(100), Duration::from_micros(900))
}

/// A hasher that says the same in every run (FNV-1a).
#[derive(Clone, Copy, Debug)]
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
