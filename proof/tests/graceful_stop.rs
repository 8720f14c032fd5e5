//! Relays and consumers asked to end at random moments: what was taken is settled, the lease is
//! given back, and nothing is done twice after the next start.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste_history::Event;
use posthaste_proof::chance::Chance;
use posthaste_proof::{Failure, Job};

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{
    PATIENCE, SOON, consumers, number, patient_relay, steady_writer, world,
};

const HELD_LEASES: &str = "select count(*) from posthaste_lease where expires_at <> 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_asked_to_end_leaves_nothing_behind() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(41);
    let world = world(&chance).await?;
    let mut crew = Crew::of(&world);
    crew.add("owner", [Job::Own]).await?;
    crew.add("consumer", consumers()).await?;
    crew.add("relay", [patient_relay()]).await?;
    crew.add("writer", [steady_writer()]).await?;
    for _ in 0..25 {
        tokio::time::sleep(moment(&mut chance)).await;
        stop(&mut crew, "relay").await?;
        assert_eq!(number(&world, HELD_LEASES).await?, 0, "the lease is given back");
        crew.restart("relay").await?;
    }
    world.until_acknowledged(300, SOON).await?;
    crew.finish("writer").await?;
    world.rest(PATIENCE).await?;
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(300, 0)?;
    assert_eq!(truth.report.counts.duplicates_absorbed, 0, "an orderly end makes no copies");
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    world.remove()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_asked_to_end_finishes_what_it_began() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(42);
    let world = world(&chance).await?;
    let mut crew = Crew::of(&world);
    crew.add("owner", [Job::Own]).await?;
    crew.add("consumer", consumers()).await?;
    crew.add("relay", [patient_relay()]).await?;
    crew.add("writer", [steady_writer()]).await?;
    for _ in 0..25 {
        tokio::time::sleep(moment(&mut chance)).await;
        stop(&mut crew, "consumer").await?;
        crew.restart("consumer").await?;
    }
    world.until_acknowledged(300, SOON).await?;
    crew.finish("writer").await?;
    world.rest(PATIENCE).await?;
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(300, 0)?;
    let mut entered: BTreeMap<String, usize> = BTreeMap::new();
    for line in world.evidence.lines()? {
        if let Event::Handling(handling) = line.event {
            *entered.entry(handling.id).or_default() += 1;
        }
    }
    let twice: Vec<_> = entered.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "handlers ran again after an orderly end: {twice:?}");
    world.remove()
}

fn moment(chance: &mut Chance) -> Duration {
    chance.between(Duration::from_millis(30), Duration::from_millis(180))
}

async fn stop(crew: &mut Crew<'_>, name: &str) -> Result<(), Failure> {
    let process = crew.member(name)?;
    process.ask_to_end()?;
    let status = process.end(SOON).await?;
    assert!(status.success(), "the {name} ended with {status}");
    Ok(())
}
