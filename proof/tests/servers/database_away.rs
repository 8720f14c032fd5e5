//! PostgreSQL is killed under load and recovers.

use posthaste_proof::Failure;
use posthaste_proof::chance::Chance;
use posthaste_servers::{Postgres, PostgresOptions, rabbitmq_or_skip, skip};

use posthaste_proof::site::{Site, moment};

/// How often the server is killed.
const KILLS: usize = 4;

/// Everybody is at work when all processes of the server end at once: commits whose answer is
/// lost, settlements whose outcome nobody knows, leases that are about to be renewed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_loses_and_doubles_nothing() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(211);
    if let Some(reason) = Postgres::missing() {
        skip(&reason);
        return Ok(());
    }
    let Some(rabbitmq) = rabbitmq_or_skip().await else { return Ok(()) };
    let postgres = Postgres::start(PostgresOptions::new()).await;
    let site = Site::on(&postgres, rabbitmq, &chance).await?;
    let crew = site.crew(2).await?;
    for _ in 0..KILLS {
        site.goes_on(30).await?;
        moment(&mut chance, 300).await;
        postgres.kill().await;
        moment(&mut chance, 900).await;
        postgres.restart().await;
    }
    site.goes_on(30).await?;
    let truth = site.judged(crew, 200).await?;
    assert!(truth.dead.is_empty(), "an outage buries nothing: {:?}", truth.dead);
    site.world.remove()
}
