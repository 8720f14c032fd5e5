//! What a look at the outbox costs the server, in pages: it follows what became visible since the
//! last one, not how much is there, how much waits, or who holds transactions open.

use posthaste_core::frontier::Frontier;
use posthaste_core::outbox::{OutboxReader, ReadLimit};
use posthaste_core::transaction::Transactional;
use posthaste_core::{Checkpoint, Lane};

use crate::fixture::Fixture;

/// Pages that a look at nothing may touch, for each partition below the frontier.
const IDLE: u64 = 60;

fn fill(from: u32, to: u32) -> String {
    format!(
        "insert into posthaste.outbox (topic, kind, key, payload) \
         select 'orders', 'placed', g, repeat('x', 200) from generate_series({from}, {to}) g;"
    )
}

/// How far a cursor has come; what it says of the life of the server is left out.
fn frontier(checkpoint: &Checkpoint) -> Frontier {
    let stored = checkpoint.as_str().split('@').next().expect("there is a first part");
    Frontier::parse(&Checkpoint::new(stored)).expect("a checkpoint")
}

/// The statement of a reading at this checkpoint.
fn reading(checkpoint: &Checkpoint, most: usize) -> String {
    let frontier = frontier(checkpoint);
    let plan = frontier.plan();
    let late = plan.late.expect("it has come somewhere");
    let running: Vec<String> = late.unseen_by.in_progress().iter().map(u64::to_string).collect();
    format!(
        "explain (analyze, buffers) select * from posthaste.read_outbox('default', 0, 1, false, {}, \
         {}, '{{{}}}', '{}', null, null, {}, null, {most}, 1000000000);",
        late.after,
        late.through,
        running.join(","),
        late.unseen_by.xmax(),
        late.through
    )
}

/// Pages that the statement touches once its plans are made.
async fn pages(fixture: &Fixture, statement: &str) -> u64 {
    let explained = fixture.sql(&statement.repeat(4)).await;
    let touched = explained.lines().filter(|line| line.contains("Buffers:"));
    // Planning is told apart, after the execution of each.
    let last = touched.rev().find(|line| line.starts_with("  ")).expect("it touched something");
    let number = |text: &str| text.rsplit_once('=').and_then(|(_, n)| n.parse::<u64>().ok());
    last.split_whitespace().filter_map(number).sum()
}

async fn caught_up(fixture: &Fixture) -> Checkpoint {
    let mut checkpoint = Checkpoint::start();
    let limit = ReadLimit { messages: 50_000, bytes: 1 << 30 };
    loop {
        let lane = Lane::whole("default");
        let batch = fixture.database.read(&lane, &checkpoint, limit).await.expect("read");
        checkpoint = batch.checkpoint;
        if !batch.more {
            return checkpoint;
        }
    }
}

#[tokio::test]
async fn a_look_that_finds_nothing_touches_a_few_pages_whatever_is_there() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql(&fill(1, 120_000)).await;
    let checkpoint = caught_up(&fixture).await;
    let idle = pages(&fixture, &reading(&checkpoint, 500)).await;
    assert!(idle <= IDLE, "{idle} pages for nothing");
}

#[tokio::test]
async fn old_transactions_that_stay_open_cost_a_few_pages_each() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut open = Vec::new();
    for n in 0..6 {
        let mut transaction = fixture.second().begin().await.expect("begin");
        let statement = if n % 2 == 0 { fill(1, 20) } else { "select pg_current_xact_id()".into() };
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await
            .expect("a statement");
        open.push(transaction);
    }
    fixture.sql(&fill(1, 50_000)).await;
    let checkpoint = caught_up(&fixture).await;
    let running = frontier(&checkpoint).seen().in_progress().len();
    // Other tests of this server may have transactions open as well.
    assert!(running >= open.len(), "they are in the snapshot: {running}");
    let busy = pages(&fixture, &reading(&checkpoint, 500)).await;
    let most = IDLE + 10 * u64::try_from(running).expect("few");
    assert!(busy <= most, "{busy} pages with {running} open transactions");
}

#[tokio::test]
async fn a_look_at_a_long_backlog_touches_what_it_returns() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql(&fill(1, 1000)).await;
    fixture.sql(&fill(1001, 100_000)).await;
    let lane = Lane::whole("default");
    let limit = ReadLimit { messages: 500, bytes: 1 << 30 };
    let batch = fixture.database.read(&lane, &Checkpoint::start(), limit).await.expect("the first");
    let touched = pages(&fixture, &reading(&batch.checkpoint, 500)).await;
    // Each row is looked up in the side table, which takes a page or two of an empty index.
    assert!(touched <= IDLE + 5 * 500, "{touched} pages for 500 of 100,000 rows");
}

#[tokio::test]
async fn without_its_index_a_look_is_seen_to_be_dear() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql(&fill(1, 60_000)).await;
    let checkpoint = caught_up(&fixture).await;
    fixture.sql("drop index posthaste.outbox_xid").await;
    let dear = pages(&fixture, &reading(&checkpoint, 500)).await;
    assert!(dear > 10 * IDLE, "{dear} pages: this test would not notice a bad plan");
}
