//! Several relays that share the lanes of a destination: killed, paused beyond their leases, and
//! given another number of lanes while they work.

use posthaste::core::lane::Lanes;
use posthaste_proof::Failure;
use posthaste_proof::Job;
use posthaste_proof::chance::Chance;
use posthaste_proof::node::Relaying;

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{SOON, consumers, number};
use posthaste_proof::site::{Site, WINDOW, moment};

/// A run with fewer acknowledged messages proves nothing.
const ENOUGH: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_that_share_lanes_are_killed_at_random() -> Result<(), Failure> {
    killed(2, 12, 201).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_relays_that_share_lanes_are_killed_at_random() -> Result<(), Failure> {
    killed(3, 16, 202).await
}

/// Kills one relay after the other. Nothing is lost and every key stays in order; a kill makes no
/// more copies than the relay had in memory.
async fn killed(relays: u32, kills: u32, seed: u64) -> Result<(), Failure> {
    let mut chance = Chance::from_environment(seed);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    let mut crew = site.crew(relays).await?;
    site.goes_on(20).await?;
    while crew.kills < kills {
        let name = format!("relay {}", 1 + chance.below(u64::from(relays)));
        crew.kill(&name)?;
        moment(&mut chance, 120).await;
        crew.restart(&name).await?;
        moment(&mut chance, 700).await;
        if chance.one(3) {
            site.goes_on(10).await?;
        }
    }
    site.goes_on(50).await?;
    let truth = site.judged(crew, ENOUGH).await?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    let most = u64::from(kills) * u64::try_from(WINDOW)?;
    assert!(truth.copies <= most, "{} copies of {kills} kills", truth.copies);
    let lanes: Vec<_> = truth.tokens.keys().copied().collect();
    assert_eq!(lanes, [0, 1, 2, 3], "all lanes were at work");
    site.world.remove()
}

/// How many lanes others than this node lead.
fn led_by_others(node: &str) -> String {
    format!(
        "select count(*) from posthaste_lease where name like 'relay/default/%' \
         and owner not like '{node} #%' and expires_at > clock_timestamp()"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_paused_beyond_its_leases_settles_nothing_in_them() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(203);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    let mut crew = site.crew(2).await?;
    let mut pauses = 0;
    for round in 0..6 {
        site.goes_on(20).await?;
        moment(&mut chance, 400).await;
        let name = format!("relay {}", 1 + round % 2);
        let others = led_by_others(&name);
        if number(&site.world, &others).await? < 4 {
            pauses += 1;
        }
        crew.member(&name)?.pause()?;
        site.world.until(&others, 4, SOON).await?;
        site.goes_on(20).await?;
        crew.member(&name)?.resume()?;
    }
    site.goes_on(50).await?;
    let truth = site.judged(crew, ENOUGH).await?;
    assert!(pauses >= 3, "only {pauses} times a relay was paused that led anything");
    let changes: usize = truth.tokens.values().map(|tokens| changes(tokens)).sum();
    assert!(changes >= pauses, "the lanes changed hands {changes} times in {pauses} pauses");
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    site.world.remove()
}

fn changes(tokens: &[i64]) -> usize {
    tokens.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// No fault happens here, so that nothing is sent twice either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_lanes_loses_doubles_and_reorders_nothing() -> Result<(), Failure> {
    let chance = Chance::from_environment(204);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    site.declare().await?;
    let mut crew = Crew::of(&site.world);
    crew.add("consumer", consumers()).await?;
    // Slow to believe that another one is gone: a busy machine must not look like a fault.
    let relaying = Relaying { lease_ms: 6000, ..Relaying::default() };
    for name in ["relay 1", "relay 2"] {
        crew.add(name, [Job::Relay(relaying.clone())]).await?;
    }
    site.add_writers(&mut crew).await?;
    for lanes in [4, 3, 1, 2] {
        site.goes_on(40).await?;
        site.world.database.want_lanes("default", lanes).await?;
        let divided = format!(
            "select count(*) from posthaste_lanes where now = {lanes} and wanted = {lanes}"
        );
        site.world.until(&divided, 1, SOON).await?;
        site.goes_on(40).await?;
    }
    let truth = site.judged(crew, ENOUGH).await?;
    assert_eq!(truth.copies, 0, "no fault, no copy");
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    site.world.remove()
}
