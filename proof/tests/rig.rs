//! What the proofs share.

use std::path::Path;
use std::time::Duration;

use posthaste_proof::chance::Chance;
use posthaste_proof::node::{Consuming, Relaying, Writing};
use posthaste_proof::{Failure, Job, Process, World};

/// The program that nodes run.
pub(crate) const NODE: &str = env!("CARGO_BIN_EXE_posthaste-proof-node");

/// How long nothing may move before a world counts as at rest although something is missing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(12);

/// How long a node may take to end.
pub(crate) const END: Duration = Duration::from_secs(30);

/// A new world for a campaign.
pub(crate) async fn world(chance: &Chance) -> Result<World, Failure> {
    World::create(Path::new(NODE), chance.seed()).await
}

/// A relay with the usual settings.
pub(crate) fn relay() -> Job {
    Job::Relay(Relaying::default())
}

/// Both consumers with the usual settings.
pub(crate) fn consumers() -> [Job; 2] {
    [Job::Till(Consuming::default()), Job::Books(Consuming::default())]
}

/// A writer of this many transactions.
pub(crate) fn writer(transactions: u64) -> Job {
    Job::Write(Writing { transactions, ..Writing::default() })
}

/// Waits for writers to be done.
pub(crate) async fn written(writers: impl IntoIterator<Item = Process>) -> Result<(), Failure> {
    for mut writer in writers {
        let status = writer.end(Duration::from_secs(60)).await?;
        assert!(status.success(), "a writer ended with {status}");
    }
    Ok(())
}
