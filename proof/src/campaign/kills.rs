//! kill -9 of processes at random moments, under load.

use std::time::Duration;

use super::Round;
use crate::chance::Chance;
use crate::crew::Crew;
use crate::rig::{self, PATIENCE, SOON, consumers, relay, steady_writer};
use crate::truth::Truth;
use crate::{Failure, Job, World};

/// Messages that have to be acknowledged for each kill, so that it meets something.
const WORK: usize = 6;

/// Who is killed; where there are two of a kind, one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// One of two relays.
    Relays,
    /// One of two consumers.
    Consumers,
    /// The writer.
    Writers,
    /// A relay, a consumer, the owner of the bus and the writer at once.
    Everybody,
}

impl Victims {
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Relays => &["relay"],
            Self::Consumers => &["consumer"],
            Self::Writers => &["writer"],
            Self::Everybody => &["relay", "consumer", "owner", "writer"],
        }
    }
}

pub(super) async fn world(victims: Victims, seed: u64, kills: u64) -> Result<Round, Failure> {
    let (_, round) = kill_at_random(&mut Chance::new(seed), victims, kills, 0).await?;
    Ok(round)
}

/// Two of everything, so that there is somebody to take over; kills victims at once, again and
/// again, until there were so many kills and enough messages, and judges.
///
/// # Errors
/// If the promise was broken, or too little happened.
pub async fn kill_at_random(
    chance: &mut Chance,
    victims: Victims,
    kills: u64,
    enough: usize,
) -> Result<(Truth, Round), Failure> {
    let world = rig::world(chance).await?;
    let mut crew = Crew::of(&world);
    crew.add("owner", [Job::Own]).await?;
    for number in [1, 2] {
        crew.add(&format!("consumer {number}"), consumers()).await?;
        crew.add(&format!("relay {number}"), [relay()]).await?;
    }
    crew.add("writer", [steady_writer()]).await?;
    let (mut before, mut hits) = (0, 0);
    while u64::from(crew.kills) < kills {
        moment(chance).await;
        let mut killed = Vec::new();
        for victim in victims.names() {
            let mut names = crew.names(victim);
            let one = chance.below(names.len() as u64);
            killed.push(names.swap_remove(usize::try_from(one)?));
        }
        killed.iter().try_for_each(|name| crew.kill(name))?;
        let now = world.evidence.size()?;
        hits += if now > before { killed.len() as u64 } else { 0 };
        before = now;
        for name in killed {
            crew.restart(&name).await?;
        }
    }
    let floor = enough.max(WORK * usize::try_from(kills)?);
    world.until_acknowledged(floor, SOON).await?;
    crew.finish("writer").await?;
    let kills = u64::from(crew.kills);
    let truth = judged(&world, &mut crew).await?;
    truth.is_worth(floor, 0)?;
    world.remove()?;
    let messages = u64::try_from(truth.acknowledged)?;
    Ok((truth, Round { cycles: kills, messages, hits }))
}

/// Lets some time pass, because time is what the kills are spread over.
async fn moment(chance: &mut Chance) {
    let time = chance.between(Duration::from_millis(20), Duration::from_millis(120));
    tokio::time::sleep(time).await;
}

/// Everything was written: waits until all of it is where it belongs, and reads what has happened.
async fn judged(world: &World, crew: &mut Crew<'_>) -> Result<Truth, Failure> {
    world.rest(PATIENCE).await?;
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    match truth.dead.first() {
        None => Ok(truth),
        Some(dead) => Err(format!("nothing was to be given up: {dead:?}").into()),
    }
}
