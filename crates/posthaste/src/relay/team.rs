//! The lanes of one destination that this process works in.
//!
//! With one lane, every relay works in it, and its lease says who leads. With more, each relay
//! takes a seat, and [`Crew::turn`] says which lanes are its share. When another number of lanes is
//! wanted, all relays hand theirs over, and one of them, given all their leases, carries it out.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::lane::{Crew, Division};
use posthaste_core::lease::{Claim, Lease};
use posthaste_core::relay::{Facts, Relay as Machine};
use posthaste_core::{Broker, Database, Lane, StoreError};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::RelayOptions;
use super::hands::{Hands, story};
use super::shell::{Shell, sleep_until};
use crate::progress::Progress;

/// How long a change of lanes that the database refuses for now is left alone.
const LEAVE_ALONE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Team {
    database: Arc<dyn Database>,
    broker: Arc<dyn Broker>,
    options: RelayOptions,
    progress: Arc<Progress>,
    owner: Arc<str>,
    /// The number of lanes to ask for, until that was heard.
    wish: Option<u16>,
    lanes: JoinSet<u16>,
    running: BTreeMap<u16, Running>,
    /// At most one conversation with the database about lanes.
    talk: JoinSet<Result<Heard, StoreError>>,
    seat: Option<Lease>,
    /// Until when a wish for other lanes is left alone.
    patient_until: Instant,
    talk_at: Instant,
}

/// A lane at work.
struct Running {
    of: u16,
    /// Gone once it was told to stop.
    stop: Option<oneshot::Sender<()>>,
}

/// What the database says.
enum Heard {
    Looked {
        division: Division,
        crew: Crew,
        seat: Option<Lease>,
        may_divide: bool,
    },
    Divided,
    /// Somebody else still leads a lane.
    NotYet,
}

impl Team {
    pub(super) fn new(
        database: Arc<dyn Database>,
        broker: Arc<dyn Broker>,
        options: RelayOptions,
        progress: Arc<Progress>,
    ) -> Self {
        let seed = random();
        let owner = Arc::from(format!("{} #{:08x}", options.owner, seed >> 32));
        let wish = options.lanes;
        Self {
            database,
            broker,
            options,
            progress,
            owner,
            wish,
            lanes: JoinSet::new(),
            running: BTreeMap::new(),
            talk: JoinSet::new(),
            seat: None,
            patient_until: Instant::now(),
            talk_at: Instant::now(),
        }
    }

    pub(super) async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        loop {
            let idle = self.talk.is_empty();
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = self.lanes.join_next() => {
                    self.ended(ended);
                    self.talk_at = Instant::now();
                }
                Some(heard) = self.talk.join_next() => self.hear(unwind(heard)),
                () = sleep_until(Some(self.talk_at)), if idle => {
                    self.talk.spawn(self.desk().look(self.wish));
                }
            }
        }
        self.end(|_| true);
        while let Some(ended) = self.lanes.join_next().await {
            self.ended(ended);
        }
        self.talk.shutdown().await;
        if let Some(seat) = self.seat.take() {
            // Not given back is as good as run out: its lanes are only taken up later.
            let desk = self.desk();
            let given_back = tokio::spawn(async move { desk.database.release(&seat).await });
            let _ = tokio::time::timeout(self.options.grace, given_back).await;
        }
    }

    fn desk(&self) -> Desk {
        Desk {
            database: Arc::clone(&self.database),
            destination: self.options.destination.clone(),
            owner: Arc::clone(&self.owner),
            ttl: self.options.lease_ttl(),
        }
    }

    fn hands(&self, lane: Lane) -> Hands {
        Hands {
            publisher: self.broker.publisher(),
            database: Arc::clone(&self.database),
            lane,
            owner: Arc::clone(&self.owner),
            options: Arc::new(self.options.clone()),
            progress: Arc::clone(&self.progress),
        }
    }

    fn begin(&mut self, lane: Lane) {
        let (index, of) = (lane.index, lane.of);
        let settings = self.options.settings(self.database.pace(), lane.clone());
        let facts = Facts::from(self.broker.promises());
        let mut shell = Shell::new(self.hands(lane), Machine::new(settings, facts, random()));
        let (stop, stopped) = oneshot::channel();
        self.running.insert(index, Running { of, stop: Some(stop) });
        self.lanes.spawn(async move {
            shell
                .run(async move {
                    let _ = stopped.await;
                })
                .await;
            index
        });
    }

    fn end(&mut self, which: impl Fn(u16) -> bool) {
        for (_, running) in self.running.iter_mut().filter(|(lane, _)| which(**lane)) {
            if let Some(stop) = running.stop.take() {
                // It may have ended by itself.
                let _ = stop.send(());
            }
        }
    }

    fn ended(&mut self, ended: Result<u16, JoinError>) {
        let Some(lane) = unwind(ended) else { return };
        self.running.remove(&lane);
        if self.progress.end_lane(lane) {
            let destination = self.options.destination.as_str();
            tracing::info!(destination, lane, "the relay has handed over the lane");
        }
    }

    fn hear(&mut self, heard: Option<Result<Heard, StoreError>>) {
        let ttl = self.options.lease_ttl();
        let Some(heard) = heard else { return };
        self.talk_at = Instant::now() + ttl / 3;
        if heard.is_ok() && self.progress.database_is_back() {
            tracing::info!("the database is back");
        }
        match heard {
            Ok(Heard::Looked { division, crew, seat, may_divide }) => {
                self.wish = None;
                self.seat = seat;
                self.look_over(division, &crew, may_divide);
                if division.now == 1 && division.wanted == 1 {
                    self.talk_at = Instant::now() + ttl;
                }
            }
            Ok(Heard::Divided) => self.talk_at = Instant::now(),
            Ok(Heard::NotYet) => self.talk_at = Instant::now() + ttl / 10,
            Err(error @ StoreError::Rejected { .. }) => {
                tracing::warn!(error = %story(&error), "the lanes stay as they are for now");
                self.patient_until = Instant::now() + LEAVE_ALONE;
                self.talk_at = Instant::now();
            }
            Err(StoreError::Fenced) => self.talk_at = Instant::now() + ttl / 10,
            Err(error) => {
                if self.progress.database_is_away(story(&error)) {
                    tracing::warn!(error = %story(&error), "cannot look at the lanes; trying again");
                }
                self.talk_at = Instant::now() + (ttl / 3).min(Duration::from_secs(1));
            }
        }
    }

    fn look_over(&mut self, division: Division, crew: &Crew, may_divide: bool) {
        let stale: Vec<u16> = self
            .running
            .iter()
            .filter(|(_, running)| running.of != division.now)
            .map(|(lane, _)| *lane)
            .collect();
        self.end(|lane| stale.contains(&lane));
        // Lanes that have not worked off the last change need their leaders to get there.
        let changes = division.wanted != division.now && may_divide;
        if changes && Instant::now() >= self.patient_until {
            self.end(|_| true);
            if self.running.is_empty() {
                self.talk.spawn(self.desk().divide(division.now));
            }
            return;
        }
        let lane =
            |index| Lane { destination: self.options.destination.clone(), index, of: division.now };
        if division.now == 1 {
            if self.running.is_empty() {
                let lane = lane(0);
                self.begin(lane);
            }
            return;
        }
        let running = self.running.keys().copied().collect();
        let turn = crew.turn(&self.owner, &running);
        let begin: Vec<Lane> = turn.begin.iter().map(|index| lane(*index)).collect();
        self.end(|lane| turn.end.contains(&lane));
        for lane in begin {
            self.begin(lane);
        }
    }
}

/// What a conversation with the database about lanes needs.
struct Desk {
    database: Arc<dyn Database>,
    destination: String,
    owner: Arc<str>,
    ttl: Duration,
}

impl Desk {
    /// Looks at lanes, seats and leaders, and takes or keeps a seat.
    async fn look(self, wish: Option<u16>) -> Result<Heard, StoreError> {
        let (database, destination) = (&self.database, self.destination.as_str());
        let mut division = database.division(destination).await?;
        if let Some(lanes) = wish.filter(|lanes| *lanes != division.wanted) {
            match database.want_lanes(destination, lanes).await {
                Ok(()) => division = database.division(destination).await?,
                Err(error @ StoreError::Rejected { .. }) => {
                    tracing::error!(error = %story(&error), "lanes are not changed to {lanes}");
                }
                Err(error) => return Err(error),
            }
        }
        let mut crew = Crew { lanes: division.now, ..Crew::default() };
        let mut seat = None;
        if division.now > 1 {
            let prefix = format!("seat/{destination}/");
            crew.seats = self.held(&prefix, division.now).await?;
            let kept = crew.seats.iter().find(|(_, holder)| ***holder == *self.owner);
            let free = || (0..division.now).find(|index| !crew.seats.contains_key(index));
            if let Some(index) = kept.map(|(index, _)| *index).or_else(free) {
                let name = format!("{prefix}{index}");
                if let Claim::Granted(lease) =
                    database.acquire(&name, &self.owner, self.ttl).await?
                {
                    crew.seats.insert(index, self.owner.to_string());
                    seat = Some(lease);
                }
            }
            crew.leaders = self.held(&format!("relay/{destination}/"), division.now).await?;
        }
        let may_divide =
            division.wanted != division.now && database.can_divide(destination).await?;
        Ok(Heard::Looked { division, crew, seat, may_divide })
    }

    /// Who holds the numbered leases below a prefix.
    async fn held(&self, prefix: &str, lanes: u16) -> Result<BTreeMap<u16, String>, StoreError> {
        let held = self.database.held(prefix).await?;
        let numbered = held.into_iter().filter_map(|lease| {
            let number = lease.name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, lease.owner))
        });
        Ok(numbered.filter(|(number, _)| *number < lanes).collect())
    }

    /// Takes the leases of all present lanes and has the database divide anew.
    async fn divide(self, now: u16) -> Result<Heard, StoreError> {
        let mut leases = Vec::new();
        for lane in Lane::all(&self.destination, now) {
            match self.database.acquire(&lane.lease_name(), &self.owner, self.ttl).await? {
                Claim::Granted(lease) => leases.push(lease),
                Claim::Held { .. } => {
                    self.release(&leases).await;
                    return Ok(Heard::NotYet);
                }
            }
        }
        let divided = self.database.divide(&self.destination, &leases).await;
        if divided.is_err() {
            self.release(&leases).await;
        } else {
            tracing::info!(destination = self.destination, "the lanes were divided anew");
        }
        divided.map(|()| Heard::Divided)
    }

    async fn release(&self, leases: &[Lease]) {
        for lease in leases {
            // Not released is as good as run out.
            let _ = self.database.release(lease).await;
        }
    }
}

/// The value of a task; a panic in it goes on here. `None` if it was cancelled with the runtime.
fn unwind<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}

fn random() -> u64 {
    getrandom::u64().expect("the operating system gives random bytes")
}
