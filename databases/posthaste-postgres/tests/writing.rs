//! Writing through the driver: what the suite of laws does not see from outside.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Payload, StoreError, Timestamp};
use posthaste_postgres::{Options, Postgres};
use sqlx::Row as _;
use sqlx::postgres::PgPoolOptions;

use crate::fixture::{Fixture, id, message, shown};

#[tokio::test]
async fn what_is_written_stands_in_the_columns_as_it_was_given() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut full = message(1);
    full.key = Some("k'\"\\".to_owned());
    full.headers.insert("trace", "ü \\ \"");
    full.content_type = Some("text/plain".to_owned());
    full.payload = Payload::text("c:\\temp {\"a\":\"\\n\"}");
    full.due_at = Some(Timestamp::from_micros(1_800_000_000_000_001));
    let mut bytes = message(2);
    bytes.payload = Payload::bytes(vec![0, 0xff]);
    bytes.due_at = Some(Timestamp::from_micros(i64::MIN));
    fixture.state(&[full, bytes]).await;
    let there = "set timezone = 'UTC'; select seq, id, key, content_type, \
         stated_at = '2023-11-14 22:13:20+00', extract(epoch from due_at) * 1000000, headers, \
         payload, payload_bytes from posthaste.outbox order by seq";
    let expected = format!(
        "1|{}|k'\"\\|text/plain|t|1800000000000001.000000|{{\"trace\": \"ü \\\\ \\\"\"}}|\
         c:\\temp {{\"a\":\"\\n\"}}|\n2|{}|||t|-62135596800000000.000000|{{}}||\\x00ff",
        id(1),
        id(2)
    );
    assert_eq!(fixture.sql(there).await, expected);
}

#[tokio::test]
async fn a_commit_that_the_server_answers_with_a_rollback_is_no_success() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    let mut tx = database.begin().await.expect("begin");
    database.enqueue(&mut tx, &[message(1)]).await.expect("enqueue");
    let ignored = sqlx::query("select 1 / 0").execute(&mut *tx).await;
    assert!(ignored.is_err());
    let refused = database.commit(tx).await;
    assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{refused:?}");
    assert!(shown(refused).contains("an earlier statement of this transaction failed"));
    assert_eq!(fixture.rows().await, 0);
    fixture.state(&[message(2)]).await;
    assert_eq!(fixture.rows().await, 1, "and the connection is as good as new");
}

#[tokio::test]
async fn a_deferred_constraint_that_fails_at_the_commit_is_an_error() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture
        .sql(
            "create table one (id int primary key); create table two (id int references one \
             deferrable initially deferred);",
        )
        .await;
    let database = &fixture.database;
    let mut tx = database.begin().await.expect("begin");
    database.enqueue(&mut tx, &[message(1)]).await.expect("enqueue");
    sqlx::query("insert into public.two values (7)").execute(&mut *tx).await.expect("insert");
    let refused = database.commit(tx).await;
    assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{refused:?}");
    assert_eq!(fixture.rows().await, 0);
}

#[tokio::test]
async fn a_commit_leaves_no_transaction_and_no_warning_behind() {
    let Some(fixture) = Fixture::new().await else { return };
    let options = Options { connections: 2, ..Options::default() };
    let database = Postgres::open(&fixture.test.url(), options).expect("a good URL");
    for number in 0..4 {
        let mut tx = database.begin().await.expect("begin");
        database.enqueue(&mut tx, &[message(number)]).await.expect("enqueue");
        database.commit(tx).await.expect("commit");
        assert_eq!(fixture.rows().await, i64::from(number) + 1, "committed when it returns");
    }
    let one = database.pool().acquire().await.expect("a connection");
    let two = database.pool().acquire().await.expect("another one");
    let open = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and state like 'idle in%'",
        fixture.test.name
    );
    assert_eq!(fixture.sql(&open).await, "0");
    drop((one, two));
    let log = fixture.test.server().log();
    assert!(!log.contains("no transaction in progress"), "{log}");
}

#[tokio::test]
async fn the_transaction_of_a_service_has_the_settings_of_the_service() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql("create table orders (total int)").await;
    let database = &fixture.database;
    let mut tx = database.begin().await.expect("begin");
    sqlx::query("insert into orders values (42)").execute(&mut *tx).await.expect("unqualified");
    let path: String = sqlx::query_scalar("select current_setting('search_path')")
        .fetch_one(&mut *tx)
        .await
        .expect("a setting");
    assert_eq!(path, "\"$user\", public");
    database.enqueue(&mut tx, &[message(1)]).await.expect("enqueue");
    database.commit(tx).await.expect("commit");
    let ours: String = sqlx::query_scalar("select current_setting('search_path')")
        .fetch_one(database.pool())
        .await
        .expect("a setting");
    assert_eq!(ours, "pg_catalog, pg_temp");
}

/// Polls a future a few times and drops it.
async fn dropped_after<F: Future>(polls: usize, future: F) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let poll =
            poll_fn(|context| Poll::Ready(future.as_mut().poll(context).map(drop).is_ready()));
        if poll.await {
            return;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_begin_that_is_dropped_half_way_leaves_no_connection_inside_a_transaction() {
    let Some(fixture) = Fixture::new().await else { return };
    let options = Options { connections: 2, ..Options::default() };
    let database = Postgres::open(&fixture.test.url(), options).expect("a good URL");
    for polls in 0..40 {
        // Both the right way, and the way that the driver does not survive by itself.
        dropped_after(polls, database.begin()).await;
        dropped_after(polls, database.pool().begin()).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(database.pool().acquire().await.expect("a connection"));
        }
        for connection in &mut held {
            let outside = sqlx::raw_sql("select now() = statement_timestamp() as outside");
            let row = outside.fetch_one(&mut **connection).await.expect("an answer");
            assert!(row.get::<bool, _>("outside"), "after {polls} polls");
        }
    }
}

#[tokio::test]
async fn a_pool_of_the_service_is_used_as_it_is() {
    let Some(fixture) = Fixture::new().await else { return };
    let pool = PgPoolOptions::new().max_connections(2).connect(&fixture.test.url()).await;
    let pool = pool.expect("a pool");
    let database = Postgres::new(pool.clone());
    let mut tx = pool.begin().await.expect("begin");
    database.enqueue(&mut tx, &[message(1), message(2)]).await.expect("enqueue");
    tx.commit().await.expect("commit");
    assert_eq!(fixture.rows().await, 2);
}

#[tokio::test]
async fn more_than_one_statement_can_take_is_written_whole_or_not_at_all() {
    let Some(fixture) = Fixture::new().await else { return };
    let many: Vec<_> = (0..25_000_u64)
        .map(|number| {
            let mut message = message(1);
            let mut random = [0; 10];
            random[2..].copy_from_slice(&number.to_be_bytes());
            message.id = posthaste_core::MessageId::v7(Timestamp::from_millis(1), random);
            message.key = Some(number.to_string());
            message
        })
        .collect();
    let mut tx = fixture.database.begin().await.expect("begin");
    fixture.database.enqueue(&mut tx, &many).await.expect("enqueue");
    fixture.database.commit(tx).await.expect("commit");
    let in_order = "select bool_and(key::bigint = seq - 1), count(*) from posthaste.outbox";
    assert_eq!(fixture.sql(in_order).await, "t|25000");
}
