//! The relay: outbox to broker, until it is told to stop.
//!
//! All decisions are made by [`posthaste_core::relay`]; this file carries them out. Every call
//! runs in a task of its own and comes back as an input, so that nothing that holds state is ever
//! dropped half way.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::outbox::{Pace, Settlement};
use posthaste_core::relay::{self, Effect, Facts, Failure, FlightId, Input, Settings};
use posthaste_core::{Broker, Database, Lane, Moment, Outcome, Publisher, StoreError, Verdict};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::progress::Progress;

pub use posthaste_core::judge::{OnDead, OnUnroutable, TopicPolicy};

/// Most entries that one round of pruning removes.
const PRUNE_LIMIT: usize = 1000;

/// How a relay behaves. The defaults suit a laptop and a small production alike.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Names checkpoint, side table and lease; one per broker that the outbox is relayed to.
    pub destination: String,
    /// Who this relay is in the lease table, for people; made unique by the relay itself.
    pub owner: String,
    /// Most entries in memory.
    pub window_messages: usize,
    /// Bytes of entries in memory above which nothing more is read.
    pub window_bytes: usize,
    /// What happens to failures, unless the topic has its own policy.
    pub policy: TopicPolicy,
    /// Topics with a policy of their own.
    pub topics: BTreeMap<String, TopicPolicy>,
    /// How long the lease runs without renewal: how long a standby waits for a dead leader.
    pub lease_ttl: Duration,
    /// Longest time between two looks at the outbox when nothing signals a change; `None` for what
    /// the database recommends.
    pub poll: Option<Duration>,
    /// How long a stop may take to bring home what is in flight.
    pub grace: Duration,
    /// How long sent entries stay in the outbox, for people to look at.
    pub keep_sent: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            destination: settings.lane.destination,
            owner: format!("pid {}", std::process::id()),
            window_messages: settings.window_messages,
            window_bytes: settings.window_bytes,
            policy: settings.policy,
            topics: settings.topics,
            lease_ttl: settings.lease_ttl,
            poll: None,
            grace: settings.grace,
            keep_sent: Duration::from_hours(7 * 24),
        }
    }
}

impl RelayOptions {
    fn settings(&self, pace: Pace) -> Settings {
        Settings {
            lane: Lane::whole(self.destination.as_str()),
            window_messages: self.window_messages.max(1),
            window_bytes: self.window_bytes.max(1),
            policy: self.policy,
            topics: self.topics.clone(),
            // Zero would mean to do nothing but look, or to never hold a lease.
            lease_ttl: self.lease_ttl.max(Duration::from_millis(100)),
            pace: self.pace(pace),
            grace: self.grace,
            ..Settings::default()
        }
    }

    /// The database's pace within the longest time that was asked for.
    fn pace(&self, pace: Pace) -> Pace {
        let longest = self.poll.map_or(pace.longest, |poll| poll.max(Duration::from_millis(10)));
        Pace { shortest: pace.shortest.min(longest), longest }
    }
}

/// Carries messages from an outbox to a broker. Any number may run on one database: one leads, the
/// others stand by and take over.
pub struct Relay {
    database: Arc<dyn Database>,
    broker: Arc<dyn Broker>,
    options: RelayOptions,
    progress: Arc<Progress>,
}

impl Relay {
    /// A relay from this database to this broker, with default options.
    pub fn new(database: Arc<dyn Database>, broker: Arc<dyn Broker>) -> Self {
        let progress = Arc::new(Progress::default());
        Self { database, broker, options: RelayOptions::default(), progress }
    }

    /// The same with these options.
    #[must_use]
    pub fn options(mut self, options: RelayOptions) -> Self {
        self.options = options;
        self
    }

    /// Live figures of this relay.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Relays until `stop` is ready; then what was taken is settled, the lease is given back, and
    /// this returns. It waits for a database or a broker that is away and never gives up on them.
    ///
    /// Dropping the returned future stops at once, as a crash would: nothing is lost, what was in
    /// flight may be sent again.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) {
        let seed = getrandom::u64().expect("the operating system gives random bytes");
        let owner = format!("{} #{:08x}", self.options.owner, seed >> 32);
        let facts = Facts::from(self.broker.promises());
        let machine = relay::Relay::new(self.options.settings(self.database.pace()), facts, seed);
        let mut shell = Shell {
            hands: Hands {
                publisher: self.broker.publisher(),
                database: self.database,
                lane: Lane::whole(self.options.destination.as_str()),
                owner: Arc::from(owner),
                keep_sent: self.options.keep_sent,
                progress: self.progress,
            },
            machine,
            calls: JoinSet::new(),
            started: Instant::now(),
        };
        shell.run(stop).await;
    }
}

struct Shell {
    hands: Hands,
    machine: relay::Relay,
    calls: JoinSet<Input>,
    started: Instant,
}

impl Shell {
    async fn run(&mut self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        let mut stopping = false;
        let database = Arc::clone(&self.hands.database);
        let mut changed = pin!(database.changed());
        let mut input = Input::Tick;
        while self.step(input) {
            let deadline = self.machine.deadline();
            let at = deadline.map(|at| self.started + at.elapsed());
            input = tokio::select! {
                biased;
                () = &mut stop, if !stopping => {
                    stopping = true;
                    Input::Stop
                }
                Some(answer) = self.calls.join_next() => match answer {
                    Ok(input) => input,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // A call is cancelled only together with the whole runtime.
                        Err(_) => return,
                    },
                },
                () = &mut changed => {
                    changed.set(database.changed());
                    Input::Changed
                }
                () = sleep_until(at) => Input::Tick,
            };
        }
    }

    fn now(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    /// Steps the machine and starts what it asks for; whether to go on.
    fn step(&mut self, input: Input) -> bool {
        let mut effects = Vec::new();
        self.machine.step(self.now(), input, &mut effects);
        let progress = &self.hands.progress;
        progress.set_window(self.machine.window());
        if progress.set_leading(self.machine.is_leading()) {
            let leading = self.machine.is_leading();
            let destination = &*self.hands.lane.destination;
            tracing::info!(destination, leading, "the relay {}", role(leading));
        }
        for effect in effects {
            if effect == Effect::Finish {
                return false;
            }
            self.calls.spawn(self.hands.clone().carry_out(effect));
        }
        true
    }
}

fn role(leading: bool) -> &'static str {
    if leading { "leads" } else { "stands by" }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What a call needs, shared by all of them.
#[derive(Clone)]
struct Hands {
    database: Arc<dyn Database>,
    publisher: Arc<dyn Publisher>,
    lane: Lane,
    owner: Arc<str>,
    keep_sent: Duration,
    progress: Arc<Progress>,
}

impl Hands {
    async fn carry_out(self, effect: Effect) -> Input {
        let database = &self.database;
        match effect {
            Effect::Acquire { name, ttl } => {
                let claim = database.acquire(&name, &self.owner, ttl).await;
                Input::Claimed(self.heard("claim the lease", claim))
            }
            Effect::Renew { lease, ttl } => {
                let renewed = database.renew(&lease, ttl).await;
                Input::Renewed(self.heard("renew the lease", renewed))
            }
            Effect::Release { lease } => {
                // Not released is as good as run out: the others only wait longer.
                let _ = self.heard("release the lease", database.release(&lease).await);
                Input::Released
            }
            Effect::Load => {
                let checkpoint = database.checkpoint(&self.lane).await;
                Input::Loaded(self.heard("load the checkpoint", checkpoint))
            }
            Effect::Read { from, limit } => {
                let batch = database.read(&self.lane, &from, limit).await;
                Input::Read(self.heard("read the outbox", batch))
            }
            Effect::Ready { limit } => {
                let ready = database.ready(&self.lane, limit).await;
                Input::Ready(self.heard("read what waits", ready))
            }
            Effect::Settle { lease, settlement } => {
                let settled = database.settle(&lease, &settlement).await;
                if settled.is_ok() {
                    self.count(&settlement);
                }
                Input::Settled(self.heard("settle", settled))
            }
            Effect::Prune { lease } => {
                let pruned = database.prune_sent(&lease, self.keep_sent, PRUNE_LIMIT).await;
                let more = pruned.map(|removed| removed >= PRUNE_LIMIT as u64);
                Input::Pruned(self.heard("remove old entries", more))
            }
            Effect::Publish { flight, messages } => self.publish(flight, messages).await,
            Effect::Finish => Input::Tick,
        }
    }

    async fn publish(&self, flight: FlightId, messages: Vec<posthaste_core::Message>) -> Input {
        match self.publisher.publish(&messages).await {
            Ok(outcomes) => {
                let known =
                    outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Unknown { .. }));
                if known && self.progress.broker_is_back() {
                    tracing::info!("the broker is back");
                }
                if let Some(Outcome::Unknown { detail }) =
                    outcomes.iter().find(|outcome| matches!(outcome, Outcome::Unknown { .. }))
                {
                    tracing::warn!(detail, "the broker did not say whether it has a message");
                }
                Input::Published { flight, outcomes: Some(outcomes) }
            }
            Err(away) => {
                if self.progress.broker_is_away(story(&away)) {
                    tracing::warn!(error = %story(&away), "the broker is away; waiting for it");
                }
                Input::Published { flight, outcomes: None }
            }
        }
    }

    /// Notes how the database is, and reduces an error to what the machine decides by.
    fn heard<T>(&self, what: &str, answer: Result<T, StoreError>) -> Result<T, Failure> {
        match answer {
            Ok(value) => {
                if self.progress.database_is_back() {
                    tracing::info!("the database is back");
                }
                Ok(value)
            }
            Err(error) => {
                let failure = Failure::from(&error);
                if failure == Failure::Fenced {
                    tracing::warn!("another relay has taken over; standing by");
                } else if self.progress.database_is_away(story(&error)) {
                    tracing::warn!(error = %story(&error), "cannot {what}; trying again");
                }
                Err(failure)
            }
        }
    }

    fn count(&self, settlement: &Settlement) {
        let (mut sent, mut failed, mut dead) = (0, 0, 0);
        for settled in &settlement.verdicts {
            match &settled.verdict {
                Verdict::Sent => sent += 1,
                Verdict::Retry { detail, .. } => failed += u64::from(!detail.is_empty()),
                Verdict::Dead { reason, detail, .. } => {
                    dead += 1;
                    let (position, reason) = (settled.position.as_str(), reason.code());
                    tracing::error!(position, reason, detail, "a message became a dead letter");
                }
                Verdict::Due | Verdict::Behind | Verdict::Unroutable { .. } => {}
            }
        }
        self.progress.add(sent, failed, dead);
    }
}

/// An error and its causes on one line.
pub(crate) fn story(error: &dyn std::error::Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        story = format!("{story}: {next}");
        cause = next.source();
    }
    story
}
