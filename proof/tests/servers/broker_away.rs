//! RabbitMQ is killed under load, starts again, has no memory left for a while, and refuses what is
//! too large for it. One server of its own for all of it: it takes seconds to start.

use std::time::Duration;

use posthaste::core::dead_letter::{DeadFilter, DeadLetters};
use posthaste_proof::Failure;
use posthaste_proof::chance::Chance;
use posthaste_proof::shop::Behaviour;
use posthaste_servers::{RabbitMq, RabbitMqOptions, postgres_or_skip, skip};

use tokio::time::Instant;

use posthaste_proof::rig::{DEAD, SOON, number, order, place};
use posthaste_proof::site::{Site, moment};

/// Most bytes of a message that the server takes.
const LARGEST: usize = 400_000;

/// Counted attempts of the relay.
const ATTEMPTS: &str =
    "select cast((select coalesce(sum(attempts), 0) from posthaste_held) as bigint)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_starved_and_small_loses_nothing() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(221);
    if let Some(reason) = RabbitMq::missing() {
        skip(&reason);
        return Ok(());
    }
    let Some(postgres) = postgres_or_skip().await else { return Ok(()) };
    let options = RabbitMqOptions::new().set("max_message_size", &LARGEST.to_string());
    let rabbitmq = RabbitMq::start(options).await;
    let site = Site::on(postgres, &rabbitmq, &chance).await?;
    let crew = site.crew(2).await?;
    too_large(&site).await?;
    for _ in 0..2 {
        site.goes_on(30).await?;
        moment(&mut chance, 300).await;
        rabbitmq.kill().await;
        moment(&mut chance, 900).await;
        rabbitmq.restart().await;
    }
    site.goes_on(30).await?;
    starved(&site, &rabbitmq).await?;
    let truth = site.judged(crew, 200).await?;
    assert!(truth.dead.is_empty(), "an outage buries nothing: {:?}", truth.dead);
    site.world.remove()
}

/// The broker's own limit makes a dead letter of the message, which holds back its key; others go
/// on. Discarded, it holds back nobody.
async fn too_large(site: &Site) -> Result<(), Failure> {
    let world = &site.world;
    let orders = [
        order("ann", 1, Behaviour::Good, "first"),
        order("ann", 2, Behaviour::Good, &"x".repeat(LARGEST + 100)),
        order("ann", 3, Behaviour::Good, "third"),
    ];
    let ids = place(world, &orders).await?;
    world.until(DEAD, 1, SOON).await?;
    site.goes_on(30).await?;
    let dead = world.database.list(&DeadFilter { limit: 9, ..DeadFilter::default() }).await?;
    assert_eq!(dead.len(), 1, "the large one and no other: {dead:?}");
    let letter = &dead[0];
    assert_eq!(letter.id, ids[1].to_string());
    assert_eq!((letter.reason.as_str(), letter.parked), ("refused", true), "{letter:?}");
    let third = format!("select count(*) from shop_effect where message = '{}'", ids[2]);
    assert_eq!(number(world, &third).await?, 0, "its key waits");
    let reference = [letter.reference.clone()];
    world.database.discard(&reference, "the proof", "it is too large").await?;
    world.until(&third, 1, SOON).await
}

/// Messages that were settled as sent.
const SENT: &str = "select cast(coalesce(sum(sent), 0) as bigint) from posthaste_batch";

/// How long nothing has to be sent to be sure that nothing is.
const QUIET: Duration = Duration::from_millis(1500);

/// A broker without memory stops reading from publishers: that is a pause and no failure.
async fn starved(site: &Site, rabbitmq: &RabbitMq) -> Result<(), Failure> {
    let before = number(&site.world, ATTEMPTS).await?;
    rabbitmq.set_memory_alarm(true).await;
    let deadline = Instant::now() + SOON;
    loop {
        let sent = number(&site.world, SENT).await?;
        tokio::time::sleep(QUIET).await;
        if number(&site.world, SENT).await? == sent {
            break;
        }
        assert!(Instant::now() < deadline, "the broker was to take nothing");
    }
    // Longer than a call of publish may take.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(number(&site.world, ATTEMPTS).await? <= before, "a pause counts no attempt");
    rabbitmq.set_memory_alarm(false).await;
    site.goes_on(30).await
}
