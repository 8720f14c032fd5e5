//! The tables: made once by however many processes, of the version that the program knows.

use posthaste_core::StoreError;
use posthaste_core::database::Schema;
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_postgres::{Options, Postgres, VERSION};
use posthaste_servers::postgres_or_skip;

use crate::fixture::{Fixture, message, shown};

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_migrate_at_once_and_one_does_it() {
    let Some(fixture) = Fixture::unmigrated(Options::default()).await else { return };
    assert_eq!(fixture.database.version().await.expect("version"), None);
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let database = fixture.second();
            tokio::spawn(async move { database.migrate().await.expect("migrate") })
        })
        .collect();
    let mut made = 0;
    for racer in racers {
        let migrated = racer.await.expect("a task");
        assert_eq!((migrated.to, migrated.notes), (VERSION, vec![]));
        made += u32::from(migrated.from.is_none());
    }
    assert_eq!(made, 1);
    assert_eq!(fixture.database.version().await.expect("version"), Some(VERSION));
}

#[tokio::test]
async fn the_script_makes_the_same_schema() {
    let Some(migrated) = Fixture::new().await else { return };
    let Some(scripted) = Fixture::unmigrated(Options::default()).await else { return };
    scripted.sql(&scripted.database.script()).await;
    assert_eq!(scripted.database.migrate().await.expect("migrate").from, Some(VERSION));
    let columns = "select table_name, column_name, data_type, column_default, is_nullable \
         from information_schema.columns where table_schema = 'posthaste' order by 1, 2";
    assert_eq!(scripted.sql(columns).await, migrated.sql(columns).await);
    let functions = "select oid::regprocedure, prosrc, proacl from pg_proc \
         where pronamespace = 'posthaste'::regnamespace order by 1";
    assert_eq!(scripted.sql(functions).await, migrated.sql(functions).await);
}

#[tokio::test]
async fn two_services_share_a_database_in_two_schemas() {
    let Some(fixture) = Fixture::new().await else { return };
    let url = format!("{}?schema=order", fixture.test.url());
    let other = Postgres::open(&url, Options::default()).expect("a good URL");
    assert_eq!(other.schema(), "order", "a keyword is as good as any name");
    other.migrate().await.expect("migrate");
    let mut tx = other.begin().await.expect("begin");
    other.enqueue(&mut tx, &[message(1)]).await.expect("enqueue");
    other.commit(tx).await.expect("commit");
    assert_eq!(fixture.sql("select count(*) from \"order\".outbox").await, "1");
    assert_eq!(fixture.rows().await, 0);
    let inside = "select \"order\".publish('a', 'b', 'x', headers => '{\"a\":\"b\"}')";
    fixture.sql(inside).await;
    assert_eq!(fixture.sql("select count(*) from \"order\".outbox").await, "2");
    let mentioned = "select count(*) from pg_proc p where pronamespace = '\"order\"'::regnamespace \
         and (prosrc like '%posthaste.%' or pg_get_functiondef(oid) like '%posthaste.%')";
    assert_eq!(fixture.sql(mentioned).await, "0");
    let schema = Options { schema: "No".to_owned(), ..Options::default() };
    assert!(shown(Postgres::open(&fixture.test.url(), schema)).contains("schema 'No'"));
}

#[tokio::test]
async fn a_payload_limit_is_raised_for_old_and_new_partitions_and_never_lowered() {
    let Some(fixture) = Fixture::new().await else { return };
    let large = |megabytes: usize| {
        let options = Options { payload_limit: megabytes << 20, ..Options::default() };
        Postgres::open(&fixture.test.url(), options).expect("a good URL")
    };
    let mut bytes = message(1);
    bytes.payload = vec![7; 2 << 20].into();
    let mut tx = large(2).begin().await.expect("begin");
    let refused = large(2).enqueue(&mut tx, &[bytes.clone()]).await;
    assert!(shown(refused).contains("raise it with posthaste migrate"));
    drop(tx);
    let notes = large(2).migrate().await.expect("migrate").notes;
    assert_eq!(notes, ["raised the payload limit to 2097152 bytes"]);
    assert_eq!(large(2).migrate().await.expect("again").notes, [""; 0]);
    assert_eq!(large(1).migrate().await.expect("a lower one").notes, [""; 0]);
    fixture.state(&[]).await;
    let mut tx = large(2).begin().await.expect("begin");
    large(2).enqueue(&mut tx, &[bytes]).await.expect("enqueue");
    large(2).commit(tx).await.expect("commit");
    let attach = "create table posthaste.later (like posthaste.outbox including all \
         excluding identity); \
         begin; alter table posthaste.outbox detach partition posthaste.outbox_overflow; \
         alter table posthaste.outbox attach partition posthaste.later \
           for values from (300001) to (300002); commit;";
    fixture.sql(attach).await;
    let odd = "select count(*) from pg_constraint c join pg_inherits i on i.inhrelid = c.conrelid \
         where i.inhparent = 'posthaste.outbox'::regclass and c.conname like '%payload_limit' \
         and (c.conislocal or pg_get_constraintdef(c.oid) not like '%2097152%')";
    assert_eq!(fixture.sql(odd).await, "0");
}

#[tokio::test]
async fn a_schema_that_is_missing_or_newer_is_named_with_what_to_do() {
    let Some(fixture) = Fixture::unmigrated(Options::default()).await else { return };
    let mut tx = fixture.database.begin().await.expect("begin");
    let missing = fixture.database.enqueue(&mut tx, &[message(1)]).await;
    assert!(matches!(missing, Err(StoreError::Schema { found: None, .. })), "{missing:?}");
    assert!(shown(missing).contains("posthaste migrate"));
    drop(tx);
    fixture.database.migrate().await.expect("migrate");
    fixture.sql("insert into posthaste.schema_version (version) values (99)").await;
    let newer = fixture.second().migrate().await;
    assert!(matches!(newer, Err(StoreError::Schema { found: Some(99), .. })), "{newer:?}");
}

#[tokio::test]
async fn a_sequence_with_a_cache_is_noted() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql("alter table posthaste.outbox alter column seq set cache 20").await;
    let notes = fixture.database.migrate().await.expect("migrate").notes;
    assert!(notes.len() == 1 && notes[0].contains("hands out 20 numbers at a time"), "{notes:?}");
}

#[tokio::test]
async fn a_migration_gives_up_on_a_lock_instead_of_stopping_the_writers() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut writer = fixture.database.begin().await.expect("begin");
    fixture.database.enqueue(&mut writer, &[message(1)]).await.expect("enqueue");
    let options = Options {
        payload_limit: 2 << 20,
        lock_timeout: std::time::Duration::from_millis(50),
        ..Options::default()
    };
    let impatient = Postgres::open(&fixture.test.url(), options).expect("a good URL");
    let refused = impatient.migrate().await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    fixture.database.commit(writer).await.expect("the writer goes on");
    impatient.migrate().await.expect("and now it can be done");
}

#[tokio::test]
async fn a_database_that_is_not_in_utf8_is_refused() {
    let Some(server) = postgres_or_skip().await else { return };
    let name = "latin";
    let create = format!("create database {name} template template0 encoding 'LATIN1' locale 'C'");
    server.psql("postgres", &create).await.expect("made");
    let database = Postgres::open(&server.url(name), Options::default()).expect("a good URL");
    assert!(shown(database.migrate().await).contains("stores text as LATIN1"));
}
