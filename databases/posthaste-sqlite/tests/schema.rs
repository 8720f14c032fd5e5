//! Creating, recognising and migrating the schema.

use posthaste_core::StoreError;
use posthaste_core::database::{Monitor, Schema, Upkeep};
use posthaste_core::finding::Severity;
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_sqlite::{Options, Sqlite, VERSION};

use crate::fixture::{Fixture, message};

fn creating() -> Options {
    Options { create: true, ..Options::default() }
}

#[tokio::test]
async fn nothing_but_migrate_creates_a_file_and_only_if_it_may() {
    let fixture = Fixture::unmigrated(Options::default());
    for error in [
        fixture.database.version().await.map(|_| ()).expect_err("no file"),
        fixture.database.enqueue_alone(&[message(1)]).await.expect_err("no file"),
        fixture.database.migrate().await.map(|_| ()).expect_err("not allowed"),
    ] {
        assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
        assert!(error.to_string().contains("run `posthaste migrate`"), "{error}");
    }
    fixture.database.findings().await;
    let allowed = Sqlite::open(&fixture.url(), creating()).expect("a good URL");
    allowed.version().await.expect_err("even where migrate may create it");
    assert!(!fixture.path().exists());
    let migrated = allowed.migrate().await.expect("migrate");
    assert_eq!((migrated.from, migrated.to), (None, VERSION));
    let notes = migrated.notes.join("; ");
    assert!(notes.contains("created the file") && notes.contains("to wal"), "{notes}");
    let again = allowed.migrate().await.expect("migrate again");
    assert_eq!((again.from, again.notes.len()), (Some(VERSION), 0));
    assert_eq!(fixture.database.version().await.expect("version"), Some(VERSION));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_migrate_at_once() {
    for _ in 0..5 {
        let fixture = Fixture::unmigrated(creating());
        let racers = (0..8).map(|_| {
            let database = Sqlite::open(&fixture.url(), creating()).expect("a good URL");
            tokio::spawn(async move { database.migrate().await })
        });
        let mut created = 0;
        for racer in racers.collect::<Vec<_>>() {
            let migrated = racer.await.expect("a task").expect("migrate");
            created += usize::from(migrated.from.is_none());
        }
        assert_eq!(created, 1);
        assert_eq!(fixture.text("pragma journal_mode").await, "wal");
        assert_eq!(fixture.number("select count(*) from posthaste_schema").await, 1);
    }
}

#[tokio::test]
async fn the_applications_own_tables_and_rows_stay() {
    let fixture = Fixture::unmigrated(creating());
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(fixture.path()).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("a new file");
    sqlx::query("create table orders as select 1 as n").execute(&pool).await.expect("a table");
    let database = Sqlite::new(pool);
    let migrated = database.migrate().await.expect("migrate while others are connected");
    assert_eq!(migrated.notes, ["switched the journal mode from delete to wal"]);
    assert_eq!(fixture.number("select n from orders").await, 1);
}

#[tokio::test]
async fn a_missing_an_older_and_a_newer_schema_are_told_apart() {
    let fixture = Fixture::new().await;
    for (change, found, advice) in [
        ("insert into posthaste_schema (version) values (99)", Some(99), "use a newer program"),
        ("update posthaste_schema set version = 0", Some(0), "run `posthaste migrate`"),
        ("drop table posthaste_schema", None, "run `posthaste migrate`"),
    ] {
        if found == Some(0) {
            fixture.execute("delete from posthaste_schema where version = 99").await.expect("x");
        }
        fixture.execute(change).await.expect(change);
        let database = fixture.second();
        assert_eq!(database.version().await.expect("version"), found);
        let mut tx = fixture.database.pool().begin().await.expect("begin");
        let errors = [
            database.enqueue_alone(&[message(1)]).await.expect_err(change),
            database.enqueue(&mut tx, &[message(1)]).await.expect_err(change),
            database.status("default").await.map(|_| ()).expect_err(change),
            database.begin().await.map(|_| ()).expect_err(change),
        ];
        drop(tx);
        for error in errors {
            let StoreError::Schema { found: there, needed, advice: said } = error else {
                panic!("{error:?}");
            };
            assert_eq!((there, needed), (found, VERSION));
            assert!(said.contains(advice), "{said}");
        }
        let findings = database.findings().await;
        assert!(findings.iter().any(|f| f.severity == Severity::Problem), "{findings:?}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_left_alone_by_migrate() {
    let fixture = Fixture::new().await;
    let newer = "insert into posthaste_schema (version) values (99)";
    fixture.execute(newer).await.expect("a newer version");
    let error = fixture.second().migrate().await.expect_err("newer");
    assert!(matches!(error, StoreError::Schema { found: Some(99), .. }), "{error:?}");
}

#[tokio::test]
async fn the_script_makes_the_same_schema() {
    let fixture = Fixture::new().await;
    let other = Fixture::unmigrated(creating());
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(other.path()).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("a new file");
    let script = sqlx::AssertSqlSafe(fixture.database.script());
    let mut connection = pool.acquire().await.expect("a connection");
    sqlx::raw_sql(script).execute(&mut *connection).await.expect("the script runs");
    let schema = "select group_concat(sql, '|') from (select sql from sqlite_master order by name)";
    assert_eq!(other.text(schema).await, fixture.text(schema).await);
    assert_eq!(other.database.version().await.expect("version"), Some(VERSION));
    assert_eq!(other.text("pragma journal_mode").await, "wal");
}

#[tokio::test]
async fn migrate_raises_the_payload_limit_of_the_table() {
    let fixture = Fixture::new().await;
    let options = Options { payload_limit: 3 * 1024 * 1024, ..Options::default() };
    let large = Sqlite::open(&fixture.url(), options).expect("a good URL");
    let mut big = message(1);
    big.payload = posthaste_core::Payload::bytes(vec![7; 2 * 1024 * 1024]);
    let error = large.enqueue_alone(std::slice::from_ref(&big)).await.expect_err("the table");
    assert!(error.to_string().contains("payload_limit"), "{error}");
    let findings = large.findings().await;
    assert!(findings.iter().any(|f| f.what.contains("payload_limit")), "{findings:?}");
    let notes = large.migrate().await.expect("migrate").notes;
    assert_eq!(notes, ["raised the payload limit to 3145728 bytes"]);
    large.enqueue_alone(&[big]).await.expect("now it fits");
    let notes = fixture.database.migrate().await.expect("migrate").notes;
    assert_eq!(notes, Vec::<String>::new(), "never lowered");
}

#[tokio::test]
async fn a_database_in_utf16_is_refused() {
    let fixture = Fixture::unmigrated(creating());
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(fixture.path()).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("a new file");
    let mut connection = pool.acquire().await.expect("a connection");
    for statement in ["pragma encoding = 'UTF-16le'", "create table t (a)"] {
        sqlx::query(statement).execute(&mut *connection).await.expect(statement);
    }
    let error = fixture.database.migrate().await.expect_err("UTF-16");
    assert!(error.to_string().contains("UTF-16le"), "{error}");
}

#[tokio::test]
async fn tables_that_vanish_under_a_running_program_are_a_schema_error() {
    let fixture = Fixture::new().await;
    fixture.database.enqueue_alone(&[message(1)]).await.expect("enqueue");
    fixture.execute("drop table posthaste_outbox").await.expect("by hand");
    let error = fixture.database.enqueue_alone(&[message(2)]).await.expect_err("no table");
    assert!(matches!(error, StoreError::Schema { .. }), "{error:?}");
    assert!(error.to_string().contains("posthaste_outbox"), "{error}");
}
