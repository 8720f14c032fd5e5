//! What is done beside relaying: messages in a transaction of their own, and taking away what was
//! sent long ago.
//!
//! Rows that are old leave with their partition. Only those of the partition that is still being
//! filled are deleted one by one: they are old there because few are stated, so they are few.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::database::Upkeep;
use posthaste_core::frontier::Frontier;
use posthaste_core::lease::Lease;
use posthaste_core::{Message, StoreError};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use tokio::time::Instant;

use crate::leases::fence;
use crate::pruning::Memory;
use crate::store::Store;
use crate::transaction::detached;
use crate::{Postgres, lanes, number};

/// Parameters: above which row, how old in microseconds, most rows, below which row, destinations.
/// Of each row that stands there, whether it is old or young, which it is not if a clock was far
/// ahead, and whether somebody may still need it.
const LOOK: &str = "select o.seq, o.xid::text::bigint as xid, posthaste.lane_hash(o.key, o.id) as hash, \
       coalesce(o.stated_at < clock_timestamp() - $2 * interval '1 microsecond', false) as is_old, \
       coalesce(o.stated_at < clock_timestamp() + interval '1 hour', false) as has_age, \
       (select true from unnest($5::text[]) as d (name) cross join lateral \
           (select 1 from posthaste.held h where h.destination = d.name and h.seq = o.seq \
             limit 1) h limit 1) is not null \
         or (select true from unnest($5::text[]) as d (name) cross join lateral \
           (select 1 from posthaste.dead_letter l where l.name = d.name and l.seq = o.seq \
             limit 1) l limit 1) is not null as is_needed \
     from posthaste.outbox o where o.seq > $1 and o.seq < $4 order by o.seq limit $3";

/// Parameter: rows.
const REMOVE: &str = "delete from posthaste.outbox where seq = any($1)";

/// Parameters: how old in microseconds, most rows.
const PRUNE_LOG: &str = "delete from posthaste.batch where number in (select number from \
       (select number, at from posthaste.batch order by number limit $2 + 1000) b \
     where at < clock_timestamp() - $1 * interval '1 microsecond' limit $2)";

/// Parameter: destinations. Whether something was noted at a time that is still far ahead: the clock
/// was ahead then, and was set back.
const WAS_AHEAD: &str = "select exists (select 1 from unnest($1::text[]) as d (name) \
     cross join lateral (select 1 from posthaste.batch b where b.destination = d.name \
       and b.at > clock_timestamp() + interval '1 day' limit 1) b)";

/// Parameters: destinations, most rows. What was to be tried again soon after such a time is tried
/// as soon after now. What is not due waits for its time by any clock.
const BRING_BACK: &str = "with far as (select h.destination, h.seq, f.filed_at \
       from posthaste.held h cross join lateral (select case when h.state = 'retry' then \
         'epoch'::timestamptz + (h.history -> -1 ->> 'at')::bigint * interval '1 microsecond' \
         end as filed_at) f \
       where h.destination = any($1) and h.state in ('retry', 'unroutable') \
         and h.ready_at > clock_timestamp() + interval '1 day' \
         and (f.filed_at is null or f.filed_at <= h.ready_at \
           and f.filed_at > clock_timestamp() + interval '1 hour') \
       limit $2 for update of h skip locked) \
     update posthaste.held h set ready_at = clock_timestamp() \
       + coalesce(h.ready_at - far.filed_at, interval '0') \
     from far where h.destination = far.destination and h.seq = far.seq";

/// Such times in the log, which would never become old.
const FORGET_AHEAD: &str = "delete from posthaste.batch \
     where destination = any($1) and at > clock_timestamp() + interval '1 day'";

/// Rows that are looked at in one statement.
const PAGE: i64 = 1000;

/// Rows stand about in the order of their age: so many that are young may stand before one that is
/// old, because the clocks of their writers were ahead.
const YOUNG: usize = 1000;

/// About how long one call may look for something to do. The relay waits for it, and its lease
/// runs out in the meantime if that is too long.
const AT_MOST: Duration = Duration::from_millis(800);

/// What is left of that for single rows in any case.
const AT_LEAST: Duration = Duration::from_millis(300);

/// What the lanes of every known destination have sent, by its name.
pub(crate) struct Passed(Vec<(String, Vec<Frontier>)>);

impl Passed {
    /// Whether a row was sent to everybody.
    pub(crate) fn has(&self, seq: u64, xid: u64, hash: u64) -> bool {
        !self.0.is_empty()
            && self.0.iter().all(|(_, frontiers)| {
                let lanes = u64::try_from(frontiers.len()).unwrap_or(u64::MAX);
                let lane = hash.checked_rem(lanes).and_then(|lane| usize::try_from(lane).ok());
                let frontier = lane.and_then(|lane| frontiers.get(lane));
                frontier.is_some_and(|frontier| frontier.has_sent(seq, xid, hash))
            })
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// All of them.
    pub(crate) fn frontiers(&self) -> impl Iterator<Item = &Frontier> {
        self.0.iter().flat_map(|(_, frontiers)| frontiers)
    }

    /// The row up to which everybody has come.
    pub(crate) fn through(&self) -> u64 {
        self.frontiers().map(Frontier::through).min().unwrap_or(0)
    }
}

/// A row that is about to go.
struct Old {
    seq: i64,
    is_young: bool,
    may_go: bool,
}

impl Store {
    /// Without a look at the schema, which a writer may have no right to.
    async fn enqueue_alone(&self, messages: &[Message]) -> Result<(), StoreError> {
        let mut transaction = self.begin_unchecked().await?;
        self.enqueue(&mut transaction, messages).await?;
        self.commit(transaction).await
    }

    /// How far all known destinations have come.
    pub(crate) async fn passed(&self, connection: &mut PgConnection) -> Result<Passed, StoreError> {
        let destinations: Vec<String> = self
            .query_scalar("select distinct destination from posthaste.checkpoint")
            .fetch_all(&mut *connection)
            .await
            .map_err(self.failed("reading the destinations"))?;
        let mut passed = Vec::with_capacity(destinations.len());
        for destination in destinations {
            let lanes = lanes::division(self, &mut *connection, &destination).await?.now;
            let frontiers = self.lane_frontiers(&mut *connection, &destination, lanes).await?;
            passed.push((destination, frontiers));
        }
        Ok(Passed(passed))
    }

    async fn look(
        &self,
        connection: &mut PgConnection,
        passed: &Passed,
        (after, below): (i64, i64),
        keep: i64,
    ) -> Result<Vec<Old>, StoreError> {
        let rows = self
            .query(LOOK)
            .bind(after)
            .bind(keep)
            .bind(PAGE)
            .bind(below)
            .bind(passed.names())
            .fetch_all(connection)
            .await
            .map_err(self.failed("looking for old messages"))?;
        let old = |row: &sqlx::postgres::PgRow| -> Result<Old, sqlx::Error> {
            let seq: i64 = row.try_get("seq")?;
            let xid = number::count(row.try_get("xid")?);
            let hash = number::count(row.try_get::<Option<i64>, _>("hash")?.unwrap_or(0));
            let (is_old, is_needed): (bool, bool) =
                (row.try_get("is_old")?, row.try_get("is_needed")?);
            let is_young = !is_old && row.try_get("has_age")?;
            let may_go = is_old && !is_needed && passed.has(number::count(seq), xid, hash);
            Ok(Old { seq, is_young, may_go })
        };
        let rows: Result<_, _> = rows.iter().map(old).collect();
        rows.map_err(self.failed("looking for old messages"))
    }

    /// Rows of a range that are old and that nobody needs any more, oldest first; `most` of them
    /// or as many as there is time for. Returns also behind which row to go on, if there may be
    /// more.
    async fn old(
        &self,
        connection: &mut PgConnection,
        passed: &Passed,
        (from, below): (i64, i64),
        keep: i64,
        (most, until): (usize, Instant),
    ) -> Result<(Vec<i64>, Option<i64>), StoreError> {
        let (mut old, mut young, mut after) = (Vec::new(), 0, from.saturating_sub(1));
        while young < YOUNG && number::count(after) <= passed.through() {
            let rows = self.look(&mut *connection, passed, (after, below), keep).await?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            young += rows.iter().filter(|row| row.is_young).count();
            for row in rows.iter().filter(|row| row.may_go) {
                if old.len() >= most {
                    return Ok((old, Some(row.seq.saturating_sub(1))));
                }
                old.push(row.seq);
            }
            if Instant::now() > until {
                return Ok((old, Some(after)));
            }
        }
        Ok((old, None))
    }

    /// The same for several ranges, from where the last call ended; then from the beginning.
    async fn old_in(
        &self,
        ranges: &[(i64, i64)],
        passed: &Passed,
        keep: i64,
        (most, until): (usize, Instant),
        after: &mut i64,
    ) -> Result<Vec<i64>, StoreError> {
        let start = std::mem::take(after);
        let (mut later, mut earlier) = (Vec::new(), Vec::new());
        for &(from, below) in ranges {
            later.extend((below > start).then_some((from.max(start), below)));
            earlier.extend((from < start).then_some((from, below.min(start))));
        }
        let mut old = Vec::new();
        let mut connection = self.careful().await?;
        for range in later.into_iter().chain(earlier) {
            let most = most.saturating_sub(old.len());
            let (found, more) =
                self.old(&mut connection, passed, range, keep, (most, until)).await?;
            old.extend(found);
            if let Some(more) = more {
                *after = more.saturating_add(1);
                break;
            }
        }
        Ok(old)
    }

    /// What is done with whole partitions, where this role may. Returns how many rows have gone
    /// with them, and where rows have to be removed one by one.
    async fn prune_partitions(
        self: &Arc<Self>,
        owner: &str,
        passed: &Passed,
        keep: i64,
        until: Instant,
        memory: &mut Memory,
    ) -> Result<(u64, Vec<(i64, i64)>), StoreError> {
        let layout = self.layout(owner, memory).await?;
        if let Err(refused) = self.arrange_partitions(&layout, owner, until, memory).await {
            memory.tell(&refused);
        }
        Ok(self.empty_partitions(&layout, passed, keep, until, memory).await)
    }

    async fn prune_sent(
        self: &Arc<Self>,
        lease: &Lease,
        keep: i64,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let until = Instant::now() + AT_MOST;
        let mut connection = self.reading().await?;
        fence(self, &mut connection, lease).await?;
        // One leader is enough: that of the first lane.
        let Some(mut memory) = self.pruning.begin().filter(|_| lease.name.ends_with("/0")) else {
            return Ok(0);
        };
        let passed = self.passed(&mut connection).await?;
        let owner = self.owner_of_outbox(&mut connection).await?;
        // What follows takes connections of its own, of which there may be one.
        drop(connection);
        let (mut removed, mut ranges) = (0, vec![(1, i64::MAX)]);
        if let Some(owner) = owner {
            match self.prune_partitions(&owner, &passed, keep, until, &mut memory).await {
                Ok(done) => (removed, ranges) = done,
                Err(refused) => memory.tell(&refused),
            }
        }
        if let Err(refused) = self.bring_back(&passed).await {
            memory.tell(&refused);
        }
        memory.end();
        let bounds = (limit, until.max(Instant::now() + AT_LEAST));
        let old = self.old_in(&ranges, &passed, keep, bounds, &mut memory.after).await?;
        if !old.is_empty() {
            let mut transaction = self.begin().await?;
            fence(self, &mut transaction, lease).await?;
            let query = self.query(REMOVE).bind(old).execute(&mut *transaction);
            removed += query.await.map_err(self.failed("removing old messages"))?.rows_affected();
            self.commit_quietly(transaction).await?;
        }
        self.prune_log(keep, number::signed(limit), until).await?;
        Ok(removed)
    }

    /// Nothing waits for years because the clock of the server was years ahead for a while.
    async fn bring_back(&self, passed: &Passed) -> Result<(), StoreError> {
        let failed = self.failed("looking for what waits too long");
        let mut transaction = self.careful().await?;
        let ahead: bool = self
            .query_scalar(WAS_AHEAD)
            .bind(passed.names())
            .fetch_one(&mut *transaction)
            .await
            .map_err(&failed)?;
        if !ahead {
            return Ok(());
        }
        let query = self.query(BRING_BACK).bind(passed.names()).bind(PAGE);
        let back = query.execute(&mut *transaction).await.map_err(&failed)?.rows_affected();
        tracing::warn!(back, "the clock of the database was set back; what waited for it goes on");
        if back < number::count(PAGE) {
            let query = self.query(FORGET_AHEAD).bind(passed.names());
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        self.commit_quietly(transaction).await
    }

    /// Takes away what is old in the log, in parts.
    async fn prune_log(
        self: &Arc<Self>,
        keep: i64,
        limit: i64,
        until: Instant,
    ) -> Result<(), StoreError> {
        loop {
            let mut connection = self.reading().await?;
            let query = self.query(PRUNE_LOG).bind(keep).bind(limit);
            let done = query.execute(&mut *connection).await;
            let removed = done.map_err(self.failed("shortening the log"))?.rows_affected();
            self.keep(connection).await?;
            if removed == 0 || removed < number::count(limit) || Instant::now() > until {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Upkeep for Postgres {
    async fn enqueue_alone(&self, messages: &[Message]) -> Result<(), StoreError> {
        let (store, messages) = (Arc::clone(&self.store), messages.to_vec());
        let enqueue = async move { store.enqueue_alone(&messages).await };
        detached(self.store.promptly(), enqueue).await
    }

    async fn prune_sent(
        &self,
        lease: &Lease,
        keep: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let (store, lease) = (Arc::clone(&self.store), lease.clone());
        let keep = number::micros(keep);
        let prune = async move { store.prune_sent(&lease, keep, limit).await };
        detached(self.store.at_length(), prune).await
    }
}
