//! kill -9 of PostgreSQL with all its processes while relays, consumers and writers are at work.

use posthaste_servers::{Postgres, PostgresOptions, RabbitMq};

use super::Round;
use crate::Failure;
use crate::chance::Chance;
use crate::site::{Site, moment};

/// Orders that have to be booked before each kill.
const WORK: i64 = 10;

pub(super) async fn world(seed: u64, kills: u64) -> Result<Round, Failure> {
    let mut chance = Chance::new(seed);
    let postgres = Postgres::start(PostgresOptions::new()).await;
    let site = Site::on(&postgres, RabbitMq::shared().await, &chance).await?;
    let crew = site.crew(2).await?;
    for _ in 0..kills {
        site.goes_on(WORK).await?;
        moment(&mut chance, 300).await;
        postgres.kill().await;
        moment(&mut chance, 300).await;
        postgres.restart().await;
    }
    let truth = site.judged(crew, usize::try_from(kills * 10)?).await?;
    if let Some(dead) = truth.dead.first() {
        return Err(format!("an outage buries nothing: {dead:?}").into());
    }
    let messages = u64::try_from(truth.acknowledged)?;
    site.world.remove()?;
    Ok(Round { cycles: kills, messages, hits: kills })
}
