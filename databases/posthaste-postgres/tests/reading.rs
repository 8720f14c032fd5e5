//! Reading the outbox exactly, whatever commits late, rolls back, or is done to the sequence.

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste_core::outbox::{Entry, OutboxReader, ReadLimit};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Checkpoint, Lane, StoreError};
use posthaste_postgres::Postgres;

use crate::fixture::{Fixture, message, shown};

const LIMIT: ReadLimit = ReadLimit { messages: 100, bytes: 1 << 30 };

fn lane() -> Lane {
    Lane::whole("default")
}

/// Follows a checkpoint to the end.
async fn follow(database: &Postgres, checkpoint: &mut Checkpoint, limit: ReadLimit) -> Vec<Entry> {
    let mut entries = Vec::new();
    loop {
        let batch = database.read(&lane(), checkpoint, limit).await.expect("read");
        entries.extend(batch.entries);
        *checkpoint = batch.checkpoint;
        if !batch.more {
            return entries;
        }
    }
}

/// The payloads of entries, sorted, as the rows of these tests are told apart by them.
fn payloads(entries: &[Entry]) -> Vec<String> {
    let body = |entry: &Entry| match &entry.body {
        Ok(message) => message.payload.as_text().unwrap_or("").to_owned(),
        Err(malformed) => panic!("{}", malformed.detail),
    };
    let mut payloads: Vec<String> = entries.iter().map(body).collect();
    payloads.sort();
    payloads
}

fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    let mut numbers: Vec<String> = range.map(|n| n.to_string()).collect();
    numbers.sort();
    numbers
}

/// States rows whose payloads are the numbers of a range.
fn insert(range: std::ops::RangeInclusive<u32>) -> String {
    format!(
        "insert into posthaste.outbox (topic, kind, payload) \
         select 'orders', 'placed', g from generate_series({}, {}) g;",
        range.start(),
        range.end()
    )
}

#[tokio::test]
async fn a_low_number_that_commits_after_a_thousand_others_is_read_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    let mut slow = database.begin().await.expect("begin");
    let late: Vec<_> = (0..5).map(message).collect();
    database.enqueue(&mut slow, &late).await.expect("enqueue");
    let mut checkpoint = Checkpoint::start();
    let mut read = Vec::new();
    for hundred in 0..10 {
        fixture.sql(&insert(hundred * 100 + 1..=hundred * 100 + 100)).await;
        read.extend(follow(database, &mut checkpoint, LIMIT).await);
    }
    assert_eq!(payloads(&read), numbers(1..=1000), "nobody waits for the open transaction");
    database.commit(slow).await.expect("commit");
    let rest = follow(database, &mut checkpoint, LIMIT).await;
    assert_eq!(rest.len(), late.len(), "what committed late is read");
    assert_eq!(follow(database, &mut checkpoint, LIMIT).await.len(), 0, "once");
}

#[tokio::test]
async fn thousands_of_late_rows_are_read_once_under_a_small_limit() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    let mut slow = database.begin().await.expect("begin");
    sqlx::raw_sql(sqlx::AssertSqlSafe(insert(1..=3000))).execute(&mut *slow).await.expect("insert");
    let mut checkpoint = Checkpoint::start();
    fixture.sql(&insert(3001..=3010)).await;
    let mut read = follow(database, &mut checkpoint, LIMIT).await;
    // This one has begun after the snapshot of the checkpoint, and commits at once.
    fixture.sql(&insert(3011..=3020)).await;
    database.commit(slow).await.expect("commit");
    let tiny = ReadLimit { messages: 7, ..LIMIT };
    read.extend(follow(database, &mut checkpoint, tiny).await);
    assert_eq!(payloads(&read), numbers(1..=3020));
}

#[tokio::test]
async fn many_late_rows_of_one_transaction_that_began_late_are_read_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    // The numbers of these rows are below the frontier and their transaction is above the snapshot:
    // somebody has set the sequence back in an emptied table.
    fixture.sql(&insert(1..=2000)).await;
    let mut checkpoint = Checkpoint::start();
    assert_eq!(follow(database, &mut checkpoint, LIMIT).await.len(), 2000);
    fixture
        .sql("truncate posthaste.outbox; alter table posthaste.outbox alter column seq restart")
        .await;
    fixture.sql(&insert(1..=1500)).await;
    let tiny = ReadLimit { messages: 10, ..LIMIT };
    let read = follow(database, &mut checkpoint, tiny).await;
    assert_eq!(payloads(&read), numbers(1..=1500), "more than four times the limit at once");
    assert_eq!(follow(database, &mut checkpoint, LIMIT).await.len(), 0);
}

#[tokio::test]
async fn numbers_given_by_hand_and_taken_by_the_dozen_lose_nothing() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    let mut checkpoint = Checkpoint::start();
    fixture.sql("alter table posthaste.outbox alter column seq set cache 50").await;
    let mut read = Vec::new();
    // One session holds low numbers while others commit higher ones.
    let mut slow = database.begin().await.expect("begin");
    sqlx::raw_sql(sqlx::AssertSqlSafe(insert(1..=1))).execute(&mut *slow).await.expect("insert");
    database.commit(slow).await.expect("commit");
    for n in 2..20 {
        fixture.sql(&insert(n..=n)).await;
        read.extend(follow(database, &mut checkpoint, LIMIT).await);
    }
    let mut slow = database.begin().await.expect("begin");
    sqlx::raw_sql(sqlx::AssertSqlSafe(insert(20..=40))).execute(&mut *slow).await.expect("insert");
    database.commit(slow).await.expect("commit");
    let by_hand = "insert into posthaste.outbox (seq, topic, kind, payload) overriding system value \
                   values (5000000, 'orders', 'placed', '41'), (999, 'orders', 'placed', '42')";
    fixture.sql(by_hand).await;
    read.extend(follow(database, &mut checkpoint, LIMIT).await);
    fixture.sql(&insert(43..=60)).await;
    read.extend(follow(database, &mut checkpoint, LIMIT).await);
    assert_eq!(payloads(&read), numbers(1..=60));
}

#[tokio::test]
async fn copied_rows_savepoints_and_rollbacks_are_read_as_they_committed() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    let mut checkpoint = Checkpoint::start();
    fixture
        .sql(
            "copy posthaste.outbox (topic, kind, payload) from stdin;\n\
             orders\tplaced\t1\norders\tplaced\t2\n\\.\n",
        )
        .await;
    let nested = format!(
        "begin; {} savepoint a; {} rollback to a; savepoint b; {} release b; commit; begin; {} \
         rollback;",
        insert(3..=3),
        insert(100..=110),
        insert(4..=4),
        insert(111..=120)
    );
    fixture.sql(&nested).await;
    let read = follow(database, &mut checkpoint, ReadLimit { messages: 1, ..LIMIT }).await;
    assert_eq!(payloads(&read), numbers(1..=4));
}

#[tokio::test]
async fn a_storm_of_rollbacks_beside_an_open_transaction_keeps_the_checkpoint_small() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    let mut open = database.begin().await.expect("begin");
    database.enqueue(&mut open, &[message(1)]).await.expect("enqueue");
    let mut checkpoint = Checkpoint::start();
    let storm = format!("begin; {} rollback;", insert(1..=1)).repeat(500);
    for _ in 0..4 {
        fixture.sql(&storm).await;
        assert_eq!(follow(database, &mut checkpoint, LIMIT).await.len(), 0);
        let bytes = checkpoint.as_str().len();
        assert!(bytes < 200, "the checkpoint has {bytes} bytes: {checkpoint:?}");
    }
    database.commit(open).await.expect("commit");
    assert_eq!(follow(database, &mut checkpoint, LIMIT).await.len(), 1);
}

#[tokio::test]
async fn a_prepared_transaction_is_read_when_it_commits() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    fixture.sql(&format!("begin; {} prepare transaction 'one';", insert(1..=3))).await;
    fixture.sql(&insert(4..=9)).await;
    let mut checkpoint = Checkpoint::start();
    let mut read = follow(database, &mut checkpoint, LIMIT).await;
    assert_eq!(payloads(&read), numbers(4..=9));
    fixture.sql("commit prepared 'one'").await;
    read.extend(follow(database, &mut checkpoint, LIMIT).await);
    assert_eq!(payloads(&read), numbers(1..=9));
}

#[tokio::test]
async fn rows_that_are_no_messages_stop_nobody() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture
        .sql(
            "do $$ declare c record; begin for c in select conname from pg_constraint \
               where conrelid = 'posthaste.outbox'::regclass and contype = 'c' loop \
               execute format('alter table posthaste.outbox drop constraint %I', c.conname); \
             end loop; end $$; \
             alter table posthaste.outbox alter column topic drop not null; \
             insert into posthaste.outbox (topic, kind, payload) values (null, 'k', 'x'), \
               ('t t', 'k', 'x'), ('t', 'k', null); \
             insert into posthaste.outbox (topic, kind, payload, payload_bytes) \
               values ('t', 'k', 'x', 'y'); \
             insert into posthaste.outbox (topic, kind, payload, headers) \
               values ('t', 'k', 'x', '[1]'); \
             insert into posthaste.outbox (topic, kind, payload, stated_at, due_at) \
               values ('t', 'k', 'fine', 'infinity', '-infinity')",
        )
        .await;
    let mut checkpoint = Checkpoint::start();
    let read = follow(&fixture.database, &mut checkpoint, LIMIT).await;
    let good: Vec<bool> = read.iter().map(|entry| entry.body.is_ok()).collect();
    assert_eq!(good, [false, false, false, false, false, true]);
    assert!(read.iter().all(|entry| entry.due_in.is_none() && !entry.blocked));
}

#[tokio::test]
async fn rows_of_every_lane_are_read_by_one_of_them() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql(&insert(1..=400)).await;
    fixture.sql("insert into posthaste.lanes values ('default', 5, 5)").await;
    let mut seen = Vec::new();
    for lane in Lane::all("default", 5) {
        let mut checkpoint = Checkpoint::start();
        let limit = ReadLimit { messages: 3, ..LIMIT };
        loop {
            let batch = fixture.database.read(&lane, &checkpoint, limit).await.expect("read");
            assert!(batch.entries.len() <= 3, "a batch keeps its limit");
            seen.extend(batch.entries);
            checkpoint = batch.checkpoint;
            if !batch.more {
                break;
            }
        }
    }
    assert_eq!(payloads(&seen), numbers(1..=400));
}

#[tokio::test]
async fn a_copy_in_another_cluster_is_refused_until_it_is_adopted() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql(&insert(1..=2)).await;
    let database = &fixture.database;
    let start = Checkpoint::start();
    fixture.sql("update posthaste.cluster set system_identifier = 42").await;
    for refused in [
        shown(database.checkpoint(&lane()).await),
        shown(database.read(&lane(), &start, LIMIT).await),
        shown(database.ready(&lane(), LIMIT).await),
    ] {
        assert!(refused.contains("posthaste adopt"), "{refused}");
    }
    let refused = database.read(&lane(), &start, LIMIT).await;
    assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_standby_is_refused() {
    let Some(server) = posthaste_servers::postgres_or_skip().await else { return };
    let test = server.database().await;
    let database = Postgres::open(&test.url(), Default::default()).expect("a good URL");
    posthaste_core::database::Schema::migrate(&database).await.expect("migrate");
    let standby = server.standby().await;
    let url = standby.url(&test.name);
    let copy = Postgres::open(&url, Default::default()).expect("a good URL");
    let refused = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let error = shown(copy.read(&lane(), &Checkpoint::start(), LIMIT).await);
            // The schema may take a moment to arrive.
            if error.contains("standby") {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(refused.await.expect("the standby has the schema").contains("primary"));
}

#[tokio::test]
async fn every_body_is_read_under_any_limit_of_bytes() {
    let Some(fixture) = Fixture::new().await else { return };
    let large = "insert into posthaste.outbox (topic, kind, payload) \
                 select 't', 'k', repeat('x', 20000 * (g % 4)) || g from generate_series(1, 40) g";
    fixture.sql(large).await;
    for bytes in [1, 25_000, 70_000, 1 << 30] {
        let mut checkpoint = Checkpoint::start();
        let limit = ReadLimit { messages: 9, bytes };
        let read = follow(&fixture.database, &mut checkpoint, limit).await;
        let distinct: BTreeSet<_> = read.iter().map(|entry| entry.position.clone()).collect();
        assert_eq!((read.len(), distinct.len()), (40, 40), "with {bytes} bytes");
        payloads(&read);
    }
}
