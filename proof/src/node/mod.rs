//! A process of a world: what it is told on its command line, and how it runs.
//!
//! A node says `ready` on its standard output once its jobs have begun, ends well on SIGTERM or
//! when its jobs are done, and ends at once when its standard input is closed, so that it never
//! outlives the test that started it.

pub mod consume;
mod mischief;
pub mod relay;
mod run;
mod witness;
mod write;

use std::path::PathBuf;
use std::time::Duration;

use posthaste_bus::BusOptions;
use serde::{Deserialize, Serialize};

use crate::shop::Behaviour;

pub use mischief::{Death, Sabotage, Step};
pub use run::run;
pub use witness::Witness;

/// What a process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// What it is called in this world.
    pub name: String,
    /// The folder of the world.
    pub folder: PathBuf,
    /// Decides what it leaves to chance.
    pub seed: u64,
    /// What it does, all at once.
    pub jobs: Vec<Job>,
    /// The URL of the database.
    pub database: String,
    /// The URL of the broker.
    pub broker: String,
    /// How the bus behaves if this process owns it.
    pub bus: BusTuning,
    /// How this process behaves towards a RabbitMQ server.
    pub rabbit: RabbitTuning,
    /// Where it ends itself.
    pub death: Option<Death>,
    /// Which rule it breaks.
    pub sabotage: Option<Sabotage>,
}

/// One thing that a process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Keeps the bus open and nothing else.
    Own,
    /// Places orders.
    Write(Writing),
    /// Relays.
    Relay(Relaying),
    /// Consumes orders and issues receipts.
    Till(Consuming),
    /// Consumes receipts.
    Books(Consuming),
}

/// How orders are placed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Writing {
    /// How many transactions, committed or not.
    pub transactions: u64,
    /// How many customers share them.
    pub customers: u64,
    /// One transaction in this many is rolled back.
    pub rollback_one_in: u64,
    /// What becomes of one order in ten.
    pub behaviour: Behaviour,
    /// Wait between two transactions, in milliseconds.
    pub pause_ms: u64,
    /// How long a transaction stays open once it has stated its messages, in milliseconds at most.
    pub hold_ms: u64,
    /// One transaction in this many states messages in a savepoint that it rolls back; 0 for none.
    pub savepoint_one_in: u64,
}

impl Default for Writing {
    fn default() -> Self {
        Self {
            transactions: 200,
            customers: 12,
            rollback_one_in: 6,
            behaviour: Behaviour::Good,
            pause_ms: 0,
            hold_ms: 0,
            savepoint_one_in: 0,
        }
    }
}

/// How a relay is set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Relaying {
    /// How long its lease runs, in milliseconds.
    pub lease_ms: u64,
    /// Most entries in memory.
    pub window: usize,
    /// How often a message is tried.
    pub attempts: u32,
    /// Into how many lanes the destination is to be divided.
    pub lanes: Option<u16>,
    /// How often what nobody is bound to is tried, in milliseconds.
    pub probe_ms: u64,
}

impl Default for Relaying {
    fn default() -> Self {
        Self { lease_ms: 700, window: 64, attempts: 5, lanes: None, probe_ms: 300 }
    }
}

/// How a consumer is set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Consuming {
    /// Most deliveries in one transaction.
    pub batch: usize,
    /// How often a message is tried.
    pub attempts: u32,
    /// How long a handler may take, in milliseconds.
    pub handler_timeout_ms: u64,
}

impl Default for Consuming {
    fn default() -> Self {
        Self { batch: 16, attempts: 4, handler_timeout_ms: 10_000 }
    }
}

/// How the bus behaves.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct BusTuning {
    /// How long a delivery is locked, in milliseconds.
    pub lock_ms: u64,
    /// Most bytes of a payload.
    pub max_payload: usize,
}

impl Default for BusTuning {
    fn default() -> Self {
        Self { lock_ms: 1500, max_payload: 1024 * 1024 }
    }
}

impl From<BusTuning> for BusOptions {
    fn from(tuning: BusTuning) -> Self {
        let mut options = Self::default();
        options.lock = Duration::from_millis(tuning.lock_ms);
        options.max_payload = tuning.max_payload;
        options
    }
}

/// How a process behaves towards a RabbitMQ server.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RabbitTuning {
    /// Whether it declares what it needs.
    pub declare: bool,
    /// Most bytes of a payload that it sends.
    pub max_payload: usize,
    /// How long one call of publish may take, in milliseconds.
    pub publish_within_ms: u64,
    /// How long connecting may take, in milliseconds.
    pub connect_within_ms: u64,
    /// How often both sides show that they are alive, in seconds.
    pub heartbeat_s: u64,
    /// Deliveries of one message before the broker gives up on it: more than the campaigns kill.
    pub delivery_limit: u32,
}

impl Default for RabbitTuning {
    fn default() -> Self {
        Self {
            declare: true,
            max_payload: 16 * 1024 * 1024,
            publish_within_ms: 4000,
            connect_within_ms: 4000,
            heartbeat_s: 2,
            delivery_limit: 500,
        }
    }
}
