//! Power cuts of the disk with the SQLite file or with the bus. The machine is what loses its power:
//! every process ends with it, and all begin anew on what the disk had.

use std::time::Duration;

use posthaste_sqlite::Sqlite;

use super::Round;
use crate::chance::Chance;
use crate::crew::Crew;
use crate::node::Relaying;
use crate::power::Disk;
use crate::rig::{PATIENCE, SETTLEMENTS, SOON, consumers, number, writer_with_pauses};
use crate::{Failure, Job, World};

/// What is on the disk that loses its power; the other one is on a disk that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Database,
    Bus,
}

/// Room for the file.
const DISK_BYTES: u64 = 256 << 20;
/// Messages that have to be acknowledged for each cut.
const WORK: usize = 4;
/// Everybody who is killed with the machine.
const MACHINE: [&str; 2] = ["engine", "writer"];

pub(super) async fn world(lost: Lost, seed: u64, cuts: u64, lying: bool) -> Result<Round, Failure> {
    let mut chance = Chance::new(seed);
    let mut disk = Disk::new(DISK_BYTES)?;
    let safe = tempfile::tempdir()?;
    let place = |file: &str, on_disk: bool| match on_disk {
        true => disk.path().join(file).display().to_string(),
        false => safe.path().join(file).display().to_string(),
    };
    let database = format!("sqlite://{}", place("app.db", lost == Lost::Database));
    let bus = format!("bus://{}", place("bus.db", lost == Lost::Bus));
    let mut world = World::<Sqlite>::on(seed, database, bus).await?;
    let (mut before, mut hits) = (0, 0);
    for _ in 0..cuts {
        // What lies has to matter: a bus whose messages are all consumed has nothing to lose.
        let mut crew = machine(&world, !(lying && hits > 0)).await?;
        moment(&mut chance).await;
        let early = if lying {
            let early = disk.cut()?;
            let settled = number(&world, SETTLEMENTS).await?;
            world.until_acknowledged(world.evidence.acknowledged()? + WORK, SOON).await?;
            world.until(SETTLEMENTS, settled + 2, SOON).await?;
            Some(early)
        } else {
            None
        };
        // Everybody stops at once, so that what is on the other disk is of the same moment.
        MACHINE.iter().try_for_each(|name| crew.member(name)?.pause())?;
        let image = early.map_or_else(|| disk.cut(), Ok)?;
        let acknowledged = world.evidence.acknowledged()?;
        hits += u64::from(acknowledged > before);
        before = acknowledged;
        MACHINE.iter().try_for_each(|name| crew.kill(name))?;
        drop(crew);
        // The last handle of a file removes its log by name when it is closed: it must not find that
        // of the next life there.
        world.database.pool().close().await;
        disk.replace(image)?;
        world.reopen()?;
    }
    let mut crew = machine(&world, true).await?;
    let floor = before.max(WORK * usize::try_from(cuts)?) + 10;
    world.until_acknowledged(floor, SOON).await?;
    crew.finish("writer").await?;
    world.rest(PATIENCE).await?;
    crew.finish_all(&["engine"]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    let messages = u64::try_from(truth.acknowledged)?;
    world.remove()?;
    Ok(Round { cycles: cuts, messages, hits })
}

/// A writer, and a process that does everything else, or all of it but consume.
async fn machine(world: &World, consumes: bool) -> Result<Crew<'_>, Failure> {
    let mut crew = Crew::of(world);
    let quick = Relaying { lease_ms: 150, ..Relaying::default() };
    let consumers = consumers().into_iter().filter(|_| consumes);
    crew.add("engine", [Job::Own, Job::Relay(quick)].into_iter().chain(consumers)).await?;
    crew.add("writer", [writer_with_pauses()]).await?;
    Ok(crew)
}

/// Long enough for messages to be on all parts of their way, also before the lease of the relay of
/// before has run out.
async fn moment(chance: &mut Chance) {
    let time = chance.between(Duration::from_millis(20), Duration::from_millis(450));
    tokio::time::sleep(time).await;
}
