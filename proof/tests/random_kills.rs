//! Processes killed with kill -9 at random moments, under load.

use std::time::Duration;

use posthaste_proof::campaign::{Victims, kill_at_random};
use posthaste_proof::chance::Chance;
use posthaste_proof::truth::Truth;
use posthaste_proof::{Failure, Job, World};

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{
    PATIENCE, consumers, number, patient_relay, relay, steady_writer, world, writer, written,
};

/// A run with fewer acknowledged messages proves nothing.
const ENOUGH: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fault_everything_arrives_once() -> Result<(), Failure> {
    let chance = Chance::from_environment(1);
    let world = world(&chance).await?;
    let mut crew = Crew::of(&world);
    crew.add("owner", [Job::Own]).await?;
    crew.add("consumer", consumers()).await?;
    crew.add("relay 1", [patient_relay()]).await?;
    crew.add("relay 2", [patient_relay()]).await?;
    let writers = [
        world.launch("writer 1", [writer(120)]).await?,
        world.launch("writer 2", [writer(120)]).await?,
    ];
    written(writers).await?;
    let truth = judged(&world, &mut crew).await?;
    truth.is_worth(300, 0)?;
    assert_eq!(truth.report.counts.duplicates_absorbed, 0, "no fault, no copy");
    world.remove()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_killed_at_random_lose_and_double_nothing() -> Result<(), Failure> {
    campaign(11, 36, 1, Victims::Relays).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_killed_at_random_lose_and_double_nothing() -> Result<(), Failure> {
    campaign(12, 36, 1, Victims::Consumers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_killed_at_random_tear_no_transaction() -> Result<(), Failure> {
    campaign(13, 36, 0, Victims::Writers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_them_killed_at_once_lose_and_double_nothing() -> Result<(), Failure> {
    campaign(14, 48, 1, Victims::Everybody).await
}

async fn campaign(seed: u64, kills: u64, copies: u64, victims: Victims) -> Result<(), Failure> {
    let mut chance = Chance::from_environment(seed);
    let (truth, _) = kill_at_random(&mut chance, victims, kills, ENOUGH).await?;
    truth.is_worth(ENOUGH, copies)
}

/// Whoever owns the bus is killed; one of the others takes over, and is killed next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bus_owners_killed_at_random_lose_and_double_nothing() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(15);
    let world = world(&chance).await?;
    let mut crew = crew(&world).await?;
    crew.add("writer", [steady_writer()]).await?;
    let mut owners = std::collections::BTreeSet::new();
    while crew.kills < 30 || committed(&world).await? < ENOUGH {
        moment(&mut chance).await;
        if let Some(owner) = crew.bus_owner() {
            crew.kill(&owner)?;
            moment(&mut chance).await;
            crew.restart(&owner).await?;
            owners.insert(owner);
        }
    }
    crew.finish("writer").await?;
    let truth = judged(&world, &mut crew).await?;
    truth.is_worth(ENOUGH, 1)?;
    assert!(owners.len() > 1, "the bus never changed hands: {owners:?}");
    world.remove()
}

/// Two of everything, so that there is somebody to take over.
async fn crew(world: &World) -> Result<Crew<'_>, Failure> {
    let mut crew = Crew::of(world);
    crew.add("owner", [Job::Own]).await?;
    for number in [1, 2] {
        crew.add(&format!("consumer {number}"), consumers()).await?;
        crew.add(&format!("relay {number}"), [relay()]).await?;
    }
    Ok(crew)
}

/// Orders that were committed so far. A few of them may not be acknowledged, because their writer
/// was killed before it could say so.
async fn committed(world: &World) -> Result<usize, Failure> {
    let kills_of_writers = 100;
    let committed = number(world, "select count(*) from shop_order").await?;
    Ok(usize::try_from(committed)?.saturating_sub(kills_of_writers))
}

/// Lets some time pass, because time is what the kills are spread over.
async fn moment(chance: &mut Chance) {
    let time = chance.between(Duration::from_millis(20), Duration::from_millis(180));
    tokio::time::sleep(time).await;
}

async fn judged(world: &World, crew: &mut Crew<'_>) -> Result<Truth, Failure> {
    world.rest(PATIENCE).await?;
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    Ok(truth)
}
