//! Reading the outbox: what is past a checkpoint, and what may leave the side table.
//!
//! Each reading is one statement, so it sees one state of the database. How many rows fit into
//! the limit is decided from their sizes before any payload is loaded. Indexes of the side table
//! are named, because without statistics SQLite takes its primary key, which is a walk through
//! all that is held: measured with 100,000 rows held, 400 ms instead of 4.

use async_trait::async_trait;
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, Entry, Malformed, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::{Checkpoint, Lane, StoreError};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::row::{Written, message_columns};
use crate::store::Store;
use crate::{Sqlite, lanes, number, settle};

/// Parameters: destination, position, most rows, most bytes.
const READ: &str = concat!(
    "with clock (now) as materialized (select ",
    now!(),
    "), \
     upcoming (seq, size) as materialized (select seq, 256 + coalesce(octet_length(topic), 0) \
       + coalesce(octet_length(headers), 0) + coalesce(octet_length(payload), 0) \
       from posthaste_outbox where seq > ?2 order by seq limit ?3 + 1), \
     taken (seq) as materialized (select seq from (select seq, \
         row_number() over (order by seq) as place, \
         sum(size) over (order by seq rows unbounded preceding) - size as before from upcoming) \
       where place <= ?3 and before < ?4) \
     select m.seq, 0 as attempts, \
       case when typeof(m.due_at) = 'integer' and m.due_at > clock.now \
         then m.due_at - clock.now end as due_in, \
       m.key is not null and exists (select 1 from posthaste_held h \
         indexed by posthaste_held_line where h.destination = ?1 \
         and h.topic = m.topic and h.key = m.key \
         and h.state not in ('due', 'unroutable')) as blocked, \
       (exists (select 1 from posthaste_held u indexed by posthaste_held_probe \
           where u.destination = ?1 and u.topic = m.topic and u.kind = m.kind \
           and u.state = 'unroutable' and u.ready_at > 0) \
         or m.key is not null and exists (select 1 from posthaste_held u \
           indexed by posthaste_held_aside where u.destination = ?1 and u.topic = m.topic \
           and u.key = m.key and u.kind = m.kind and u.state = 'unroutable')) as unroutable, \
       (select count(*) from upcoming) as found, ",
    message_columns!(),
    " from posthaste_outbox m, clock \
     where m.seq > ?2 and m.seq <= (select max(seq) from taken) order by m.seq"
);

/// Parameters: destination, most rows, most bytes, most rows that are looked at. A row that waits
/// for a retry is ready when all that is before it in its line is; a row that was not due, or that
/// is tried for its route, never waits for anybody here, it is only told that it has to. Those that could be
/// sent the longest are looked at; one of them that stands behind one that is not looked at waits
/// for it.
const READY: &str = concat!(
    "with clock (now) as materialized (select ",
    now!(),
    "), \
     near (seq, ready_at) as materialized (select h.seq, h.ready_at \
       from posthaste_held h indexed by posthaste_held_ready \
       where h.destination = ?1 and h.ready_at <= (select now from clock) \
       order by h.ready_at, h.seq limit ?4), \
     edge (ready_at, seq) as materialized (select ready_at, seq from near \
       order by ready_at desc, seq desc limit 1), \
     first (seq) as materialized (select h.seq \
       from near n cross join edge cross join posthaste_held h \
       where h.destination = ?1 and h.seq = n.seq and (h.state in ('due', 'unroutable') \
         or h.state = 'retry' and (h.key is null or not exists (select 1 from posthaste_held e \
           indexed by posthaste_held_line where e.destination = ?1 and e.topic = h.topic \
             and e.key = h.key and e.state not in ('due', 'unroutable') \
             and e.seq < h.seq and not (e.state = 'retry' \
               and (e.ready_at, e.seq) <= (edge.ready_at, edge.seq))))) \
       order by h.seq limit ?2 + 1), \
     ready (seq, size) as materialized (select f.seq, 256 + coalesce(octet_length(o.headers), 0) \
         + coalesce(octet_length(o.payload), 0) \
       from first f left join posthaste_outbox o on o.seq = f.seq), \
     taken (seq) as materialized (select seq from (select seq, \
         row_number() over (order by seq) as place, \
         sum(size) over (order by seq rows unbounded preceding) - size as before from ready) \
       where place <= ?2 and before < ?3) \
     select h.seq, h.attempts, null as due_in, \
       h.state in ('due', 'unroutable') and h.key is not null and exists (select 1 \
         from posthaste_held e indexed by posthaste_held_line where e.destination = ?1 \
           and e.topic = h.topic and e.key = h.key \
           and e.state not in ('due', 'unroutable')) as blocked, \
       h.state <> 'unroutable' and exists (select 1 from posthaste_held u \
         indexed by posthaste_held_route where u.destination = ?1 and u.topic = h.topic \
           and u.kind = h.kind and u.state = 'unroutable' and u.seq < h.seq) as unroutable, \
       (select count(*) from ready) as found, (select count(*) from near) as looked_at, \
       m.seq is null as gone, ",
    message_columns!(),
    " from taken t join posthaste_held h on h.destination = ?1 and h.seq = t.seq \
     left join posthaste_outbox m on m.seq = t.seq order by h.seq"
);

/// Parameter: destination.
const NEXT: &str = concat!(
    "select cast(min(ready_at) as integer) - ",
    now!(),
    " from posthaste_held \
     indexed by posthaste_held_ready where destination = ?1 and ready_at > ",
    now!()
);

/// How many rows of the side table are looked at for each that may be returned, so that the cost
/// of a reading follows its limit and not how many are ready.
const LOOK_AT_PER_ROW: i64 = 4;
const LOOK_AT_LEAST: i64 = 16;

fn entry(row: &SqliteRow, gone: bool) -> Result<Entry, sqlx::Error> {
    let body = if gone {
        Err(Malformed { detail: "the row was deleted from posthaste_outbox".to_owned() })
    } else {
        Written::from_row(row)?.into_message()
    };
    let due_in: Option<i64> = row.try_get("due_in")?;
    Ok(Entry {
        position: number::position(row.try_get("seq")?),
        due_in: due_in.filter(|_| body.is_ok()).map(number::duration),
        blocked: body.is_ok() && row.try_get("blocked")?,
        unroutable: body.is_ok() && row.try_get("unroutable")?,
        body,
        attempts: number::attempts(row.try_get("attempts")?),
    })
}

/// Whether rows were found that are not among those returned.
fn is_cut(rows: &[SqliteRow]) -> Result<bool, sqlx::Error> {
    let found = rows.first().map(|row| row.try_get::<i64, _>("found")).transpose()?;
    Ok(found.unwrap_or(0) > number::signed(rows.len()))
}

async fn ready_rows(
    connection: &mut SqliteConnection,
    destination: &str,
    limit: ReadLimit,
    look_at: i64,
) -> ReadResult<Vec<SqliteRow>> {
    sqlx::query(READY)
        .bind(destination)
        .bind(number::signed(limit.messages.max(1)).min(1 << 32))
        .bind(number::signed(limit.bytes.max(1)))
        .bind(look_at)
        .fetch_all(connection)
        .await
}

impl Store {
    async fn read(&self, destination: &str, from: i64, limit: ReadLimit) -> ReadResult<Batch> {
        let mut connection = self.pool.acquire().await?;
        let rows = sqlx::query(READ)
            .bind(destination)
            .bind(from)
            .bind(number::signed(limit.messages.max(1)).min(1 << 32))
            .bind(number::signed(limit.bytes.max(1)))
            .fetch_all(&mut *connection)
            .await?;
        let more = is_cut(&rows)?;
        let last: Option<i64> = rows.last().map(|row| row.try_get("seq")).transpose()?;
        let entries = rows.iter().map(|row| entry(row, false)).collect::<Result<_, _>>()?;
        let reached = last.unwrap_or(from);
        let checkpoint =
            if reached == 0 { Checkpoint::start() } else { Checkpoint::new(reached.to_string()) };
        Ok(Batch { entries, checkpoint, more })
    }

    async fn ready(&self, destination: &str, limit: ReadLimit) -> ReadResult<Ready> {
        let mut connection = self.pool.acquire().await?;
        let most = number::signed(limit.messages.max(1)).min(1 << 32);
        let mut look_at = LOOK_AT_LEAST + LOOK_AT_PER_ROW * most;
        let mut rows = ready_rows(&mut connection, destination, limit, look_at).await?;
        if rows.is_empty() {
            // All of them may stand behind others that are ready too and were not looked at.
            look_at = i64::MAX;
            rows = ready_rows(&mut connection, destination, limit, look_at).await?;
        }
        let next: Option<i64> =
            sqlx::query_scalar(NEXT).bind(destination).fetch_one(&mut *connection).await?;
        let looked_at: Option<i64> =
            rows.first().map(|row| row.try_get("looked_at")).transpose()?;
        let more = is_cut(&rows)? || looked_at.is_some_and(|looked_at| looked_at >= look_at);
        let read = |row: &SqliteRow| entry(row, row.try_get("gone")?);
        let entries = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Ready { entries, more, next_in: next.map(number::duration) })
    }

    /// Looks at the schema on a connection of its own, unless that was done.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let mut connection =
            self.pool.acquire().await.map_err(self.failed("opening the database"))?;
        self.check_schema(&mut connection).await
    }
}

type ReadResult<T> = Result<T, sqlx::Error>;

#[async_trait]
impl OutboxReader for Sqlite {
    async fn checkpoint(&self, lane: &Lane) -> Result<Checkpoint, StoreError> {
        let store = &self.store;
        lanes::refuse_other(lane)?;
        store.check().await?;
        let position: Option<i64> =
            sqlx::query_scalar("select position from posthaste_checkpoint where destination = ?")
                .bind(&lane.destination)
                .fetch_optional(&store.pool)
                .await
                .map_err(store.failed("reading a checkpoint"))?;
        Ok(match position {
            None | Some(0) => Checkpoint::start(),
            Some(position) => Checkpoint::new(position.to_string()),
        })
    }

    async fn read(
        &self,
        lane: &Lane,
        from: &Checkpoint,
        limit: ReadLimit,
    ) -> Result<Batch, StoreError> {
        lanes::refuse_other(lane)?;
        let from = number::reached(from)?;
        self.store.check().await?;
        let batch = self.store.read(&lane.destination, from, limit).await;
        batch.map_err(self.store.failed("reading the outbox"))
    }

    async fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError> {
        lanes::refuse_other(lane)?;
        self.store.check().await?;
        let ready = self.store.ready(&lane.destination, limit).await;
        ready.map_err(self.store.failed("reading the side table of the outbox"))
    }

    async fn settle(&self, lease: &Lease, settlement: &Settlement) -> Result<(), StoreError> {
        lanes::refuse_other(&settlement.lane)?;
        settle::settle(&self.store, lease, settlement).await
    }
}
