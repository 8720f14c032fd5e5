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

use crate::leases::fence;
use crate::store::Store;
use crate::transaction::detached;
use crate::{Postgres, lanes, number};

/// Parameters: above which row, how old in microseconds, most rows, below which row. Of each row
/// that stands there, whether it is old, and whether somebody may still need it.
const LOOK: &str = "select o.seq, o.xid::text::bigint as xid, posthaste.lane_hash(o.key, o.id) as hash, \
       coalesce(o.stated_at < clock_timestamp() - $2 * interval '1 microsecond', false) as is_old, \
       exists (select 1 from posthaste.held h where h.seq = o.seq and h.destination in \
           (select c.destination from posthaste.checkpoint c)) \
         or exists (select 1 from posthaste.dead_letter d where d.seq = o.seq and d.name in \
           (select c.destination from posthaste.checkpoint c)) as is_needed \
     from posthaste.outbox o where o.seq > $1 and o.seq < $4 order by o.seq limit $3";

/// Parameter: rows.
const REMOVE: &str = "delete from posthaste.outbox where seq = any($1)";

/// Parameters: how old in microseconds, most rows.
const PRUNE_LOG: &str = "delete from posthaste.batch where number in (select number from \
       (select number, at from posthaste.batch order by number limit $2 + 1000) b \
     where at < clock_timestamp() - $1 * interval '1 microsecond' limit $2)";

/// Rows that are looked at in one statement.
const PAGE: i64 = 1000;

/// Rows stand about in the order of their age: so many that are young may stand before one that is
/// old, because the clocks of their writers were ahead.
const YOUNG: usize = 1000;

/// What the lanes of every known destination have sent.
pub(crate) struct Passed(Vec<Vec<Frontier>>);

impl Passed {
    /// Whether a row was sent to everybody.
    pub(crate) fn has(&self, seq: u64, xid: u64, hash: u64) -> bool {
        !self.0.is_empty()
            && self.0.iter().all(|frontiers| {
                let lanes = u64::try_from(frontiers.len()).unwrap_or(u64::MAX);
                let lane = hash.checked_rem(lanes).and_then(|lane| usize::try_from(lane).ok());
                let frontier = lane.and_then(|lane| frontiers.get(lane));
                frontier.is_some_and(|frontier| frontier.has_sent(seq, xid, hash))
            })
    }

    /// All of them.
    pub(crate) fn frontiers(&self) -> impl Iterator<Item = &Frontier> {
        self.0.iter().flatten()
    }

    /// The row up to which everybody has come.
    pub(crate) fn through(&self) -> u64 {
        self.0.iter().flatten().map(Frontier::through).min().unwrap_or(0)
    }
}

/// A row that is about to go.
struct Old {
    seq: i64,
    is_old: bool,
    may_go: bool,
}

impl Store {
    async fn enqueue_alone(&self, messages: &[Message]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
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
            passed.push(self.lane_frontiers(&mut *connection, &destination, lanes).await?);
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
            .fetch_all(connection)
            .await
            .map_err(self.failed("looking for old messages"))?;
        let old = |row: &sqlx::postgres::PgRow| -> Result<Old, sqlx::Error> {
            let seq: i64 = row.try_get("seq")?;
            let xid = number::count(row.try_get("xid")?);
            let hash = number::count(row.try_get::<Option<i64>, _>("hash")?.unwrap_or(0));
            let (is_old, is_needed): (bool, bool) =
                (row.try_get("is_old")?, row.try_get("is_needed")?);
            let may_go = is_old && !is_needed && passed.has(number::count(seq), xid, hash);
            Ok(Old { seq, is_old, may_go })
        };
        let rows: Result<_, _> = rows.iter().map(old).collect();
        rows.map_err(self.failed("looking for old messages"))
    }

    /// Rows of a range that are old and that nobody needs any more, oldest first.
    async fn old(
        &self,
        connection: &mut PgConnection,
        passed: &Passed,
        (from, below): (i64, i64),
        keep: i64,
        most: usize,
    ) -> Result<Vec<i64>, StoreError> {
        let (mut old, mut young, mut after) = (Vec::new(), 0, from.saturating_sub(1));
        while old.len() < most && young < YOUNG && number::count(after) <= passed.through() {
            let rows = self.look(&mut *connection, passed, (after, below), keep).await?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            young += rows.iter().filter(|row| !row.is_old).count();
            old.extend(rows.iter().filter(|row| row.may_go).map(|row| row.seq));
        }
        old.truncate(most);
        Ok(old)
    }

    async fn prune_sent(
        self: &Arc<Self>,
        lease: &Lease,
        keep: i64,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let mut connection = self.reading().await?;
        fence(self, &mut connection, lease).await?;
        // One leader is enough: that of the first lane.
        if !lease.name.ends_with("/0") {
            return Ok(0);
        }
        let passed = self.passed(&mut connection).await?;
        let (mut removed, mut ranges) = (0, vec![(1, i64::MAX)]);
        if self.owns_outbox(&mut connection).await? {
            let layout = self.layout(&mut connection).await?;
            self.arrange_partitions(&layout).await?;
            (removed, ranges) = self.empty_partitions(&layout, &passed, keep).await?;
        }
        let mut old = Vec::new();
        for range in ranges {
            let most = limit.saturating_sub(old.len());
            old.extend(self.old(&mut connection, &passed, range, keep, most).await?);
        }
        drop(connection);
        if !old.is_empty() {
            let mut transaction = self.begin().await?;
            fence(self, &mut transaction, lease).await?;
            let query = self.query(REMOVE).bind(old).execute(&mut *transaction);
            removed += query.await.map_err(self.failed("removing old messages"))?.rows_affected();
            self.commit_quietly(transaction).await?;
        }
        self.prune_log(keep, number::signed(limit)).await?;
        Ok(removed)
    }

    /// Takes away what is old in the log, in parts.
    async fn prune_log(self: &Arc<Self>, keep: i64, limit: i64) -> Result<(), StoreError> {
        loop {
            let mut connection = self.reading().await?;
            let query = self.query(PRUNE_LOG).bind(keep).bind(limit);
            let done = query.execute(&mut *connection).await;
            let removed = done.map_err(self.failed("shortening the log"))?.rows_affected();
            self.keep(connection).await?;
            if removed == 0 || removed < number::count(limit) {
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
