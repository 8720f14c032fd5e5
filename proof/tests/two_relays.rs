//! A relay that is paused beyond its lease and goes on as if nothing had happened: the other one
//! leads by then, and what the first still believes changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use posthaste::Relay;
use posthaste::testing::fault::{Call, FaultyDatabase, Strike, When};
use posthaste_proof::chance::Chance;
use posthaste_proof::node::{Relaying, relay};
use posthaste_proof::shop::Behaviour;
use posthaste_proof::{Failure, Job, World};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::Notify;

use crate::inside::Inside;
use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{
    self, PATIENCE, SETTLEMENTS, SOON, consumers, number, order, place, steady_writer, world,
};

/// How often the leader is paused.
const PAUSES: usize = 6;

const TOKEN: &str = "select coalesce(max(token), 0) from posthaste_lease";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_paused_beyond_its_lease_settles_nothing() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(21);
    let world = world(&chance).await?;
    let mut crew = Crew::of(&world);
    crew.add("owner", [Job::Own]).await?;
    crew.add("consumer", consumers()).await?;
    crew.add("relay 1", [rig::relay()]).await?;
    crew.add("relay 2", [rig::relay()]).await?;
    crew.add("writer", [steady_writer()]).await?;
    for _ in 0..PAUSES {
        settlements(&world, 3 + i64::try_from(chance.below(9))?).await?;
        let (leader, token) = pause_leader(&world, &mut crew).await?;
        world.until(TOKEN, token + 1, SOON).await?;
        settlements(&world, 3).await?;
        crew.member(&leader)?.resume()?;
        settlements(&world, 5).await?;
        let (next, now) = self::leader(&world).await?;
        // On a busy machine the lead may have changed hands once more.
        assert!(next != leader || now > token + 1, "the one that was paused leads as before");
    }
    world.until_acknowledged(300, SOON).await?;
    crew.finish("writer").await?;
    world.rest(PATIENCE).await?;
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(300, 0)?;
    let mut tokens = truth.tokens.get(&0).cloned().unwrap_or_default();
    tokens.dedup();
    assert!(tokens.len() > PAUSES, "the lead never changed hands: {tokens:?}");
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    world.remove()
}

/// The same with the late settlement made certain: it is on its way for longer than the lease runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_that_arrives_when_another_relay_leads_is_refused() -> Result<(), Failure> {
    let world = world(&Chance::from_environment(22)).await?;
    let mut inside = Inside::open(&world)?;
    inside.start_till().await?;
    inside.start_books().await?;
    let orders = |count| (0..count).map(|n| order("ann", n, Behaviour::Good, "")).collect();
    let first: Vec<_> = orders(20);
    place(&world, &first).await?;
    let (begun, arrived) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says_begun, says_arrived, calls) = (begun.clone(), arrived.clone(), AtomicU64::new(0));
    let fault = move |call, when| match (call, when) {
        (Call::Settle, When::Before) if calls.fetch_add(1, Ordering::Relaxed) == 0 => {
            says_begun.notify_one();
            Strike::Delay(Duration::from_millis(1500))
        }
        (Call::Settle, When::After) => {
            says_arrived.notify_one();
            Strike::Pass
        }
        _ => Strike::Pass,
    };
    let database = FaultyDatabase::new(Arc::new(world.database.clone()), fault);
    let settings = Relaying { lease_ms: 300, ..Relaying::default() };
    let late = Relay::new(Arc::new(database), Arc::new(inside.bus.clone()))
        .options(relay::options("late", &settings));
    let late = tokio::spawn(late.run_until(std::future::pending()));
    tokio::time::timeout(SOON, begun.notified()).await?;
    inside.start_relay();
    world.until(TOKEN, 2, SOON).await?;
    tokio::time::timeout(SOON, arrived.notified()).await?;
    let second: Vec<_> = orders(5);
    place(&world, &second).await?;
    assert!(world.rest(PATIENCE).await?, "the other one goes on");
    late.abort();
    inside.stop().await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(25, 1)?;
    assert!(
        !truth.tokens.get(&0).is_some_and(|tokens| tokens.contains(&1)),
        "the late one has settled: {:?}",
        truth.tokens
    );
    world.remove()
}

/// Pauses the node that leads, at a moment at which it does not hold the lock of the database: a
/// process that stands still with it holds up every writer, and there is nothing to take over.
async fn pause_leader(world: &World, crew: &mut Crew<'_>) -> Result<(String, i64), Failure> {
    loop {
        let (leader, token) = leader(world).await?;
        crew.member(&leader)?.pause()?;
        if is_writable(world).await? {
            return Ok((leader, token));
        }
        crew.member(&leader)?.resume()?;
    }
}

/// Whether a transaction that may write can be opened within a while.
async fn is_writable(world: &World) -> Result<bool, Failure> {
    let options = (*world.database.pool().connect_options()).clone();
    let mut connection = options.busy_timeout(Duration::from_secs(3)).connect().await?;
    let begun = connection.execute("begin immediate").await.is_ok();
    connection.close().await?;
    Ok(begun)
}

/// Waits until there are this many settlements more.
async fn settlements(world: &World, more: i64) -> Result<(), Failure> {
    let now = number(world, SETTLEMENTS).await?;
    world.until(SETTLEMENTS, now + more, SOON).await
}

/// The node that leads, and its token. Owners of leases are named like nodes, with a number behind.
async fn leader(world: &World) -> Result<(String, i64), Failure> {
    let (owner, token): (String, i64) = sqlx::query_as("select owner, token from posthaste_lease")
        .fetch_one(world.database.pool())
        .await?;
    let name = owner.split(" #").next().unwrap_or_default().to_owned();
    Ok((name, token))
}
