//! Rest: nothing is on its way any more, or nothing moves for so long that it never will.

use std::time::Duration;

use tokio::time::Instant;

use crate::ground::Ground;
use crate::world::World;
use crate::{Failure, Process};

/// How often a world is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// How long a node may take to end.
const END: Duration = Duration::from_secs(30);

/// How many messages are not where they belong, and what else changes while things move: rows of
/// the inbox, attempts that are under way, attempts that were counted, and positions.
const MOTION: &str = "select (select count(*) from posthaste_outbox o where not exists \
         (select 1 from shop_effect e where e.message = cast(o.id as text)) \
       and not exists (select 1 from posthaste_dead_letter d where d.id = o.id) \
       and not exists (select 1 from posthaste_audit a where a.id = o.id)) \
       + (select case when coalesce(max(o.seq), 0) > coalesce((select min(c.POSITION) \
         from posthaste_checkpoint c), 0) then 1 else 0 end from posthaste_outbox o), \
     (select count(*) from posthaste_inbox), (select count(*) from posthaste_attempt), \
     cast((select coalesce(sum(attempts), 0) from posthaste_attempt) \
       + (select coalesce(sum(attempts), 0) from posthaste_held) as bigint), \
     cast((select coalesce(sum(POSITION), 0) from posthaste_checkpoint) as bigint)";

/// What a world that moves changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Motion {
    evidence: u64,
    rows: (i64, i64, i64, i64, i64),
}

impl<D: Ground> World<D> {
    /// Waits until every committed message is where it belongs: in effect at its consumer, or
    /// given up on, and the same for what that produced. Gives up when nothing has moved for
    /// `patience`; what is missing then is for the judge to say. Returns whether nothing is.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn rest(&self, patience: Duration) -> Result<bool, Failure> {
        let mut last = None;
        let mut since = Instant::now();
        loop {
            let motion = self.motion().await?;
            if motion.rows.0 == 0 {
                return Ok(true);
            }
            if last.as_ref() != Some(&motion) {
                (last, since) = (Some(motion), Instant::now());
            } else if since.elapsed() > patience {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the number that `query` gives is at least `least`. A database that is away is
    /// waited for.
    ///
    /// # Errors
    /// If it is not within `patience`.
    pub async fn until(&self, query: &str, least: i64, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        loop {
            let found = self.eye.number(query).await;
            if found.as_ref().is_ok_and(|found| *found >= least) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{found:?}, not {least}, after {patience:?}: {query}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until so many messages were acknowledged: a proof that is worth something does not
    /// depend on how fast the machine is.
    ///
    /// # Errors
    /// If they are not within `patience`.
    pub async fn until_acknowledged(
        &self,
        messages: usize,
        patience: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        loop {
            let acknowledged = self.evidence.acknowledged()?;
            if acknowledged >= messages {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{acknowledged} acknowledged, not {messages}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn motion(&self) -> Result<Motion, Failure> {
        let position = if self.eye.has_one_writer() { "position" } else { "through" };
        let rows = self.eye.rows(&MOTION.replace("POSITION", position)).await?;
        let rows = rows.first().copied().ok_or("no figures")?;
        Ok(Motion { evidence: self.evidence.size()?, rows })
    }
}

/// Ends nodes one after the other, the first first, and expects that they end well.
///
/// # Errors
/// If one does not.
pub async fn finish(processes: impl IntoIterator<Item = Process>) -> Result<(), Failure> {
    for process in processes {
        process.finish(END).await?;
    }
    Ok(())
}
