//! A scenario: all that a seed decides before a world begins, as data that can be made smaller.

use std::fmt;
use std::time::Duration;

use posthaste_core::judge::{OnDead, OnUnroutable, TopicPolicy};
use posthaste_core::outbox::Pace;
use posthaste_core::relay::Settings;
use posthaste_core::{Lane, Moment, RetryPolicy};

use crate::chance::Chance;
use crate::database::{Act, Writers};
use crate::fault::{Calamity, Incident, Rates};
use crate::script::{Stated, Step, Transaction};

/// Where messages go to.
pub(crate) const TOPICS: [&str; 2] = ["orders", "parcels"];
/// What messages are.
pub(crate) const KINDS: [&str; 3] = ["placed", "paid", "sent"];
/// Consumers: a name, and the topics that it receives. Each has its own database.
pub(crate) const CONSUMERS: [(&str, &[&str]); 2] = [("billing", &TOPICS), ("storage", &["orders"])];

/// How a world is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Faults go on to the end; nothing wrong may ever have happened.
    Safety,
    /// At some moment all is well again; then everything has to come to rest.
    Liveness,
}

/// What the broker is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Personality {
    /// See [`posthaste_core::Promises::prefix_per_key`].
    pub(crate) prefix_per_key: bool,
    /// Calls of an old lease are shut out.
    pub(crate) fences: bool,
    /// Copies are dropped for this long.
    pub(crate) window: Option<Duration>,
    /// One message per key at a time.
    pub(crate) ordered: bool,
    /// How long a delivery is locked.
    pub(crate) lock: Option<Duration>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What chance during the world is drawn from.
    pub seed: u64,
    /// How it is judged.
    pub mode: Mode,
    /// What the database is like.
    pub(crate) writers: Writers,
    /// Relay processes.
    pub(crate) relays: usize,
    /// Processes of each consumer.
    pub(crate) members: usize,
    /// How relays behave.
    pub(crate) settings: Settings,
    /// What the broker is like.
    pub(crate) personality: Personality,
    /// How many done messages an inbox keeps; `None` for all.
    pub(crate) inbox: Option<usize>,
    /// Attempts of a consumer before it gives up.
    pub(crate) attempts: u32,
    /// Millionths by which process clocks may go wrong.
    pub(crate) drift: u64,
    /// Milliseconds by which the calendars of hosts may be wrong.
    pub(crate) skew: u64,
    /// How often calls go wrong.
    pub(crate) rates: Rates,
    /// What writers do.
    pub(crate) transactions: Vec<Transaction>,
    /// What befalls processes and servers.
    pub(crate) incidents: Vec<Incident>,
    /// When faults end, or the world does.
    pub(crate) horizon: Duration,
}

impl Scenario {
    /// The scenario of a seed. Without a mode the seed chooses one.
    pub fn new(seed: u64, mode: Option<Mode>) -> Self {
        let mut chance = Chance::stream(seed, 0);
        let liveness = chance.percent(75);
        let mode = mode.unwrap_or(if liveness { Mode::Liveness } else { Mode::Safety });
        let writers = if chance.percent(75) { Writers::Many } else { Writers::One };
        let horizon = chance.millis(300, 1200);
        let edge = chance.percent(6);
        let calm = chance.percent(4);
        let mut scenario = Self {
            seed,
            mode,
            writers,
            relays: chance.pick(&[1, 2, 2, 3]),
            members: chance.pick(&[1, 1, 2]),
            settings: settings(&mut chance),
            personality: personality(&mut chance),
            inbox: None,
            attempts: chance.pick(&[2, 4]),
            drift: chance.pick(&[0, 1_000, 100_000]),
            skew: chance.pick(&[0, 40, 2_000]),
            rates: Rates::choose(&mut chance),
            transactions: Vec::new(),
            incidents: incidents(&mut chance, writers, horizon),
            horizon,
        };
        scenario.transactions = transactions(&mut chance, writers, &scenario.incidents, horizon);
        let last = scenario.transactions.iter().map(|transaction| transaction.begins).max();
        scenario.horizon = horizon.max(last.map_or(horizon, |last| last.elapsed()));
        if edge {
            scenario.at_the_edge(&mut chance);
        } else if calm {
            scenario.calm();
        }
        scenario
    }

    /// A world in which an inbox is small, and copies come only from the broker, which makes them
    /// of messages that the inbox still has to know.
    fn at_the_edge(&mut self, chance: &mut Chance) {
        self.calm();
        self.personality.window = None;
        self.inbox = Some(chance.pick(&[3, 5, 8]));
        self.rates.copied = 40;
    }

    fn calm(&mut self) {
        let hint_lost = self.rates.hint_lost;
        self.rates = Rates { hint_lost, ..Rates::default() };
        self.incidents.clear();
        self.personality.lock = None;
        self.drift = 0;
    }

    /// How much there is in it: steps of transactions, and incidents.
    pub fn size(&self) -> usize {
        let steps = self.transactions.iter().map(|transaction| transaction.steps.len() + 1);
        steps.sum::<usize>() + self.incidents.len()
    }

    /// Whether kinds may overtake each other because one of them was set aside.
    pub(crate) fn rebinds(&self) -> bool {
        self.incidents.iter().any(|it| matches!(it.what, Calamity::Unbound { .. }))
    }

    /// Whether nothing but relays and the lines to the broker disturbs the order of copies, and the
    /// broker shuts out whoever writes under an old lease.
    pub(crate) fn rewinds_cleanly(&self) -> bool {
        let disturbs = |it: &Incident| {
            use Calamity as C;
            matches!(it.what, C::Unbound { .. } | C::Operator { .. } | C::Failover { .. })
        };
        let plain = self.personality.fences && self.personality.window.is_none();
        plain && !self.incidents.iter().any(disturbs)
    }

    /// All messages that may be stated.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Stated> + '_ {
        let steps = self.transactions.iter().flat_map(|transaction| &transaction.steps);
        steps.filter_map(|(_, step)| match step {
            Step::State(stated) => Some(*stated),
            _ => None,
        })
    }
}

/// What goes wrong in it.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for incident in &self.incidents {
            let at = incident.at.elapsed().as_secs_f64() * 1000.0;
            writeln!(f, "{at:9.3} ms  {:?}", incident.what)?;
        }
        write!(f, "in percent: {}", self.rates)
    }
}

fn settings(chance: &mut Chance) -> Settings {
    let millis = Duration::from_millis;
    let small = chance.percent(50);
    let quick = |longest| RetryPolicy { limit: u32::MAX, first: millis(2), longest };
    Settings {
        lane: Lane::whole(crate::database::DESTINATION),
        window_messages: if small { chance.pick(&[3, 7]) } else { 64 },
        read_messages: if small { chance.pick(&[1, 3]) } else { 16 },
        flight_messages: chance.pick(&[1, 2, 8, 64]),
        flights: chance.pick(&[1, 2, 4]),
        policy: TopicPolicy {
            retry: RetryPolicy { limit: 3, first: millis(5), longest: millis(40) },
            on_dead: chance.pick(&[OnDead::Park, OnDead::Skip]),
            unroutable: chance.pick(&[OnUnroutable::Hold, OnUnroutable::Hold, OnUnroutable::Dead]),
            probe_every: millis(15),
        },
        broker_backoff: quick(millis(20)),
        database_backoff: quick(millis(20)),
        lease_ttl: millis(chance.pick(&[40, 100])),
        pace: Pace { shortest: millis(4), longest: millis(40) },
        store_checkpoint_every: millis(chance.pick(&[5, 100])),
        grace: millis(150),
        prune_every: Duration::from_hours(1),
        ..Settings::default()
    }
}

fn personality(chance: &mut Chance) -> Personality {
    Personality {
        prefix_per_key: chance.percent(40),
        fences: chance.percent(40),
        window: chance.percent(30).then(|| chance.millis(5, 200)),
        ordered: chance.percent(75),
        lock: chance.percent(40).then(|| chance.millis(20, 60)),
    }
}

/// When transactions begin: at any time, and many of them as soon as a server is there again.
fn beginnings(chance: &mut Chance, incidents: &[Incident], horizon: Duration) -> Vec<Moment> {
    let mut beginnings = Vec::new();
    for _ in 0..4 + chance.below(24) {
        beginnings.push(Moment::after_start(chance.between(Duration::ZERO, horizon * 3 / 4)));
    }
    for incident in incidents {
        if let Calamity::Failover { down, .. } = incident.what {
            for _ in 0..chance.below(8) {
                beginnings.push(incident.at.plus(down + chance.millis(0, 12)));
            }
        }
    }
    beginnings
}

fn transactions(
    chance: &mut Chance,
    writers: Writers,
    incidents: &[Incident],
    horizon: Duration,
) -> Vec<Transaction> {
    let rolled_back = chance.pick(&[0, 10, 30]);
    let long = if writers == Writers::Many { chance.pick(&[0, 10, 30]) } else { 0 };
    let habits = Habits {
        nested: chance.pick(&[0, 20]),
        due: chance.pick(&[0, 0, 10]),
        keyless: chance.pick(&[0, 20]),
        keys: chance.pick(&[1, 3, 6]),
    };
    let mut number = 0;
    let mut transactions = Vec::new();
    for begins in beginnings(chance, incidents, horizon) {
        let (steps, at) = habits.steps(chance, begins, &mut number);
        let open = if chance.percent(long) { chance.millis(20, 400) } else { chance.millis(0, 4) };
        let commits = !chance.percent(rolled_back);
        transactions.push(Transaction { begins, steps, ends: at.plus(open), commits });
    }
    transactions
}

/// What is usual among the messages of a world, in percent where it is a share.
struct Habits {
    nested: u64,
    due: u64,
    keyless: u64,
    keys: u64,
}

impl Habits {
    /// The steps of a transaction, and when the last of them is done.
    fn steps(
        &self,
        chance: &mut Chance,
        begins: Moment,
        number: &mut u32,
    ) -> (Vec<(Moment, Step)>, Moment) {
        let mut at = begins;
        let mut steps = Vec::new();
        if chance.percent(10) {
            steps.push((begins, Step::Touch));
        }
        let mut savepoint = false;
        for _ in 0..1 + chance.below(4) {
            at = at.plus(chance.between(Duration::ZERO, Duration::from_millis(2)));
            if chance.percent(self.nested) {
                steps.push((at, if savepoint { Step::RollBack } else { Step::Savepoint }));
                savepoint = !savepoint;
            }
            *number += 1;
            let key = 1 + u8::try_from(chance.below(self.keys)).unwrap_or(0);
            let stated = Stated {
                number: *number,
                key: if chance.percent(self.keyless) { 0 } else { key },
                topic: usize::from(chance.percent(20)),
                kind: chance.place(KINDS.len()),
                due_in: if chance.percent(self.due) { 5 + chance.below(60) } else { 0 },
            };
            steps.push((at, Step::State(stated)));
        }
        (steps, at)
    }
}

fn incidents(chance: &mut Chance, writers: Writers, horizon: Duration) -> Vec<Incident> {
    let mut incidents = Vec::new();
    let mut some = |chance: &mut Chance, likely, most, make: &dyn Fn(&mut Chance) -> Calamity| {
        if !chance.percent(likely) {
            return;
        }
        for _ in 0..1 + chance.below(most) {
            let at = Moment::after_start(chance.between(Duration::ZERO, horizon));
            incidents.push(Incident { at, what: make(chance) });
        }
    };
    use Calamity as C;
    some(chance, 35, 3, &|c| C::RelayCrash { node: c.place(3), down: c.millis(0, 120) });
    some(chance, 35, 3, &|c| C::RelayPause { node: c.place(3), pause: c.millis(5, 250) });
    some(chance, 20, 2, &|c| C::RelayStop { node: c.place(3) });
    some(chance, 25, 3, &|c| C::ConsumerCrash { node: c.place(4), down: c.millis(0, 80) });
    some(chance, 20, 2, &|c| C::ConsumerPause { node: c.place(4), pause: c.millis(5, 120) });
    some(chance, 10, 1, &|c| C::ConsumerStop { node: c.place(4) });
    some(chance, 15, 2, &|c| C::DatabaseCrash { down: c.millis(1, 60) });
    some(chance, 8, 1, &|c| C::CalendarJump {
        millis: if c.percent(50) { 1 } else { -1 } * i64::try_from(c.below(300)).unwrap_or(0),
    });
    some(chance, 12, 2, &|c| C::InboxCrash { down: c.millis(1, 40) });
    some(chance, 15, 2, &|c| C::BrokerCrash { down: c.millis(1, 80) });
    some(chance, 20, 3, &|c| C::Unbound { kind: c.place(KINDS.len()), gone: c.millis(10, 200) });
    some(chance, 25, 3, &|c| C::Operator { act: c.pick(&[Act::Repost, Act::Discard]) });
    if writers == Writers::Many {
        some(chance, 20, 2, &|c| {
            let down = if c.percent(50) { c.millis(0, 2) } else { c.millis(1, 40) };
            C::Failover { lag: c.millis(0, 150), down }
        });
        some(chance, 30, 6, &|c| C::Divide { lanes: c.pick(&[1, 2, 3]) });
    }
    incidents.sort_by_key(|incident| incident.at);
    incidents
}
