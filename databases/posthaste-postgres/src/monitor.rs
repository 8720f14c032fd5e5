//! What there is to see: figures of a destination, entries of the outbox.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::database::{
    EntryFilter, Held, Listed, Monitor, Rates, Status, UnroutableRoute,
};
use posthaste_core::finding::Finding;
use posthaste_core::frontier::Frontier;
use posthaste_core::{StoreError, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

use crate::store::Store;
use crate::time::At;
use crate::{Postgres, doctor, lanes, leases, number};

/// Parameter: destination.
const HELD: &str = "select count(*) filter (where state = 'due'), \
       count(*) filter (where state = 'retry'), count(*) filter (where state = 'behind'), \
       count(*) filter (where state = 'unroutable'), \
       count(distinct (topic, key)) filter (where state = 'parked') \
     from posthaste.held where destination = $1";

/// Parameters: destination, lane, of how many, above, up to, transactions in progress, from which
/// transaction on, whether a key is parked. How many rows that commit late could be sent, and the
/// age of the oldest in seconds.
const LATE: &str = "select count(*), \
       extract(epoch from clock_timestamp() - min(o.stated_at))::float8 \
     from posthaste.outbox o where o.seq > $4 and o.seq <= $5 \
     and (o.xid = any($6::text[]::xid8[]) or o.xid >= $7::text::xid8) \
     and ($3 = 1 or posthaste.lane_hash(o.key, o.id) % $3 = $2) \
     and (o.due_at is null or o.due_at <= clock_timestamp()) \
     and not ($8 and o.key is not null and exists (select 1 from posthaste.held p \
       where p.destination = $1 and p.topic = o.topic and p.key = o.key \
         and p.state in ('retry', 'behind', 'parked') and p.state = 'parked'))";

/// Parameters: destination, lane, of how many, above, whether a key is parked. The same of the rows
/// that the reader has not come to.
const NEW: &str = "select count(*), \
       extract(epoch from clock_timestamp() - min(o.stated_at))::float8 \
     from posthaste.outbox o where o.seq > $4 \
     and ($3 = 1 or posthaste.lane_hash(o.key, o.id) % $3 = $2) \
     and (o.due_at is null or o.due_at <= clock_timestamp()) \
     and not ($5 and o.key is not null and exists (select 1 from posthaste.held p \
       where p.destination = $1 and p.topic = o.topic and p.key = o.key \
         and p.state in ('retry', 'behind', 'parked') and p.state = 'parked'))";

/// Parameters: destination, whether a key is parked. The same of those in the side table; what
/// nobody is bound to waits for a person as what is parked does.
const ASIDE: &str = "select count(*), \
       extract(epoch from clock_timestamp() - min(o.stated_at))::float8 \
     from posthaste.held h left join posthaste.outbox o on o.seq = h.seq \
     where h.destination = $1 \
     and (h.state in ('retry', 'behind') or h.state = 'due' and h.ready_at <= clock_timestamp()) \
     and not ($2 and h.key is not null and exists (select 1 from posthaste.held p \
       where p.destination = $1 and p.topic = h.topic and p.key = h.key and p.seq < h.seq \
         and p.state in ('retry', 'behind', 'parked') and p.state = 'parked'))";

/// Parameter: destination.
const ROUTES: &str = "select topic, kind, count(*), \
       (array_agg(detail order by seq) filter (where detail is not null))[1] \
     from posthaste.held where destination = $1 and state = 'unroutable' \
     group by topic, kind order by count(*) desc, topic, kind limit 100";

/// Parameter: destination.
const RATES: &str = "select coalesce(sum(sent), 0)::float8 / 60, \
       coalesce(sum(failed), 0)::float8 / 60 \
     from posthaste.batch where destination = $1 and at > clock_timestamp() - interval '1 minute'";

/// Parameters: destination, after, topic, most rows.
const ENTRIES: &str = "select o.seq, o.xid::text::bigint as xid, \
       posthaste.lane_hash(o.key, o.id) as hash, o.id, o.topic, o.kind, o.key, o.stated_at, h.state, coalesce(h.attempts, 0) as attempts, h.ready_at, \
       h.detail, exists (select 1 from posthaste.dead_letter d \
         where d.side = 'relay' and d.name = $1 and d.seq = o.seq) as is_dead \
     from posthaste.outbox o left join posthaste.held h on h.destination = $1 and h.seq = o.seq \
     where o.seq > $2 and ($3::text is null or o.topic = $3) order by o.seq limit $4";

/// The same, only those that wait for more than their turn.
const STUCK: &str = "select h.seq, 0::bigint as xid, h.hash, o.id, h.topic, h.kind, h.key, \
       o.stated_at, \
       h.state, h.attempts, h.ready_at, h.detail, false as is_dead \
     from posthaste.held h left join posthaste.outbox o on o.seq = h.seq \
     where h.destination = $1 and h.seq > $2 and ($3::text is null or h.topic = $3) \
       and (h.state in ('parked', 'behind', 'unroutable') or h.state = 'retry' and h.attempts > 0) \
     order by h.seq limit $4";

/// The word for a row that is not held.
fn state(row: &PgRow, frontiers: &[Frontier]) -> Result<&'static str, sqlx::Error> {
    let seq = number::count(row.try_get("seq")?);
    let xid = number::count(row.try_get("xid")?);
    let hash = number::count(row.try_get::<Option<i64>, _>("hash")?.unwrap_or(0));
    let lanes = u64::try_from(frontiers.len()).unwrap_or(1).max(1);
    let lane = usize::try_from(hash % lanes).ok().and_then(|lane| frontiers.get(lane));
    let sent = lane.is_some_and(|frontier| frontier.has_sent(seq, xid, hash));
    Ok(match (sent, row.try_get("is_dead")?) {
        (false, _) => "new",
        (true, true) => "dead",
        (true, false) => "sent",
    })
}

fn listed(row: &PgRow, frontiers: &[Frontier]) -> Result<Listed, sqlx::Error> {
    let text = |name: &str| row.try_get::<Option<String>, _>(name);
    let time = |name: &str| row.try_get::<Option<At>, _>(name).map(|at| at.map(|at| at.0));
    let id: Option<Uuid> = row.try_get("id")?;
    Ok(Listed {
        position: row.try_get::<i64, _>("seq")?.to_string(),
        id: id.map(|id| id.to_string()).unwrap_or_default(),
        topic: text("topic")?.unwrap_or_default(),
        kind: text("kind")?.unwrap_or_default(),
        key: text("key")?,
        state: match text("state")? {
            Some(state) => state,
            None => state(row, frontiers)?.to_owned(),
        },
        attempts: number::attempts(row.try_get("attempts")?),
        stated_at: time("stated_at")?.unwrap_or(Timestamp::from_micros(0)),
        ready_at: time("ready_at")?,
        detail: text("detail")?,
    })
}

/// A count of entries and the age of the oldest, added up.
#[derive(Default)]
struct Waiting {
    entries: u64,
    oldest: Option<f64>,
}

impl Waiting {
    fn add(&mut self, (entries, oldest): (i64, Option<f64>)) {
        self.entries += number::count(entries);
        let oldest = oldest.map(|age| age.max(0.0));
        self.oldest = match (self.oldest, oldest) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
    }
}

impl Store {
    async fn waiting(
        &self,
        connection: &mut PgConnection,
        destination: &str,
        frontiers: &[Frontier],
        parked: bool,
    ) -> Result<Waiting, StoreError> {
        let failed = self.failed("counting what waits");
        let mut waiting = Waiting::default();
        let lanes = i32::try_from(frontiers.len()).unwrap_or(1);
        for (lane, frontier) in (0_i32..).zip(frontiers) {
            let through = number::long(frontier.through());
            let seen = frontier.seen();
            let running: Vec<String> = seen.in_progress().iter().map(u64::to_string).collect();
            let late = self
                .query_as(LATE)
                .bind(destination)
                .bind(lane)
                .bind(lanes)
                .bind(number::long(frontier.floor()))
                .bind(through)
                .bind(running)
                .bind(seen.xmax().to_string())
                .bind(parked)
                .fetch_one(&mut *connection);
            waiting.add(late.await.map_err(&failed)?);
            let new = self
                .query_as(NEW)
                .bind(destination)
                .bind(lane)
                .bind(lanes)
                .bind(through)
                .bind(parked)
                .fetch_one(&mut *connection);
            waiting.add(new.await.map_err(&failed)?);
        }
        let aside = self.query_as(ASIDE).bind(destination).bind(parked).fetch_one(connection);
        waiting.add(aside.await.map_err(failed)?);
        Ok(waiting)
    }

    async fn routes(
        &self,
        connection: &mut PgConnection,
        destination: &str,
    ) -> Result<Vec<UnroutableRoute>, StoreError> {
        let rows: Vec<(String, String, i64, Option<String>)> = self
            .query_as(ROUTES)
            .bind(destination)
            .fetch_all(connection)
            .await
            .map_err(self.failed("listing what nobody is bound to"))?;
        let route = |(topic, kind, entries, detail)| UnroutableRoute {
            topic,
            kind,
            entries: number::count(entries),
            detail,
        };
        Ok(rows.into_iter().map(route).collect())
    }

    async fn status(
        &self,
        connection: &mut PgConnection,
        destination: &str,
    ) -> Result<Status, StoreError> {
        let failed = self.failed("reading the status");
        let lanes = lanes::division(self, &mut *connection, destination).await?.now;
        let frontiers = self.lane_frontiers(&mut *connection, destination, lanes).await?;
        let (due, retry, behind, unroutable, parked): (i64, i64, i64, i64, i64) = self
            .query_as(HELD)
            .bind(destination)
            .fetch_one(&mut *connection)
            .await
            .map_err(&failed)?;
        let waiting = self.waiting(&mut *connection, destination, &frontiers, parked > 0).await?;
        let dead_letters: i64 = self
            .query_scalar("select count(*) from posthaste.dead_letter")
            .fetch_one(&mut *connection)
            .await
            .map_err(&failed)?;
        let (sent_per_second, failed_per_second) = self
            .query_as(RATES)
            .bind(destination)
            .fetch_one(&mut *connection)
            .await
            .map_err(&failed)?;
        Ok(Status {
            backlog: waiting.entries,
            oldest_unsent_seconds: waiting.oldest,
            parked_keys: number::count(parked),
            held: Held {
                due: number::count(due),
                retry: number::count(retry),
                behind: number::count(behind),
                unroutable: number::count(unroutable),
            },
            unroutable: self.routes(&mut *connection, destination).await?,
            dead_letters: number::count(dead_letters),
            leases: leases::held(self, connection, "").await?,
            rates: Rates { sent_per_second, failed_per_second },
            checkpoint: frontiers.iter().map(Frontier::through).min().unwrap_or(0).to_string(),
            lanes,
        })
    }

    async fn entries(self: &Arc<Self>, filter: &EntryFilter) -> Result<Vec<Listed>, StoreError> {
        let after: i64 = match &filter.after {
            Some(after) => after.parse().map_err(|_| {
                StoreError::rejected(format!("'{after}' is not a position of this outbox"))
            })?,
            None => 0,
        };
        let mut connection = self.reading().await?;
        let lanes = lanes::division(self, &mut connection, &filter.destination).await?.now;
        let frontiers = self.lane_frontiers(&mut connection, &filter.destination, lanes).await?;
        let rows = self
            .query(if filter.stuck { STUCK } else { ENTRIES })
            .bind(&filter.destination)
            .bind(after)
            .bind(&filter.topic)
            .bind(number::signed(filter.limit))
            .fetch_all(&mut *connection)
            .await
            .map_err(self.failed("listing the outbox"))?;
        let entries: Result<_, _> = rows.iter().map(|row| listed(row, &frontiers)).collect();
        entries.map_err(self.failed("listing the outbox"))
    }
}

#[async_trait]
impl Monitor for Postgres {
    async fn status(&self, destination: &str) -> Result<Status, StoreError> {
        let status = async {
            let mut connection = self.store.reading().await?;
            self.store.status(&mut connection, destination).await
        };
        self.store.at_length().during(status).await
    }

    async fn entries(&self, filter: &EntryFilter) -> Result<Vec<Listed>, StoreError> {
        self.store.at_length().during(self.store.entries(filter)).await
    }

    async fn findings(&self) -> Vec<Finding> {
        doctor::findings(&self.store).await
    }
}
