//! Partitions of the outbox that are old are emptied as a whole.
//!
//! What takes time is looked at before, in portions, without a lock that anybody would notice. A
//! partition is then emptied while it alone is locked. Writers are not in it, and readers wait: so
//! what is not sent yet, or may still be needed, is known exactly, and found by an index.

use posthaste_core::StoreError;
use posthaste_core::frontier::Frontier;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use crate::layout::{Layout, Part};
use crate::lent::Lent;
use crate::number;
use crate::partitions::{CAREFUL, Tried};
use crate::pruning::{Examined, Memory};
use crate::store::Store;
use crate::upkeep::Passed;

/// Rows that one statement looks at for their age.
const PORTION: i64 = 50_000;

/// Parameters: from, below. Whether something may still need a row in between.
const NEEDED: &str = "select exists (select 1 from posthaste.checkpoint c \
       join posthaste.held h on h.destination = c.destination and h.seq >= $1 and h.seq < $2) \
     or exists (select 1 from posthaste.checkpoint c \
       join posthaste.dead_letter d on d.name = c.destination and d.seq >= $1 and d.seq < $2)";

/// What became of a partition.
enum Emptied {
    Rows(u64),
    /// Some of its rows have to stay for now.
    IsNeeded,
    /// It is not old, or somebody was in the way, or there was no time left.
    NotNow,
}

fn range(part: &Part) -> (i64, i64) {
    (part.from.unwrap_or(i64::MIN), part.to.unwrap_or(i64::MAX))
}

impl Store {
    /// Begins a transaction for looks that never take long.
    pub(crate) async fn careful(&self) -> Result<Lent, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::raw_sql(CAREFUL).execute(&mut *transaction).await;
        done.map(|_| transaction).map_err(self.failed("beginning a transaction"))
    }

    /// Empties the partitions that everybody has passed, of which nobody needs a row, and whose
    /// rows are old. Returns how many rows that were, and the ranges in which rows have to be
    /// removed one by one.
    pub(crate) async fn empty_partitions(
        &self,
        layout: &Layout,
        passed: &Passed,
        keep: i64,
        until: Instant,
        memory: &mut Memory,
    ) -> (u64, Vec<(i64, i64)>) {
        let is_there =
            |name: &String| layout.parts.iter().any(|part| part.name == *name && !part.is_empty);
        memory.examined.retain(|name, _| is_there(name));
        let (mut removed, mut ranges) = (0, Vec::new());
        for part in layout.parts.iter().filter(|part| !part.is_empty) {
            let range = range(part);
            if range.1 > layout.last {
                ranges.push(range);
                continue;
            }
            let is_passed = number::count(range.1) <= passed.through().saturating_add(1);
            if !is_passed || Instant::now() > until {
                continue;
            }
            match self.empty(part, passed, keep, until, memory).await {
                Ok(Emptied::Rows(rows)) => removed += rows,
                Ok(Emptied::IsNeeded) => ranges.push(range),
                Ok(Emptied::NotNow) => {}
                Err(refused) => {
                    memory.tell(&refused);
                    ranges.push(range);
                }
            }
        }
        (removed, ranges)
    }

    async fn empty(
        &self,
        part: &Part,
        passed: &Passed,
        keep: i64,
        until: Instant,
        memory: &mut Memory,
    ) -> Result<Emptied, StoreError> {
        let table = self.table(&part.name);
        let mut looking = self.careful().await?;
        if !self.ends_old(&mut looking, &table, keep).await? {
            return Ok(Emptied::NotNow);
        }
        if self.is_needed(&mut looking, part, passed).await? {
            return Ok(Emptied::IsNeeded);
        }
        let examined = memory.examined.entry(part.name.clone()).or_insert_with(|| Examined {
            after: Some(i64::MIN),
            rows: 0,
            youngest: i64::MIN,
        });
        while examined.after.is_some() {
            if Instant::now() > until {
                return Ok(Emptied::NotNow);
            }
            self.examine(&mut looking, &table, examined).await?;
        }
        let (rows, youngest) = (examined.rows, examined.youngest);
        if !self.is_past(&mut looking, youngest, keep).await? {
            return Ok(Emptied::NotNow);
        }
        drop(looking);
        let Tried::Done(mut locked) = self.locked(&format!("only {table}"), "100ms").await? else {
            return Ok(Emptied::NotNow);
        };
        if self.is_needed(&mut locked, part, passed).await? {
            return Ok(Emptied::IsNeeded);
        }
        let empty = format!("truncate only {table}");
        let done = sqlx::raw_sql(AssertSqlSafe(empty)).execute(&mut *locked).await;
        done.map_err(self.failed("emptying a partition of the outbox"))?;
        self.commit_quietly(locked).await?;
        memory.examined.remove(&part.name);
        Ok(Emptied::Rows(rows))
    }

    /// Whether its last row is old, which says at once that a partition is not.
    async fn ends_old(
        &self,
        connection: &mut PgConnection,
        table: &str,
        keep: i64,
    ) -> Result<bool, StoreError> {
        let ask = format!(
            "select stated_at < clock_timestamp() - {keep} * interval '1 microsecond' \
               or stated_at > clock_timestamp() + interval '1 hour' \
             from only {table} order by seq desc limit 1"
        );
        let old: Option<bool> = sqlx::query_scalar(AssertSqlSafe(ask))
            .persistent(false)
            .fetch_optional(connection)
            .await
            .map_err(self.failed("looking for old partitions"))?;
        Ok(old.unwrap_or(false))
    }

    /// Looks through the next portion. What a clock that was far ahead has stated has no age.
    async fn examine(
        &self,
        connection: &mut PgConnection,
        table: &str,
        examined: &mut Examined,
    ) -> Result<(), StoreError> {
        let ask = format!(
            "select count(*), max(seq), (extract(epoch from max(stated_at) filter \
               (where stated_at <= clock_timestamp() + interval '1 hour')) * 1000000)::bigint \
             from (select seq, stated_at from only {table} where seq > $1 \
               order by seq limit {PORTION}) p"
        );
        let (rows, last, youngest): (i64, Option<i64>, Option<i64>) =
            sqlx::query_as(AssertSqlSafe(ask))
                .persistent(false)
                .bind(examined.after)
                .fetch_one(connection)
                .await
                .map_err(self.failed("looking for old partitions"))?;
        examined.after = last.filter(|_| rows >= PORTION);
        examined.rows += number::count(rows);
        examined.youngest = examined.youngest.max(youngest.unwrap_or(i64::MIN));
        Ok(())
    }

    async fn is_past(
        &self,
        connection: &mut PgConnection,
        micros: i64,
        keep: i64,
    ) -> Result<bool, StoreError> {
        self.query_scalar(
            "select $1 < (extract(epoch from clock_timestamp()) * 1000000)::bigint - $2",
        )
        .bind(micros)
        .bind(keep)
        .fetch_one(connection)
        .await
        .map_err(self.failed("looking for old partitions"))
    }

    /// Whether a row of a partition below all frontiers is held, or dead, or not sent.
    async fn is_needed(
        &self,
        connection: &mut PgConnection,
        part: &Part,
        passed: &Passed,
    ) -> Result<bool, StoreError> {
        let failed = self.failed("looking through an old partition");
        let (from, to) = range(part);
        let needed: bool = self
            .query_scalar(NEEDED)
            .bind(from)
            .bind(to)
            .fetch_one(&mut *connection)
            .await
            .map_err(&failed)?;
        let Some(unsent) = Unsent::by(passed) else { return Ok(true) };
        if needed || number::count(to) <= unsent.floor.saturating_add(1) {
            return Ok(needed);
        }
        let table = self.table(&part.name);
        let ask = format!(
            "select exists (select 1 from only {table} where xid >= $1::text::xid8 and seq > $3) \
               or exists (select 1 from only {table} \
                 where xid = any($2::text[]::xid8[]) and seq > $3)"
        );
        sqlx::query_scalar(AssertSqlSafe(ask))
            .persistent(false)
            .bind(unsent.unseen_from.to_string())
            .bind(unsent.running)
            .bind(number::long(unsent.floor))
            .fetch_one(connection)
            .await
            .map_err(&failed)
    }
}

/// Transactions of which one lane or another has not sent everything, below all frontiers.
struct Unsent {
    floor: u64,
    unseen_from: u64,
    running: Vec<String>,
}

impl Unsent {
    /// Nothing where that is more than snapshots can say.
    fn by(passed: &Passed) -> Option<Self> {
        let is_plain = |frontier: &Frontier| {
            !frontier.inheriting()
                && frontier.adopting().is_none()
                && frontier.catching_up().is_none()
        };
        if !passed.frontiers().all(is_plain) {
            return None;
        }
        let seen = || passed.frontiers().map(Frontier::seen);
        let mut running: Vec<u64> =
            seen().flat_map(|seen| seen.in_progress().iter().copied()).collect();
        running.sort_unstable();
        running.dedup();
        Some(Self {
            floor: passed.frontiers().map(Frontier::floor).min()?,
            unseen_from: seen().map(|seen| seen.xmax()).min()?,
            running: running.iter().map(u64::to_string).collect(),
        })
    }
}
