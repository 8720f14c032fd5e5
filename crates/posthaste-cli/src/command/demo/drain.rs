//! Waits until everything that can arrive has arrived.

use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Failure;

use super::process::Process;
use super::stage::{Count, Stage};
use super::world::{SHOP, World};

/// How long nothing must happen once everything seems to have arrived.
const SETTLED: Duration = Duration::from_millis(300);
/// How long nothing must happen before what is missing is given up: longer than any machine
/// stands still for a moment.
const STILL: Duration = Duration::from_secs(20);
/// The same where something is expected to be missing.
const STILL_SABOTAGED: Duration = Duration::from_secs(3);
/// How long it may take at all; a run of many messages moves all the while.
const MOST: Duration = Duration::from_secs(120);
/// How often to look.
const GLANCE: Duration = Duration::from_millis(20);

/// What can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sight {
    /// Messages that the relay has not handed over yet.
    unsent: u64,
    /// Messages that the consumers are not done with.
    unhandled: i64,
    /// What was done so far.
    handled: i64,
    /// Bytes in which arrivals are noted.
    arrived: u64,
}

/// Returns when the outbox is empty and the consumers are done, or when nothing moves any more.
///
/// # Errors
/// If a database cannot be read or the process ends.
pub(super) async fn until_still<S: Stage>(
    world: &World<S>,
    process: &mut Process,
    is_sabotaged: bool,
) -> Result<(), Failure> {
    let still = if is_sabotaged { STILL_SABOTAGED } else { STILL };
    let started = Instant::now();
    let (mut before, mut since) = (look(world).await?, started);
    loop {
        let is_done = before.unsent == 0 && before.unhandled == 0;
        let patience = if is_done { SETTLED } else { still };
        if since.elapsed() > patience || started.elapsed() > MOST {
            return Ok(());
        }
        process.look()?;
        tokio::time::sleep(GLANCE).await;
        let now = look(world).await?;
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}

async fn look<S: Stage>(world: &World<S>) -> Result<Sight, Failure> {
    let status = world.shop().status("default").await?;
    let stated = world.shop().count(Count::Stated, SHOP).await?;
    let (mut handled, mut unhandled, mut arrived) = (0, 0, 0);
    for (name, consumer) in world.consumers() {
        // No file means that nothing has arrived yet.
        arrived += std::fs::metadata(world.site().arrivals(name)).map_or(0, |file| file.len());
        let done = consumer.count(Count::Booked, name).await?;
        handled += done;
        unhandled += (stated - done).max(0);
    }
    let held = status.held;
    let unsent = status.backlog + held.due + held.retry + held.behind + held.unroutable;
    Ok(Sight { unsent, unhandled, handled, arrived })
}
