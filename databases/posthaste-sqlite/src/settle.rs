//! Carrying out the relay's verdicts: one transaction that holds the lease's token.
//!
//! Verdicts of one sort are one statement, whatever their number; they travel as a JSON array.
//! Of a message that is sent as it is read nothing is written but the checkpoint.

use std::collections::BTreeSet;
use std::sync::Arc;

use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Feed, Settled, Settlement};
use posthaste_core::{StoreError, Verdict};
use serde::Serialize;
use sqlx::sqlite::SqliteConnection;

use crate::number;
use crate::routes::{Routes, Tried};
use crate::store::Store;
use crate::transaction::detached;

/// Most bytes that are kept of what a broker said.
const DETAIL_BYTES: usize = 4096;

/// Most failures that are kept of one message.
macro_rules! history_length {
    () => {
        "20"
    };
}

/// `column` with one failure more, made of `at` (milliseconds), `attempt` and `detail`, without
/// its oldest when it is full.
macro_rules! longer_history {
    ($column:literal, $at:literal, $attempt:literal, $detail:literal) => {
        concat!(
            "json_insert(case when json_array_length(",
            $column,
            ") >= ",
            history_length!(),
            " then json_remove(",
            $column,
            ", '$[0]') else ",
            $column,
            " end, '$[#]', \
             json_object('at', ",
            $at,
            " * 1000, 'attempt', ",
            $attempt,
            ", 'detail', ",
            $detail,
            "))"
        )
    };
}
pub(crate) use {history_length, longer_history};

/// The kind of the row that a line in an array is about.
macro_rules! kind_of_line {
    () => {
        "coalesce((select kind from posthaste_outbox where seq = value ->> 'seq'), '')"
    };
}

/// Parameters: destination, array of [`Line`]. A row that somebody has deleted meanwhile is looked
/// at again at once.
const DUE: &str = "insert into posthaste_held \
       (destination, seq, topic, kind, key, state, ready_at) \
     select ?1, v.value ->> 'seq', v.value ->> 'topic', coalesce(o.kind, ''), v.value ->> 'key', \
       'due', coalesce(o.due_at, 0) \
     from json_each(?2) v left join posthaste_outbox o on o.seq = v.value ->> 'seq' where true \
     on conflict (destination, seq) do update set state = 'due', ready_at = excluded.ready_at";

/// Parameters: destination, array of [`Line`], now.
const RETRY: &str = concat!(
    "insert into posthaste_held (destination, seq, topic, kind, key, state, attempts, ready_at, \
       detail, first_failed_at, history) \
     select ?1, value ->> 'seq', value ->> 'topic', ",
    kind_of_line!(),
    ", value ->> 'key', 'retry', \
       value ->> 'attempts', ?3 + (value ->> 'delay'), nullif(value ->> 'detail', ''), \
       case when value ->> 'detail' <> '' then ?3 end, \
       case when value ->> 'detail' <> '' then json_array(json_object('at', ?3 * 1000, \
         'attempt', value ->> 'attempts', 'detail', value ->> 'detail')) else '[]' end \
     from json_each(?2) where true \
     on conflict (destination, seq) do update set state = 'retry', attempts = excluded.attempts, \
       ready_at = excluded.ready_at, detail = coalesce(excluded.detail, detail), \
       first_failed_at = coalesce(first_failed_at, excluded.first_failed_at), \
       history = case when excluded.detail is null then history else ",
    longer_history!("history", "?3", "excluded.attempts", "excluded.detail"),
    " end"
);

/// Parameters: destination, array of [`Line`].
const BEHIND: &str = concat!(
    "insert into posthaste_held (destination, seq, topic, kind, key, state) \
     select ?1, value ->> 'seq', value ->> 'topic', ",
    kind_of_line!(),
    ", value ->> 'key', 'behind' from json_each(?2) where true \
     on conflict (destination, seq) do update set state = 'behind', ready_at = null"
);

/// Parameters: destination, array of [`Line`]. Which of them is tried is decided afterwards.
const UNROUTABLE: &str = concat!(
    "insert into posthaste_held (destination, seq, topic, kind, key, state, detail) \
     select ?1, value ->> 'seq', value ->> 'topic', ",
    kind_of_line!(),
    ", value ->> 'key', 'unroutable', nullif(value ->> 'detail', '') \
     from json_each(?2) where true \
     on conflict (destination, seq) do update set state = 'unroutable', ready_at = null, \
       detail = coalesce(excluded.detail, detail)"
);

/// Parameters: destination, array of [`Line`], now. A row that somebody has deleted meanwhile
/// leaves a dead letter all the same.
const DEAD: &str = concat!(
    "insert into posthaste_dead_letter (side, name, seq, id, topic, kind, key, headers, \
       content_type, payload, stated_at, due_at, reason, detail, attempts, first_failed_at, \
       dead_at, history, parked) \
     select 'relay', ?1, v.value ->> 'seq', coalesce(o.id, ''), \
       coalesce(o.topic, h.topic, v.value ->> 'topic'), coalesce(o.kind, h.kind, ''), \
       coalesce(o.key, h.key, v.value ->> 'key'), coalesce(o.headers, '{}'), o.content_type, \
       coalesce(o.payload, x''), o.stated_at, o.due_at, v.value ->> 'reason', \
       v.value ->> 'detail', v.value ->> 'attempts', coalesce(h.first_failed_at, ?3), ?3, ",
    longer_history!(
        "coalesce(h.history, '[]')",
        "?3",
        "v.value ->> 'attempts'",
        "v.value ->> 'detail'"
    ),
    ", v.value ->> 'park' \
     from json_each(?2) v left join posthaste_outbox o on o.seq = v.value ->> 'seq' \
     left join posthaste_held h on h.destination = ?1 and h.seq = v.value ->> 'seq' \
     order by v.key"
);

/// Parameters: destination, array of [`Line`].
const PARK: &str = concat!(
    "insert into posthaste_held \
       (destination, seq, topic, kind, key, state, attempts, detail) \
     select ?1, value ->> 'seq', value ->> 'topic', ",
    kind_of_line!(),
    ", value ->> 'key', 'parked', value ->> 'attempts', value ->> 'detail' \
     from json_each(?2) where true \
     on conflict (destination, seq) do update set state = 'parked', ready_at = null, \
       attempts = excluded.attempts, detail = excluded.detail"
);

/// Parameters: destination, array of [`Line`].
const REMOVE: &str = "delete from posthaste_held where destination = ?1 \
     and seq in (select value ->> 'seq' from json_each(?2))";

/// Parameters: destination, topic, key, now. Looks at the first of the line only, so that its
/// cost does not depend on how long the line is.
const NORMALISE: &str = "with line as materialized (select seq, state from posthaste_held \
       indexed by posthaste_held_line where destination = ?1 and topic = ?2 and key = ?3 \
       and state not in ('due', 'unroutable') order by seq limit 256) \
     update posthaste_held set state = 'retry', ready_at = ?4 where destination = ?1 and seq in \
       (select seq from line where state = 'behind' and seq < coalesce( \
         (select min(seq) from line where state <> 'behind'), 9223372036854775807))";

/// One verdict as the statements read it.
#[derive(Default, Serialize)]
struct Line {
    seq: i64,
    topic: String,
    key: Option<String>,
    attempts: u32,
    delay: i64,
    reason: &'static str,
    detail: String,
    park: u8,
}

/// Verdicts by what is to be done.
#[derive(Default)]
struct Plan {
    remove: Vec<Line>,
    due: Vec<Line>,
    retry: Vec<Line>,
    behind: Vec<Line>,
    unroutable: Vec<Line>,
    dead: Vec<Line>,
    /// Those from the side table: they may have been tried on behalf of their routes.
    tried: Vec<Tried>,
    keys: BTreeSet<(String, String)>,
    /// Rows of the side table that are no messages; the side table knows their keys.
    nameless: Vec<i64>,
    reached: Option<i64>,
    sent: i64,
    failed: i64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Plan {
    fn new(settlement: &Settlement) -> Result<Self, StoreError> {
        let reached = settlement.checkpoint.as_ref().map(number::reached).transpose()?;
        let mut plan = Self { reached, ..Self::default() };
        for settled in &settlement.verdicts {
            plan.add(settled)?;
        }
        Ok(plan)
    }

    fn add(&mut self, settled: &Settled) -> Result<(), StoreError> {
        let seq = number::seq(&settled.position)?;
        self.first = Some(self.first.map_or(seq, |first| first.min(seq)));
        self.last = self.last.max(Some(seq));
        if settled.feed == Feed::New && settled.verdict == Verdict::Sent {
            self.sent += 1;
            return Ok(());
        }
        if settled.address.is_none() && settled.feed == Feed::Ready {
            self.nameless.push(seq);
        }
        let (topic, key) = settled.address.clone().unwrap_or_default();
        if let Some(key) = &key {
            self.keys.insert((topic.clone(), key.clone()));
        }
        if settled.feed == Feed::Ready {
            let open = matches!(settled.verdict, Verdict::Sent | Verdict::Dead { .. });
            self.tried.push(Tried { seq, open });
        }
        let line = Line { seq, topic, key, ..Line::default() };
        match &settled.verdict {
            Verdict::Sent => {
                self.sent += 1;
                self.remove.push(line);
            }
            Verdict::Due => self.due.push(line),
            Verdict::Behind => self.behind.push(line),
            Verdict::Unroutable { probe_in, detail } => {
                let (delay, detail) = (number::millis(*probe_in), kept(detail));
                self.unroutable.push(Line { delay, detail, ..line });
            }
            Verdict::Retry { attempts, delay, detail } => {
                self.failed += i64::from(!detail.is_empty());
                let (delay, detail) = (number::millis(*delay), kept(detail));
                self.retry.push(Line { attempts: *attempts, delay, detail, ..line });
            }
            Verdict::Dead { attempts, reason, detail, park } => {
                let park = u8::from(*park && line.key.is_some());
                let (reason, detail) = (reason.code(), kept(detail));
                self.dead.push(Line { attempts: *attempts, reason, detail, park, ..line });
            }
        }
        Ok(())
    }
}

/// The beginning of what was said, without characters that JSON functions stop at.
pub(crate) fn kept(detail: &str) -> String {
    let mut end = detail.len().min(DETAIL_BYTES);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail[..end].replace('\0', " ")
}

/// Carries out a settlement under a lease.
pub(crate) async fn settle(
    store: &Arc<Store>,
    lease: &Lease,
    settlement: &Settlement,
) -> Result<(), StoreError> {
    let mut plan = Plan::new(settlement)?;
    let (store, lease, settlement) = (Arc::clone(store), lease.clone(), settlement.clone());
    detached(async move {
        let mut transaction = store.begin().await?;
        let Some(now) = claim_number(&store, &mut transaction, &lease, settlement.number).await?
        else {
            return Ok(());
        };
        let done = carry_out(&mut transaction, &mut plan, &lease, &settlement, now).await;
        done.map_err(store.failed("settling messages"))?;
        if plan.keys.is_empty() {
            store.commit_quietly(transaction).await
        } else {
            store.commit(transaction).await
        }
    })
    .await
}

/// Takes the number of the settlement under the lease and returns the database's time; `None` if
/// the number was taken before, so that everything is done already.
async fn claim_number(
    store: &Store,
    connection: &mut SqliteConnection,
    lease: &Lease,
    settlement: u64,
) -> Result<Option<i64>, StoreError> {
    let (token, settlement) = (number::token(lease.token)?, number::token(settlement)?);
    let failed = store.failed("looking at the lease");
    let claimed: Option<i64> = sqlx::query_scalar(concat!(
        "update posthaste_lease set settlement = ?3 \
         where name = ?1 and token = ?2 and settlement < ?3 returning ",
        now!()
    ))
    .bind(&lease.name)
    .bind(token)
    .bind(settlement)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    if claimed.is_none() {
        crate::leases::fence(store, connection, lease).await?;
    }
    Ok(claimed)
}

/// Runs a statement over lines, unless there are none.
async fn run(
    connection: &mut SqliteConnection,
    statement: &'static str,
    destination: &str,
    lines: &[Line],
    now: Option<i64>,
) -> Result<(), sqlx::Error> {
    if lines.is_empty() {
        return Ok(());
    }
    let json = serde_json::to_string(lines).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let mut query = sqlx::query(statement).bind(destination).bind(json);
    if let Some(now) = now {
        query = query.bind(now);
    }
    query.execute(connection).await.map(|_| ())
}

async fn carry_out(
    connection: &mut SqliteConnection,
    plan: &mut Plan,
    lease: &Lease,
    settlement: &Settlement,
    now: i64,
) -> Result<(), sqlx::Error> {
    let to = settlement.lane.destination.as_str();
    for seq in &plan.nameless {
        let line: Option<(String, String)> = sqlx::query_as(
            "select topic, key from posthaste_held \
             where destination = ? and seq = ? and key is not null",
        )
        .bind(to)
        .bind(seq)
        .fetch_optional(&mut *connection)
        .await?;
        plan.keys.extend(line);
    }
    let mut routes = Routes::default();
    routes.note_tried(connection, to, &plan.tried).await?;
    run(connection, REMOVE, to, &plan.remove, None).await?;
    run(connection, DUE, to, &plan.due, None).await?;
    run(connection, RETRY, to, &plan.retry, Some(now)).await?;
    run(connection, BEHIND, to, &plan.behind, None).await?;
    run(connection, UNROUTABLE, to, &plan.unroutable, None).await?;
    run(connection, DEAD, to, &plan.dead, Some(now)).await?;
    run(connection, REMOVE, to, &plan.dead, None).await?;
    let parked: Vec<&Line> = plan.dead.iter().filter(|line| line.park == 1).collect();
    if !parked.is_empty() {
        let json =
            serde_json::to_string(&parked).map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query(PARK).bind(to).bind(json).execute(&mut *connection).await?;
    }
    routes.note_aside(connection, to, &plan.unroutable).await?;
    plan.keys.extend(routes.normalise(connection, to, now).await?);
    for (topic, key) in &plan.keys {
        normalise(connection, to, topic, key, now).await?;
    }
    move_checkpoint(connection, to, plan.reached.unwrap_or(0), now).await?;
    log_batch(connection, plan, lease, settlement, now).await
}

/// Makes the head of a line ready if nothing failed stands before it.
pub(crate) async fn normalise(
    connection: &mut SqliteConnection,
    destination: &str,
    topic: &str,
    key: &str,
    now: i64,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(NORMALISE).bind(destination).bind(topic).bind(key).bind(now);
    query.execute(connection).await.map(|_| ())
}

/// A checkpoint never goes back: what it has passed has a verdict. It is there from the first
/// settlement on, so that nothing is pruned that this destination still needs.
async fn move_checkpoint(
    connection: &mut SqliteConnection,
    destination: &str,
    position: i64,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into posthaste_checkpoint (destination, position, updated_at) values (?1, ?2, ?3) \
         on conflict (destination) do update set updated_at = excluded.updated_at, \
           position = max(position, excluded.position)",
    )
    .bind(destination)
    .bind(position)
    .bind(now)
    .execute(connection)
    .await
    .map(|_| ())
}

async fn log_batch(
    connection: &mut SqliteConnection,
    plan: &Plan,
    lease: &Lease,
    settlement: &Settlement,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into posthaste_batch (destination, token, settlement, at, sent, failed, dead, \
           first_position, last_position) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&settlement.lane.destination)
    .bind(i64::try_from(lease.token).unwrap_or(i64::MAX))
    .bind(i64::try_from(settlement.number).unwrap_or(i64::MAX))
    .bind(now)
    .bind(plan.sent)
    .bind(plan.failed)
    .bind(number::signed(plan.dead.len()))
    .bind(plan.first)
    .bind(plan.last)
    .execute(connection)
    .await
    .map(|_| ())
}
