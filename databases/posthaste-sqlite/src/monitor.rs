//! What there is to see: figures of a destination, entries of the outbox.

use async_trait::async_trait;
use posthaste_core::database::{
    EntryFilter, Held, HeldLease, Listed, Monitor, Rates, Status, UnroutableRoute,
};
use posthaste_core::finding::Finding;
use posthaste_core::{StoreError, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::row::shown;
use crate::store::Store;
use crate::{Sqlite, doctor, number};

/// Parameter: destination.
const HELD: &str = "select coalesce(sum(state = 'due'), 0), coalesce(sum(state = 'retry'), 0), \
     coalesce(sum(state = 'behind'), 0), coalesce(sum(state = 'parked'), 0), \
     coalesce(sum(state = 'unroutable'), 0) from posthaste_held where destination = ?1";

/// Parameters: destination, whether a key is parked. How many of those past the checkpoint could
/// be sent, and since when.
const PAST: &str = concat!(
    "select count(*), cast(min(o.stated_at) as integer), ",
    now!(),
    " from posthaste_outbox o \
     where o.seq > coalesce((select position from posthaste_checkpoint where destination = ?1), 0) \
     and (o.due_at is null or o.due_at <= ",
    now!(),
    ") and not (?2 and o.key is not null \
       and exists (select 1 from posthaste_held p indexed by posthaste_held_line \
         where p.destination = ?1 and p.topic = o.topic and p.key = o.key \
           and p.state not in ('due', 'unroutable') and p.state = 'parked'))"
);

/// Parameters as before. The same of those in the side table.
const ASIDE: &str = concat!(
    "select count(*), cast(min(o.stated_at) as integer), ",
    now!(),
    " from posthaste_held h \
     left join posthaste_outbox o on o.seq = h.seq where h.destination = ?1 \
     and (h.state in ('retry', 'behind') or h.state = 'due' and h.ready_at <= ",
    now!(),
    ") \
     and not (?2 and h.key is not null and exists (select 1 from posthaste_held p \
       indexed by posthaste_held_line where p.destination = ?1 and p.topic = h.topic \
         and p.key = h.key and p.seq < h.seq \
         and p.state not in ('due', 'unroutable') and p.state = 'parked'))"
);

/// Parameters: destination, after, topic, most rows. A row that the checkpoint has passed was sent
/// unless it is held, or is a dead letter that its key did not wait for.
const ENTRIES: &str = "select o.seq, cast(o.id as blob) as id, cast(o.topic as blob) as topic, \
       cast(o.kind as blob) as kind, cast(o.key as blob) as key, \
       cast(o.stated_at as integer) as stated_at, coalesce(h.state, case \
         when o.seq > coalesce((select position from posthaste_checkpoint \
           where destination = ?1), 0) then 'new' \
         when exists (select 1 from posthaste_dead_letter d where d.name = ?1 and d.seq = o.seq) \
           then 'dead' else 'sent' end) as state, coalesce(h.attempts, 0) as attempts, \
       h.ready_at, h.detail \
     from posthaste_outbox o left join posthaste_held h on h.destination = ?1 and h.seq = o.seq \
     where o.seq > ?2 and (?3 is null or o.topic = ?3) order by o.seq limit ?4";

/// The same, only those that wait for more than their turn.
const STUCK: &str = "select h.seq, cast(o.id as blob) as id, cast(h.topic as blob) as topic, \
       cast(o.kind as blob) as kind, cast(h.key as blob) as key, \
       cast(o.stated_at as integer) as stated_at, h.state, h.attempts, h.ready_at, h.detail \
     from posthaste_held h left join posthaste_outbox o on o.seq = h.seq \
     where h.destination = ?1 and h.seq > ?2 and (?3 is null or h.topic = ?3) \
       and (h.state in ('parked', 'behind', 'unroutable') or h.state = 'retry' and h.attempts > 0) \
     order by h.seq limit ?4";

/// Parameter: destination.
const UNROUTABLE: &str = "with route (topic, kind, entries, first) as materialized \
     (select topic, kind, count(*), min(seq) from posthaste_held indexed by posthaste_held_route \
       where destination = ?1 and state = 'unroutable' \
       group by topic, kind order by count(*) desc, topic, kind limit 100) \
     select r.topic, r.kind, r.entries, h.detail from route r \
     cross join posthaste_held h where h.destination = ?1 and h.seq = r.first \
     order by r.entries desc, r.topic, r.kind";

fn listed(row: &SqliteRow) -> Result<Listed, sqlx::Error> {
    let bytes = |name: &str| row.try_get::<Option<Vec<u8>>, _>(name);
    let ready_at: Option<i64> = row.try_get("ready_at")?;
    let stated_at: Option<i64> = row.try_get("stated_at")?;
    Ok(Listed {
        position: row.try_get::<i64, _>("seq")?.to_string(),
        id: shown(bytes("id")?.as_ref()),
        topic: shown(bytes("topic")?.as_ref()),
        kind: shown(bytes("kind")?.as_ref()),
        key: bytes("key")?.map(|key| shown(Some(&key))),
        state: row.try_get("state")?,
        attempts: number::attempts(row.try_get("attempts")?),
        stated_at: Timestamp::from_millis(stated_at.unwrap_or(0)),
        // Whatever is at 0 only waits to be looked at.
        ready_at: ready_at.filter(|at| *at > 0).map(Timestamp::from_millis),
        detail: row.try_get("detail")?,
    })
}

/// Seconds from milliseconds, for people.
fn seconds(millis: i64) -> f64 {
    number::duration(millis).as_secs_f64()
}

async fn unroutable(
    connection: &mut SqliteConnection,
    destination: &str,
) -> Result<Vec<UnroutableRoute>, sqlx::Error> {
    let rows: Vec<(String, String, i64, Option<String>)> =
        sqlx::query_as(UNROUTABLE).bind(destination).fetch_all(connection).await?;
    let route = |(topic, kind, entries, detail)| UnroutableRoute {
        topic,
        kind,
        entries: number::count(entries),
        detail,
    };
    Ok(rows.into_iter().map(route).collect())
}

pub(crate) async fn leases(
    connection: &mut SqliteConnection,
) -> Result<Vec<HeldLease>, sqlx::Error> {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(concat!(
        "select name, owner, token, expires_at - ",
        now!(),
        " from posthaste_lease \
         where expires_at - ",
        now!(),
        " between 1 and ttl order by name"
    ))
    .fetch_all(connection)
    .await?;
    let held = |(name, owner, token, remaining)| HeldLease {
        name,
        owner,
        token: number::count(token),
        remaining_seconds: seconds(remaining),
    };
    Ok(rows.into_iter().map(held).collect())
}

async fn rates(connection: &mut SqliteConnection, destination: &str) -> Result<Rates, sqlx::Error> {
    let (sent, failed): (f64, f64) = sqlx::query_as(concat!(
        "select coalesce(sum(sent), 0) / 60.0, coalesce(sum(failed), 0) / 60.0 \
         from posthaste_batch where destination = ?1 and at > ",
        now!(),
        " - 60000"
    ))
    .bind(destination)
    .fetch_one(connection)
    .await?;
    Ok(Rates { sent_per_second: sent, failed_per_second: failed })
}

async fn status(
    connection: &mut SqliteConnection,
    destination: &str,
) -> Result<Status, sqlx::Error> {
    let (due, retry, behind, parked, aside): (i64, i64, i64, i64, i64) =
        sqlx::query_as(HELD).bind(destination).fetch_one(&mut *connection).await?;
    let mut backlog = 0;
    let mut oldest: Option<(i64, i64)> = None;
    for statement in [PAST, ASIDE] {
        let (count, stated_at, now): (i64, Option<i64>, i64) = sqlx::query_as(statement)
            .bind(destination)
            .bind(parked > 0)
            .fetch_one(&mut *connection)
            .await?;
        backlog += number::count(count);
        if let Some(stated_at) = stated_at {
            let least = oldest.map_or(stated_at, |(least, _)| least.min(stated_at));
            oldest = Some((least, now));
        }
    }
    let parked_keys: i64 = if parked == 0 {
        0
    } else {
        sqlx::query_scalar(
            "select count(*) from (select distinct topic, key from posthaste_held \
             where destination = ?1 and state = 'parked')",
        )
        .bind(destination)
        .fetch_one(&mut *connection)
        .await?
    };
    let dead_letters: i64 = sqlx::query_scalar("select count(*) from posthaste_dead_letter")
        .fetch_one(&mut *connection)
        .await?;
    let checkpoint: Option<i64> =
        sqlx::query_scalar("select position from posthaste_checkpoint where destination = ?1")
            .bind(destination)
            .fetch_optional(&mut *connection)
            .await?;
    Ok(Status {
        backlog,
        oldest_unsent_seconds: oldest
            .map(|(stated_at, now)| seconds(now.saturating_sub(stated_at))),
        parked_keys: number::count(parked_keys),
        held: Held {
            due: number::count(due),
            retry: number::count(retry),
            behind: number::count(behind),
            unroutable: number::count(aside),
        },
        dead_letters: number::count(dead_letters),
        leases: leases(&mut *connection).await?,
        rates: rates(&mut *connection, destination).await?,
        checkpoint: checkpoint.unwrap_or(0).to_string(),
        unroutable: if aside == 0 {
            Vec::new()
        } else {
            unroutable(connection, destination).await?
        },
        lanes: 1,
    })
}

impl Store {
    async fn entries(&self, filter: &EntryFilter, after: i64) -> Result<Vec<Listed>, sqlx::Error> {
        let rows = sqlx::query(if filter.stuck { STUCK } else { ENTRIES })
            .bind(&filter.destination)
            .bind(after)
            .bind(&filter.topic)
            .bind(number::signed(filter.limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(listed).collect()
    }
}

#[async_trait]
impl Monitor for Sqlite {
    async fn status(&self, destination: &str) -> Result<Status, StoreError> {
        let failed = self.store.failed("reading the status");
        self.store.check().await?;
        let mut connection = self.store.pool.acquire().await.map_err(&failed)?;
        status(&mut connection, destination).await.map_err(failed)
    }

    async fn entries(&self, filter: &EntryFilter) -> Result<Vec<Listed>, StoreError> {
        let after = match &filter.after {
            Some(after) => after.parse().map_err(|_| {
                StoreError::rejected(format!("'{after}' is not a position of this outbox"))
            })?,
            None => 0,
        };
        self.store.check().await?;
        let entries = self.store.entries(filter, after).await;
        entries.map_err(self.store.failed("listing the outbox"))
    }

    async fn findings(&self) -> Vec<Finding> {
        doctor::findings(&self.store).await
    }
}
