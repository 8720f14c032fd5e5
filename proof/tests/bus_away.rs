//! The bus goes away with nobody to take over, and comes back: everything waits, nothing is
//! counted as failed, nothing is given up.

use std::fs::OpenOptions;
use std::time::Duration;

use posthaste_proof::chance::Chance;
use posthaste_proof::{Failure, Job};

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{
    BOOKED, PATIENCE, SOON, consumers, number, relay, steady_writer, world,
};

/// Counted attempts of relay and consumers.
const ATTEMPTS: &str = "select (select coalesce(sum(attempts), 0) from posthaste_held) \
     + (select coalesce(sum(attempts), 0) from posthaste_dead_letter)";

/// How long the bus is away each time: more than a client waits before it says so.
const AWAY: Duration = Duration::from_millis(2600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_bus_is_away_nothing_is_counted_or_buried() -> Result<(), Failure> {
    let chance = Chance::from_environment(31);
    let world = world(&chance).await?;
    let mut crew = Crew::of(&world);
    crew.add("owner", [Job::Own]).await?;
    crew.add("consumer", consumers()).await?;
    crew.add("relay", [relay()]).await?;
    crew.add("writer", [steady_writer()]).await?;
    for _ in 0..3 {
        let before = number(&world, BOOKED).await?;
        world.until(BOOKED, before + 60, SOON).await?;
        let owner = crew.bus_owner().ok_or("nobody owns the bus")?;
        // A bus whose lock is held by somebody who does not serve is away. The others stand still
        // until the lock has changed hands, or one of them would take over.
        let others: Vec<_> =
            crew.names("").into_iter().filter(|name| *name != owner && name != "writer").collect();
        others.iter().try_for_each(|name| crew.member(name)?.pause())?;
        crew.kill(&owner)?;
        let lock = OpenOptions::new().write(true).open(world.path().join("bus.db.lock"))?;
        lock.try_lock()?;
        others.iter().try_for_each(|name| crew.member(name)?.resume())?;
        tokio::time::sleep(AWAY).await;
        let stuck = number(&world, BOOKED).await?;
        assert_eq!(number(&world, ATTEMPTS).await?, 0, "an outage counts no attempt");
        drop(lock);
        crew.restart(&owner).await?;
        world.until(BOOKED, stuck + 1, SOON).await?;
    }
    world.until_acknowledged(300, SOON).await?;
    crew.finish("writer").await?;
    world.rest(PATIENCE).await?;
    assert_eq!(number(&world, ATTEMPTS).await?, 0, "an outage counts no attempt");
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(300, 0)?;
    assert!(truth.dead.is_empty(), "an outage buries nothing: {:?}", truth.dead);
    world.remove()
}
