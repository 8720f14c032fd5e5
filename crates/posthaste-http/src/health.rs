//! What is known of a relay at this moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use posthaste::Progress;
use posthaste::core::Database;
use posthaste::core::database::Status;
use posthaste::progress::Snapshot;
use serde_json::{Value, json};

/// For how long one look at the database answers all questions.
const FRESH: Duration = Duration::from_secs(1);

/// How long a look at the database may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a relay that leads nothing may have nobody leading beside it before that is a fault:
/// a lease changes hands within its length.
const INTERREGNUM: Duration = Duration::from_secs(15);

/// The health of one relay. Clones are handles of the same.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    destination: String,
    phase: Mutex<Phase>,
    look: tokio::sync::Mutex<Option<Look>>,
    leader_seen: Mutex<Option<Instant>>,
}

#[derive(Clone)]
enum Phase {
    Waiting(String),
    Relaying { database: Arc<dyn Database>, progress: Arc<Progress> },
}

/// What the last look at the database saw.
#[derive(Clone)]
struct Look {
    at: Instant,
    seen: Result<Status, String>,
}

/// Everything at one moment.
pub(crate) struct Report {
    pub(crate) destination: String,
    /// What the relay waits for before it can begin.
    pub(crate) waiting: Option<String>,
    pub(crate) relay: Option<Snapshot>,
    /// `None` before the relay has begun.
    pub(crate) database: Option<Result<Status, String>>,
    /// Whether there has been a leader lately, this relay or another.
    pub(crate) led: bool,
}

impl Health {
    /// Of a relay to this destination that has not begun.
    pub fn new(destination: impl Into<String>) -> Self {
        let shared = Shared {
            destination: destination.into(),
            phase: Mutex::new(Phase::Waiting("starting".to_owned())),
            look: tokio::sync::Mutex::new(None),
            leader_seen: Mutex::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Notes what the relay waits for before it can begin, for people.
    pub fn waiting(&self, reason: impl Into<String>) {
        self.enter(Phase::Waiting(reason.into()));
    }

    /// Notes that it relays from this database.
    pub fn relaying(&self, database: Arc<dyn Database>, progress: Arc<Progress>) {
        self.enter(Phase::Relaying { database, progress });
    }

    fn enter(&self, phase: Phase) {
        *self.shared.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    pub(crate) async fn report(&self) -> Report {
        let destination = self.shared.destination.clone();
        let phase = self.shared.phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match phase {
            Phase::Waiting(reason) => Report {
                destination,
                waiting: Some(reason),
                relay: None,
                database: None,
                led: false,
            },
            Phase::Relaying { database, progress } => {
                let seen = self.look(&*database).await;
                let relay = progress.snapshot();
                let led = self.is_led(&relay, &seen);
                Report { destination, waiting: None, relay: Some(relay), database: Some(seen), led }
            }
        }
    }

    /// Looks at the database, unless somebody has just done so. Whoever comes meanwhile waits for
    /// the same look.
    async fn look(&self, database: &dyn Database) -> Result<Status, String> {
        let mut last = self.shared.look.lock().await;
        if let Some(look) = &*last
            && look.at.elapsed() < FRESH
        {
            return look.seen.clone();
        }
        let status = tokio::time::timeout(PATIENCE, database.status(&self.shared.destination));
        let seen = match status.await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        *last = Some(Look { at: Instant::now(), seen: seen.clone() });
        seen
    }

    fn is_led(&self, relay: &Snapshot, seen: &Result<Status, String>) -> bool {
        let lease = format!("relay/{}/", self.shared.destination);
        let held = |status: &Status| status.leases.iter().any(|one| one.name.starts_with(&lease));
        let mut last = self.shared.leader_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if relay.leading || seen.as_ref().is_ok_and(held) {
            *last = Some(Instant::now());
        }
        last.is_some_and(|last| last.elapsed() < INTERREGNUM)
    }
}

impl Report {
    /// Why the relay cannot do its work; empty if it can.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(reason) = &self.waiting {
            faults.push(format!("waiting: {reason}"));
        }
        if let Some(Err(error)) = &self.database {
            faults.push(error.clone());
        }
        if let Some(relay) = &self.relay {
            if let Some((_, reason)) = &relay.database_away {
                faults.push(reason.clone());
            }
            if let Some((_, reason)) = &relay.broker_away {
                faults.push(reason.clone());
            }
            if !self.led {
                faults.push("no relay leads, neither this one nor another".to_owned());
            }
        }
        faults.dedup();
        faults
    }

    /// The body of `/health/ready`.
    pub(crate) fn body(&self) -> Value {
        let faults = self.faults();
        let relay = self.relay.as_ref();
        let status = self.database.as_ref().and_then(|seen| seen.as_ref().ok());
        json!({
            "ready": faults.is_empty(),
            "destination": self.destination,
            "leading": relay.is_some_and(|relay| relay.leading),
            "database": self.database.as_ref().is_some_and(Result::is_ok),
            "broker": relay.is_some_and(|relay| relay.broker_away.is_none()),
            "faults": faults,
            "unroutable": status.map(|status| &status.unroutable),
        })
    }
}

/// Seconds since then; 0 if the clock was set back.
pub(crate) fn seconds_since(then: SystemTime) -> f64 {
    then.elapsed().unwrap_or_default().as_secs_f64()
}
