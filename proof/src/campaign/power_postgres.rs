//! Power cuts of the disk of PostgreSQL while everybody else goes on: what it has acknowledged is
//! there after its recovery, and nothing was sent that is not.

use posthaste_servers::{Postgres, PostgresOptions, RabbitMq};

use super::Round;
use crate::Failure;
use crate::chance::Chance;
use crate::power::Disk;
use crate::site::{Site, moment};

/// Orders that have to be booked before each cut.
const WORK: i64 = 10;

/// Room for a cluster with its log.
const DISK_BYTES: u64 = 2 << 30;

pub(super) async fn world(seed: u64, cuts: u64, lying: bool) -> Result<Round, Failure> {
    let mut chance = Chance::new(seed);
    let mut disk = Disk::new(DISK_BYTES)?;
    let options = PostgresOptions::new().data_below(disk.path());
    let postgres = Postgres::start(options).await;
    let site = Site::on(&postgres, RabbitMq::shared().await, &chance).await?;
    let crew = site.crew(2).await?;
    for _ in 0..cuts {
        site.goes_on(WORK).await?;
        moment(&mut chance, 200).await;
        let image = if lying {
            let early = disk.cut()?;
            site.goes_on(WORK).await?;
            postgres.pause().await;
            early
        } else {
            postgres.pause().await;
            disk.cut()?
        };
        postgres.kill().await;
        disk.replace(image)?;
        postgres.restart().await;
    }
    let truth = site.judged(crew, usize::try_from(cuts * 10)?).await?;
    let messages = u64::try_from(truth.acknowledged)?;
    site.world.remove()?;
    drop(site.database);
    postgres.kill().await;
    Ok(Round { cycles: cuts, messages, hits: cuts })
}
