//! Campaigns: faults of one kind, again and again, in worlds of their own that are judged at their
//! end. A short form of each runs with the tests; `posthaste-prove` runs them for as long as asked.

mod database_kill;
mod kills;
mod outcome;
mod power_file;
mod power_postgres;

use std::time::{Duration, Instant};

pub use kills::{Victims, kill_at_random};
pub use outcome::{Outcome, Verdict};
use posthaste_servers::{Postgres, RabbitMq};

use crate::Failure;
use crate::power::Disk;

/// A kind of campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Campaign {
    /// kill -9 of relays, on SQLite and the embedded bus.
    RelayKill,
    /// kill -9 of consumers, on SQLite and the embedded bus.
    ConsumerKill,
    /// kill -9 of writers, on SQLite and the embedded bus.
    WriterKill,
    /// kill -9 of relay, consumer, owner of the bus and writer at once.
    EveryKill,
    /// kill -9 of PostgreSQL with all its processes, with RabbitMQ.
    DatabaseKill,
    /// Power cuts of the disk with the SQLite file; the bus is on another one.
    PowerSqlite,
    /// Power cuts of the disk with the bus; the SQLite file is on another one.
    PowerBus,
    /// Power cuts of the disk of PostgreSQL.
    PowerPostgres,
}

/// How much of it, and from which seed on.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Faults after which it ends.
    pub cycles: u64,
    /// When it ends although there were fewer: it is looked at between two worlds.
    pub within: Option<Duration>,
    /// The seed of the first world; each further world has the next one.
    pub seed: u64,
    /// Makes every disk lie about what it has, so that the campaign must end badly.
    pub lying: bool,
}

/// What happened in one world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Faults.
    pub cycles: u64,
    /// Messages whose commit was answered with success.
    pub messages: u64,
    /// Faults before which something had been acknowledged since the last one.
    pub hits: u64,
}

impl Campaign {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RelayKill,
        Self::ConsumerKill,
        Self::WriterKill,
        Self::EveryKill,
        Self::DatabaseKill,
        Self::PowerSqlite,
        Self::PowerBus,
        Self::PowerPostgres,
    ];

    /// Its name on the command line and in the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RelayKill => "relay-kill",
            Self::ConsumerKill => "consumer-kill",
            Self::WriterKill => "writer-kill",
            Self::EveryKill => "every-kill",
            Self::DatabaseKill => "database-kill",
            Self::PowerSqlite => "power-sqlite",
            Self::PowerBus => "power-bus",
            Self::PowerPostgres => "power-postgres",
        }
    }

    /// Whether it mounts disks, so that it needs a namespace of its own.
    pub const fn cuts_power(self) -> bool {
        matches!(self, Self::PowerSqlite | Self::PowerBus | Self::PowerPostgres)
    }

    /// Why it cannot be run here, if so.
    pub fn missing(self) -> Option<String> {
        let disk = || if self.cuts_power() { Disk::missing() } else { None };
        let servers = || match self {
            Self::DatabaseKill | Self::PowerPostgres => {
                Postgres::missing().or_else(RabbitMq::missing)
            }
            _ => None,
        };
        disk().or_else(servers)
    }

    /// Faults of one world: enough to meet everything, few enough to be judged in a moment.
    const fn cycles_per_world(self) -> u64 {
        match self {
            Self::RelayKill | Self::ConsumerKill | Self::WriterKill => 60,
            Self::EveryKill => 80,
            Self::DatabaseKill => 10,
            Self::PowerSqlite | Self::PowerBus => 25,
            Self::PowerPostgres => 10,
        }
    }

    async fn world(self, seed: u64, cycles: u64, lying: bool) -> Result<Round, Failure> {
        match self {
            Self::RelayKill => kills::world(Victims::Relays, seed, cycles).await,
            Self::ConsumerKill => kills::world(Victims::Consumers, seed, cycles).await,
            Self::WriterKill => kills::world(Victims::Writers, seed, cycles).await,
            Self::EveryKill => kills::world(Victims::Everybody, seed, cycles).await,
            Self::DatabaseKill => database_kill::world(seed, cycles).await,
            Self::PowerSqlite => {
                power_file::world(power_file::Lost::Database, seed, cycles, lying).await
            }
            Self::PowerBus => power_file::world(power_file::Lost::Bus, seed, cycles, lying).await,
            Self::PowerPostgres => power_postgres::world(seed, cycles, lying).await,
        }
    }

    /// Runs one world after the other until there were enough faults, or one is not kept. `tell` is
    /// told of each.
    ///
    /// A world that could not be made or brought to its end counts as broken as well.
    pub async fn run(self, plan: Plan, mut tell: impl FnMut(&Outcome)) -> Outcome {
        let begun = Instant::now();
        let mut outcome = Outcome::new(self.name(), plan.seed);
        while outcome.cycles < plan.cycles && plan.within.is_none_or(|most| begun.elapsed() < most)
        {
            let cycles = self.cycles_per_world().min(plan.cycles - outcome.cycles);
            let seed = plan.seed + outcome.seeds;
            outcome.seeds += 1;
            match self.world(seed, cycles, plan.lying).await {
                Ok(round) => outcome.add(round),
                Err(failure) => outcome.breaks(seed, &*failure),
            }
            outcome.wall = begun.elapsed();
            tell(&outcome);
            if outcome.verdict == Verdict::Broken {
                return outcome;
            }
        }
        outcome.conclude();
        outcome
    }
}
