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
    /// How the bus behaves if this process owns it.
    pub bus: BusTuning,
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
}

impl Default for Writing {
    fn default() -> Self {
        Self {
            transactions: 200,
            customers: 12,
            rollback_one_in: 6,
            behaviour: Behaviour::Good,
            pause_ms: 0,
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
}

impl Default for Relaying {
    fn default() -> Self {
        Self { lease_ms: 700, window: 64, attempts: 5 }
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
