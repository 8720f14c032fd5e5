//! Files that are not what they should be: each is one sentence that names what to do.

use std::fs;
use std::time::Duration;

use posthaste_core::StoreError;
use posthaste_core::database::{Monitor, Schema, Upkeep};
use posthaste_core::finding::Severity;
use posthaste_core::transaction::Transactional as _;
use posthaste_sqlite::{Options, Sqlite};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::fixture::{Fixture, message};

/// What the calls of a service, of the operator and of `doctor` say of a database.
async fn complaints(database: &Sqlite) -> Vec<String> {
    let mut said = vec![
        database.enqueue_alone(&[message(1)]).await.expect_err("a write").to_string(),
        database.migrate().await.expect_err("a migration").to_string(),
    ];
    let findings = database.findings().await;
    let worst = findings.iter().max_by_key(|finding| finding.severity).expect("a finding");
    assert_eq!(worst.severity, Severity::Problem, "{findings:?}");
    said.push(worst.what.clone());
    said
}

async fn all_say(database: &Sqlite, sentence: &str) {
    for said in complaints(database).await {
        assert!(said.contains(sentence) && !said.contains('\n'), "{sentence}: {said}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database() {
    let fixture = Fixture::unmigrated(Options { create: true, ..Options::default() });
    let text = "just some text, long enough to be a header of something else ".repeat(40);
    fs::write(fixture.path(), &text).expect("a file");
    all_say(&fixture.database, "is not a SQLite database").await;
    assert_eq!(fs::read_to_string(fixture.path()).expect("a file"), text, "left as it was");
}

#[tokio::test]
async fn a_folder_that_is_not_there_or_is_a_file() {
    let fixture = Fixture::unmigrated(Options::default());
    fs::write(fixture.path(), "x").expect("a file");
    for inner in ["missing/app.db", "app.db/app.db"] {
        let url = format!("sqlite://{}", fixture.folder.path().join(inner).display());
        let options = Options { create: true, ..Options::default() };
        let database = Sqlite::open(&url, options).expect("a good URL");
        all_say(&database, "there is no folder").await;
    }
    let url = format!("sqlite://{}", fixture.folder.path().display());
    let folder = Sqlite::open(&url, Options::default()).expect("a good URL");
    all_say(&folder, "is a folder; name a file in it").await;
}

#[tokio::test]
async fn a_file_that_cannot_be_written() {
    let fixture = Fixture::new().await;
    let url = format!("{}?mode=ro", fixture.url());
    let database = Sqlite::open(&url, Options::default()).expect("a good URL");
    let error = database.enqueue_alone(&[message(1)]).await.expect_err("read-only");
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("cannot be written"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_found() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let fixture = Fixture::unmigrated(Options { create: true, ..Options::default() });
    let folder = fixture.folder.path();
    let is_root = fs::metadata(folder).expect("a folder").uid() == 0;
    let mode = |bits| fs::set_permissions(folder, fs::Permissions::from_mode(bits));
    mode(0o555).expect("read-only");
    // Permissions do not bind root, for whom the finding is all there is to see.
    let migrated = fixture.database.migrate().await;
    let findings = fixture.database.findings().await;
    mode(0o755).expect("writable");
    assert!(findings.iter().any(|f| f.what.ends_with("is read-only")), "{findings:?}");
    if !is_root {
        let error = migrated.expect_err("read-only").to_string();
        assert!(error.contains("folder"), "{error}");
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_there() {
    let fixture = Fixture::new().await;
    fixture.state(&[None]).await;
    let pages = fixture.number("pragma page_count").await;
    let options = SqliteConnectOptions::new()
        .filename(fixture.path())
        .pragma("max_page_count", (pages + 2).to_string());
    let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
    let full = Sqlite::new(pool);
    let mut big = message(1);
    big.payload = posthaste_core::Payload::bytes(vec![1; 100_000]);
    let error = full.enqueue_alone(&[big]).await.expect_err("no room");
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(fixture.read().await.entries.len(), 1);
    full.enqueue_alone(&[message(2)]).await.expect("a small one still fits");
}

#[tokio::test]
async fn a_writer_that_holds_the_file_makes_it_unavailable_not_failed() {
    let fixture = Fixture::new().await;
    let options = Options { busy_timeout: Duration::from_millis(30), ..Options::default() };
    let hasty = Sqlite::open(&fixture.url(), options).expect("a good URL");
    let held = fixture.database.pool().begin_with("BEGIN IMMEDIATE").await.expect("begin");
    let error = hasty.enqueue_alone(&[message(1)]).await.expect_err("busy");
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("another program holds a transaction open"), "{error}");
    held.rollback().await.expect("rollback");
    hasty.enqueue_alone(&[message(1)]).await.expect("free again");
}

#[tokio::test]
async fn a_pool_without_free_connections_is_unavailable() {
    let fixture = Fixture::new().await;
    let options = SqliteConnectOptions::new().filename(fixture.path());
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_millis(50))
        .connect_lazy_with(options);
    let taken = pool.acquire().await.expect("the only one");
    let error = Sqlite::new(pool).status("default").await.expect_err("none left");
    assert!(error.is_transient(), "{error:?}");
    drop(taken);
}

/// Two connections that find no room for more than two pages, and a plain table.
async fn nearly_full() -> Fixture {
    let options = Options { create: true, connections: 2, ..Options::default() };
    let fixture = Fixture::unmigrated(options);
    fixture.database.migrate().await.expect("migrate");
    fixture.execute("create table plain (a)").await.expect("a table");
    let pages = fixture.number("pragma page_count").await;
    let mut both = Vec::new();
    for _ in 0..2 {
        both.push(fixture.database.pool().acquire().await.expect("a connection"));
    }
    for connection in &mut both {
        let pragma = format!("pragma max_page_count = {}", pages + 2);
        let query = sqlx::query(sqlx::AssertSqlSafe(pragma));
        query.execute(&mut **connection).await.expect("a limit");
    }
    fixture
}

/// SQLite ends the whole transaction here, not only the statement.
async fn overfill(connection: &mut sqlx::SqliteConnection) {
    let insert = sqlx::query("insert into plain values (zeroblob(100000))");
    let error = insert.execute(connection).await.expect_err("no room");
    assert!(error.to_string().contains("full"), "{error}");
}

#[tokio::test]
async fn a_transaction_that_sqlite_ended_spoils_no_connection_of_the_service() {
    let fixture = nearly_full().await;
    let pool = fixture.database.pool();
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.expect("begin");
    overfill(&mut tx).await;
    drop(tx);
    let mut begun = Vec::new();
    for _ in 0..2 {
        begun.push(pool.begin_with("BEGIN").await.expect("none remembers that transaction"));
    }
}

#[tokio::test]
async fn a_transaction_that_sqlite_ended_does_not_spoil_the_only_connection() {
    let fixture = nearly_full().await;
    let pages = fixture.number("pragma page_count").await;
    let options = SqliteConnectOptions::new()
        .filename(fixture.path())
        .pragma("max_page_count", (pages + 2).to_string());
    let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
    let database = Sqlite::new(pool);
    let mut tx = database.begin().await.expect("begin");
    overfill(&mut tx).await;
    drop(tx);
    for n in 1..=2 {
        database.enqueue_alone(&[message(n)]).await.expect("a small one still fits");
    }
}

#[tokio::test]
async fn a_long_list_whose_transaction_is_ended_says_why() {
    let fixture = Fixture::new().await;
    fixture
        .execute(
            "create trigger full before insert on posthaste_outbox when NEW.kind = 'last' \
             begin select raise(rollback, 'no room'); end",
        )
        .await
        .expect("a trigger");
    let mut messages: Vec<_> = (0..4000_u32)
        .map(|n| {
            let mut random = [0; 10];
            random[..4].copy_from_slice(&n.to_be_bytes());
            let mut message = message(1);
            message.id = posthaste_core::MessageId::v7(message.stated_at, random);
            message
        })
        .collect();
    messages[3999].kind = "last".to_owned();
    let error = fixture.database.enqueue_alone(&messages).await.expect_err("ended");
    assert!(error.to_string().contains("no room"), "{error}");
    assert_eq!(fixture.number("select count(*) from posthaste_outbox").await, 0);
}
