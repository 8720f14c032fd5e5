//! Reading the outbox: what is past a checkpoint, and what may leave the side table.
//!
//! Each reading is one statement, so it sees one snapshot of the database, and that snapshot comes
//! with the rows. How many of them fit into the limit is decided from their sizes before any
//! payload is fetched.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::frontier::{Frontier, Row, Snapshot, Step};
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, Entry, Malformed, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::{Checkpoint, Lane, StoreError, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::cursor::Cursor;
use crate::row::Written;
use crate::store::Store;
use crate::time::At;
use crate::{Postgres, number, settle};

const READ: &str = "select * from posthaste.read_outbox($1, $2, $3, $4, $5, $6, \
     $7::text[]::xid8[], $8::text::xid8, $9::text[]::xid8[], $10::text::xid8, $11, $12, $13, $14)";

const READ_HELD: &str = "select * from posthaste.read_held($1, $2, $3, $4, $5, $6)";

/// Most rows of one statement, those of other lanes included.
const MOST: i64 = 1 << 17;

/// How often a reading goes on by itself while it finds only rows of other lanes, before it lets
/// its caller know how far it has come.
const ROUNDS: usize = 16;

/// How many rows of the side table are looked at for each that may be returned, so that the cost
/// of a reading follows its limit and not how many are ready.
const LOOK_AT_PER_ROW: i64 = 4;
const LOOK_AT_LEAST: i64 = 16;

/// How many are looked at if none of those may be returned. What stands behind one that failed is
/// not ready, so only what became ready in another order than that of its line is passed over.
const LOOK_AT_MOST: i64 = 20_000;

/// What one statement found.
struct Found {
    snapshot: Snapshot,
    /// In which life of the server.
    life: String,
    rows: Vec<Row<Option<Entry>>>,
    /// How many rows there could have been; if there are as many, there may be more.
    most: usize,
}

/// Decodes a row; `now` is the database's time.
fn entry(row: &PgRow, now: Timestamp) -> Result<Entry, sqlx::Error> {
    let written = Written::from_row(row)?;
    let wait = written.due_at.map(|due| due.since(now)).filter(|wait| !wait.is_zero());
    let body = written.into_message();
    let is_message = body.is_ok();
    Ok(Entry {
        position: number::position(row.try_get("seq")?),
        due_in: wait.filter(|_| is_message),
        blocked: is_message && row.try_get("blocked")?,
        unroutable: is_message && row.try_get("unroutable")?,
        attempts: 0,
        body,
    })
}

fn texts(ids: &[u64]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

impl Found {
    /// Takes as many rows as fit: up to the first of the lane that came without its body, or that
    /// is one too many.
    fn new(rows: &[PgRow], limit: ReadLimit, most: i64) -> Result<Self, FoundError> {
        let (first, rows) = rows.split_first().ok_or(FoundError::NoSnapshot)?;
        let snapshot: String = first.try_get("snapshot")?;
        let snapshot = snapshot.parse().map_err(|_| FoundError::NoSnapshot)?;
        let life = first.try_get("topic")?;
        let now = first.try_get::<At, _>("stated_at")?.0;
        let mut taken = Vec::with_capacity(rows.len());
        let mut room = limit.messages.max(1);
        for row in rows {
            let mine: bool = row.try_get("mine")?;
            if mine && (room == 0 || !row.try_get::<bool, _>("fits")?) {
                break;
            }
            room -= usize::from(mine);
            taken.push(Row {
                seq: number::count(row.try_get("seq")?),
                xid: number::count(row.try_get("xid")?),
                hash: number::count(row.try_get("hash")?),
                bytes: 1,
                body: if mine { Some(entry(row, now)?) } else { None },
            });
        }
        let cut = taken.len() < rows.len();
        let most = if cut { taken.len() } else { usize::try_from(most).unwrap_or(usize::MAX) };
        Ok(Self { snapshot, life, rows: taken, most })
    }
}

/// Why what a statement returned cannot be used.
enum FoundError {
    Driver(sqlx::Error),
    NoSnapshot,
}

impl From<sqlx::Error> for FoundError {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

async fn find(
    store: &Store,
    connection: &mut PgConnection,
    lane: &Lane,
    frontier: &Frontier,
    limit: ReadLimit,
) -> Result<Found, FoundError> {
    let plan = frontier.plan();
    let late = plan.late.as_ref();
    let seen = late.and_then(|late| late.seen_by);
    let most = number::signed(limit.messages.max(1)).saturating_mul(i64::from(lane.of)).min(MOST);
    let rows = store
        .query(READ)
        .bind(&lane.destination)
        .bind(i32::from(lane.index))
        .bind(i32::from(lane.of))
        .bind(lane.of > 1 || frontier.inheriting())
        .bind(late.map_or(0, |late| number::long(late.after)))
        .bind(late.map_or(0, |late| number::long(late.through)))
        .bind(late.map_or_else(Vec::new, |late| texts(late.unseen_by.in_progress())))
        .bind(late.map_or(0, |late| late.unseen_by.xmax()).to_string())
        .bind(seen.map(|seen| texts(seen.in_progress())))
        .bind(seen.map(|seen| seen.xmax().to_string()))
        .bind(plan.new.map(|new| number::long(new.after)))
        .bind(plan.new.and_then(|new| new.through).map(number::long))
        .bind(most)
        .bind(number::signed(limit.bytes.max(1)))
        .fetch_all(connection)
        .await?;
    Found::new(&rows, limit, most)
}

impl Store {
    /// Refuses a lane that is none.
    pub(crate) fn check_lane(lane: &Lane) -> Result<(), StoreError> {
        if lane.index < lane.of {
            return Ok(());
        }
        let Lane { destination, index, of } = lane;
        Err(StoreError::rejected(format!("there is no lane {index} of {of} of '{destination}'")))
    }

    async fn step(
        &self,
        connection: &mut PgConnection,
        lane: &Lane,
        cursor: &mut Cursor,
        limit: ReadLimit,
    ) -> Result<Step<Option<Entry>>, StoreError> {
        let found = find(self, connection, lane, &cursor.frontier, limit).await;
        let Found { snapshot, life, rows, most } = found.map_err(|error| match error {
            FoundError::Driver(error) => self.error("reading the outbox", error),
            FoundError::NoSnapshot => StoreError::failed(
                "reading the outbox: the server gave no snapshot; is posthaste.read_outbox ours?",
            ),
        })?;
        cursor.meet(&life)?;
        let limit = ReadLimit { messages: most, bytes: usize::MAX };
        cursor.frontier.advance(&snapshot, rows, limit).map_err(|misread| StoreError::Failed {
            context: misread.to_string(),
            source: Some(Box::new(misread)),
        })
    }

    async fn read(
        self: &Arc<Self>,
        lane: &Lane,
        from: &Checkpoint,
        limit: ReadLimit,
    ) -> Result<Batch, StoreError> {
        let mut cursor = Cursor::parse(from)?;
        let mut connection = self.reading().await?;
        for round in 1.. {
            let step = self.step(&mut connection, lane, &mut cursor, limit).await?;
            cursor.frontier = step.next;
            let entries: Vec<Entry> = step.rows.into_iter().filter_map(|row| row.body).collect();
            if !entries.is_empty() || !step.more || round >= ROUNDS {
                return Ok(Batch { entries, checkpoint: cursor.checkpoint(), more: step.more });
            }
        }
        Err(StoreError::failed("reading the outbox came to no end"))
    }

    async fn ready(self: &Arc<Self>, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError> {
        let mut connection = self.reading().await?;
        let most = number::signed(limit.messages.max(1)).min(MOST);
        let mut look_at = LOOK_AT_LEAST + LOOK_AT_PER_ROW * most;
        let mut held = self.held(&mut connection, lane, limit, look_at).await?;
        if held.ready.entries.is_empty() && held.looked_at >= look_at {
            // All of them may stand behind others that are ready too and were not looked at.
            look_at = look_at.max(LOOK_AT_MOST);
            held = self.held(&mut connection, lane, limit, look_at).await?;
        }
        held.ready.more |= !held.ready.entries.is_empty() && held.looked_at >= look_at;
        Ok(held.ready)
    }

    async fn held(
        &self,
        connection: &mut PgConnection,
        lane: &Lane,
        limit: ReadLimit,
        look_at: i64,
    ) -> Result<Held, StoreError> {
        let rows = self
            .query(READ_HELD)
            .bind(&lane.destination)
            .bind(i32::from(lane.index))
            .bind(i32::from(lane.of))
            .bind(number::signed(limit.messages.max(1)).min(MOST))
            .bind(number::signed(limit.bytes.max(1)))
            .bind(look_at)
            .fetch_all(connection)
            .await
            .and_then(|rows| Held::new(&rows));
        rows.map_err(self.failed("reading the side table of the outbox"))
    }
}

/// What a look at the side table found.
struct Held {
    ready: Ready,
    looked_at: i64,
}

impl Held {
    fn new(rows: &[PgRow]) -> Result<Self, sqlx::Error> {
        let (first, rows) = rows.split_first().ok_or(sqlx::Error::RowNotFound)?;
        let now = first.try_get::<At, _>("now")?.0;
        let next: Option<At> = first.try_get("next_at")?;
        let candidates: i64 = first.try_get("candidates")?;
        let entries: Vec<Entry> =
            rows.iter().map(|row| held_entry(row, now)).collect::<Result<_, _>>()?;
        let ready = Ready {
            more: candidates > number::signed(entries.len()),
            entries,
            next_in: next.map(|next| next.0.since(now)),
        };
        Ok(Self { ready, looked_at: first.try_get("looked_at")? })
    }
}

fn held_entry(row: &PgRow, now: Timestamp) -> Result<Entry, sqlx::Error> {
    let mut entry = entry(row, now)?;
    entry.attempts = number::attempts(row.try_get("attempts")?);
    // It is in the list because its time has come.
    entry.due_in = None;
    if row.try_get("gone")? {
        let detail = "the row was deleted from posthaste.outbox".to_owned();
        entry.body = Err(Malformed { detail });
    }
    Ok(entry)
}

#[async_trait]
impl OutboxReader for Postgres {
    async fn checkpoint(&self, lane: &Lane) -> Result<Checkpoint, StoreError> {
        Store::check_lane(lane)?;
        self.store.promptly().during(self.store.checkpoint(lane)).await
    }

    async fn read(
        &self,
        lane: &Lane,
        from: &Checkpoint,
        limit: ReadLimit,
    ) -> Result<Batch, StoreError> {
        Store::check_lane(lane)?;
        self.store.promptly().during(self.store.read(lane, from, limit)).await
    }

    async fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError> {
        Store::check_lane(lane)?;
        self.store.promptly().during(self.store.ready(lane, limit)).await
    }

    async fn settle(&self, lease: &Lease, settlement: &Settlement) -> Result<(), StoreError> {
        settle::settle(&self.store, lease, settlement).await
    }
}
