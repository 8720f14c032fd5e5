//! Processes killed at random moments under load.

use posthaste_proof::chance::Chance;
use posthaste_proof::rest::finish;
use posthaste_proof::{Failure, Job};

use crate::rig::{PATIENCE, consumers, relay, world, writer, written};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fault_everything_arrives_once() -> Result<(), Failure> {
    let chance = Chance::from_environment(1);
    let world = world(&chance).await?;
    let owner = world.launch("owner", [Job::Own]).await?;
    let till = world.launch("consumer", consumers()).await?;
    let relay = world.launch("relay", [relay()]).await?;
    let writers = [
        world.launch("writer 1", [writer(120)]).await?,
        world.launch("writer 2", [writer(120)]).await?,
    ];
    written(writers).await?;
    world.rest(PATIENCE).await?;
    finish([relay, till, owner]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(300, 0)?;
    assert_eq!(truth.report.duplicates_absorbed, 0, "no fault, no copy");
    assert!(truth.dead.is_empty(), "nothing was given up on: {:?}", truth.dead);
    world.remove()
}
