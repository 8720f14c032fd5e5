//! Rest: nothing is on its way any more, or nothing moves for so long that it never will.

use std::time::Duration;

use tokio::time::Instant;

use crate::world::World;
use crate::{Failure, Process};

/// How often a world is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// How long a node may take to end.
const END: Duration = Duration::from_secs(30);

/// What a world that moves changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Motion {
    evidence: u64,
    rows: Vec<i64>,
}

impl World {
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
            let open = motion.rows.first().copied().unwrap_or_default();
            if open == 0 {
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

    /// Waits until the number that `query` gives is at least `least`.
    ///
    /// # Errors
    /// If it is not within `patience`.
    pub async fn until(
        &self,
        query: &'static str,
        least: i64,
        patience: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        loop {
            let found: i64 = sqlx::query_scalar(query).fetch_one(self.database.pool()).await?;
            if found >= least {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{found}, not {least}, after {patience:?}: {query}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How many messages are not where they belong, and what else changes while things move.
    async fn motion(&self) -> Result<Motion, Failure> {
        let rows: (i64, i64, i64, i64, i64) = sqlx::query_as(
            "select (select count(*) from posthaste_outbox o where not exists \
                 (select 1 from shop_effect e where e.message = o.id) \
               and not exists (select 1 from posthaste_dead_letter d where d.id = o.id) \
               and not exists (select 1 from posthaste_audit a where a.id = o.id)) \
               + (select coalesce(max(o.seq), 0) > coalesce((select min(c.position) \
                 from posthaste_checkpoint c), 0) from posthaste_outbox o), \
             (select count(*) from posthaste_inbox), (select count(*) from posthaste_attempt), \
             (select coalesce(sum(attempts), 0) from posthaste_attempt) \
               + (select coalesce(sum(attempts), 0) from posthaste_held), \
             (select coalesce(sum(position), 0) from posthaste_checkpoint)",
        )
        .fetch_one(self.database.pool())
        .await?;
        let (open, inbox, trying, attempts, position) = rows;
        let rows = vec![open, inbox, trying, attempts, position];
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
