//! A server that is killed and comes back: nothing is lost, and nothing is read twice.

use std::collections::BTreeSet;

use posthaste_core::database::Schema;
use posthaste_core::outbox::{OutboxReader, ReadLimit};
use posthaste_core::{Checkpoint, Lane, StoreError};
use posthaste_postgres::{Options, Postgres};
use posthaste_servers::PostgresOptions;

const ALL: ReadLimit = ReadLimit { messages: 10_000, bytes: 1 << 30 };

/// Reads on and notes the payloads; none may come twice. A server that was away is asked again. A
/// cursor that the server has outlived is left, and what it had read is gone on from as if it had
/// been stored; returns whether that was so.
async fn read(
    database: &Postgres,
    checkpoint: &mut Checkpoint,
    seen: &mut BTreeSet<String>,
) -> bool {
    let mut outlived = false;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    let batch = loop {
        match database.read(&Lane::whole("default"), checkpoint, ALL).await {
            Ok(batch) => break batch,
            Err(StoreError::Fenced) => {
                let stored = checkpoint.as_str().split('@').next().expect("there is a first part");
                *checkpoint = Checkpoint::new(stored);
                outlived = true;
            }
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                assert!(tokio::time::Instant::now() < deadline, "{error}");
            }
        }
    };
    for entry in batch.entries {
        let message = entry.body.expect("a message");
        let payload = message.payload.as_text().expect("text").to_owned();
        assert!(seen.insert(payload.clone()), "{payload} came twice");
    }
    *checkpoint = batch.checkpoint;
    outlived
}

fn insert(from: u32, to: u32) -> String {
    format!(
        "insert into posthaste.outbox (topic, kind, payload) \
         select 'orders', 'placed', g from generate_series({from}, {to}) g;"
    )
}

#[tokio::test]
async fn prepared_transactions_and_numbers_that_are_skipped_survive_a_crash() {
    if posthaste_servers::postgres_or_skip().await.is_none() {
        return;
    }
    let server = posthaste_servers::Postgres::start(PostgresOptions::new()).await;
    let test = server.database().await;
    let database = Postgres::open(&test.url(), Options::default()).expect("a good URL");
    database.migrate().await.expect("migrate");
    let (mut checkpoint, mut seen) = (Checkpoint::start(), BTreeSet::new());
    let sql = async |statements: String| test.psql(&statements).await.expect("a statement");
    sql(format!("begin; {} prepare transaction 'a';", insert(1, 5))).await;
    sql(insert(6, 20)).await;
    sql(format!("begin; {} prepare transaction 'b';", insert(21, 25))).await;
    assert!(!read(&database, &mut checkpoint, &mut seen).await);
    assert_eq!(seen.len(), 15);
    server.kill().await;
    server.restart().await;
    sql(insert(26, 30)).await;
    assert!(read(&database, &mut checkpoint, &mut seen).await, "it was killed");
    assert_eq!(seen.len(), 20);
    sql("commit prepared 'a'".to_owned()).await;
    server.kill().await;
    server.restart().await;
    sql("commit prepared 'b'".to_owned()).await;
    sql(insert(31, 40)).await;
    assert!(read(&database, &mut checkpoint, &mut seen).await, "and again");
    assert_eq!(seen.len(), 40, "{seen:?}");
}
