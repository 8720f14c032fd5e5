//! Carrying out the relay's verdicts: one statement that holds the lease's token.
//!
//! Of a message that is sent as it is read nothing travels but its place in a count; all other
//! verdicts travel as a JSON array.

use std::sync::Arc;

use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Feed, Settled, Settlement};
use posthaste_core::{StoreError, Verdict};
use serde::Serialize;

use crate::cursor;
use crate::detail::kept;
use crate::number;
use crate::store::Store;
use crate::transaction::detached;

/// The last parameter is the owner of the lease: a standby that took over without the last grants
/// gives out their tokens again, and who had one of them before must not be taken for who has it now.
const SETTLE: &str = "select case when exists (select 1 from posthaste.lease l \
       where l.name = $1 and l.token = $2 and l.owner <> $15) then 'fenced' \
     else posthaste.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
       $14::text::jsonb) end";

/// One verdict as the statement reads it.
#[derive(Default, Serialize)]
struct Line {
    seq: i64,
    verdict: &'static str,
    topic: Option<String>,
    key: Option<String>,
    attempts: i32,
    delay: i64,
    reason: &'static str,
    detail: String,
    park: bool,
}

/// Verdicts by what is to be done.
#[derive(Default)]
struct Plan {
    lines: Vec<Line>,
    sent: i64,
    failed: i64,
    dead: i64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Plan {
    fn new(settlement: &Settlement) -> Result<Self, StoreError> {
        let mut plan = Self::default();
        for settled in &settlement.verdicts {
            plan.add(settled)?;
        }
        Ok(plan)
    }

    fn add(&mut self, settled: &Settled) -> Result<(), StoreError> {
        let seq = number::seq(&settled.position)?;
        self.first = Some(self.first.map_or(seq, |first| first.min(seq)));
        self.last = self.last.max(Some(seq));
        if settled.verdict == Verdict::Sent {
            self.sent += 1;
            if settled.feed == Feed::New {
                return Ok(());
            }
        }
        let (topic, key) = settled.address.clone().map_or((None, None), |(t, k)| (Some(t), k));
        let line = Line { seq, topic, key, ..Line::default() };
        self.lines.push(match &settled.verdict {
            Verdict::Sent => Line { verdict: "sent", ..line },
            Verdict::Due => Line { verdict: "due", ..line },
            Verdict::Behind => Line { verdict: "behind", ..line },
            Verdict::Unroutable { probe_in, detail } => {
                let (delay, detail) = (number::micros(*probe_in), kept(detail));
                Line { verdict: "unroutable", delay, detail, ..line }
            }
            Verdict::Retry { attempts, delay, detail } => {
                self.failed += i64::from(!detail.is_empty());
                let (delay, detail) = (number::micros(*delay), kept(detail));
                Line { verdict: "retry", attempts: counted(*attempts), delay, detail, ..line }
            }
            Verdict::Dead { attempts, reason, detail, park } => {
                self.dead += 1;
                let park = *park && line.key.is_some();
                let (reason, detail) = (reason.code(), kept(detail));
                Line { verdict: "dead", attempts: counted(*attempts), reason, detail, park, ..line }
            }
        });
        Ok(())
    }

    /// The verdicts as the statement reads them; nothing if all were sent as they were read.
    fn json(&self) -> Result<Option<String>, StoreError> {
        if self.lines.is_empty() {
            return Ok(None);
        }
        serde_json::to_string(&self.lines).map(Some).map_err(|error| StoreError::Rejected {
            reason: "a verdict cannot be written as JSON".to_owned(),
            source: Some(Box::new(error)),
        })
    }
}

fn counted(attempts: u32) -> i32 {
    i32::try_from(attempts).unwrap_or(i32::MAX)
}

/// Carries out a settlement under a lease.
pub(crate) async fn settle(
    store: &Arc<Store>,
    lease: &Lease,
    settlement: &Settlement,
) -> Result<(), StoreError> {
    Store::check_lane(&settlement.lane)?;
    let plan = Plan::new(settlement)?;
    let checkpoint = settlement.checkpoint.as_ref().map(cursor::stored);
    let reached = checkpoint.as_ref().map(number::frontier).transpose()?;
    let through = reached.map(|frontier| number::long(frontier.through()));
    let json = plan.json()?;
    let (token, count) = (number::token(lease.token)?, number::token(settlement.number)?);
    let (store, name, lane) = (Arc::clone(store), lease.name.clone(), settlement.lane.clone());
    let owner = lease.owner.clone();
    let checkpoint = checkpoint.map(|checkpoint| checkpoint.as_str().to_owned());
    let outcome: String = detached(store.promptly(), async move {
        let mut connection = store.reading().await?;
        let outcome = store
            .query_scalar(SETTLE)
            .bind(name)
            .bind(token)
            .bind(count)
            .bind(lane.destination)
            .bind(i32::from(lane.index))
            .bind(i32::from(lane.of))
            .bind(checkpoint)
            .bind(through)
            .bind(plan.sent)
            .bind(plan.failed)
            .bind(plan.dead)
            .bind(plan.first)
            .bind(plan.last)
            .bind(json)
            .bind(owner)
            .fetch_one(&mut *connection)
            .await
            .map_err(store.failed("settling messages"))?;
        store.keep(connection).await?;
        Ok(outcome)
    })
    .await?;
    if outcome == "fenced" { Err(StoreError::Fenced) } else { Ok(()) }
}
