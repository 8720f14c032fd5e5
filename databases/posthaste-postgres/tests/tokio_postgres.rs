//! The writer over `tokio-postgres`: one round trip, and no commit that is none.

use std::pin::pin;
use std::time::Duration;

use posthaste_core::outbox::Signal;
use posthaste_core::{Payload, StoreError, Timestamp};
use posthaste_postgres::{Options, TokioOutbox};
use posthaste_servers::{Direction, Proxy};
use tokio_postgres::{Client, NoTls};

use crate::fixture::{Fixture, id, message, shown};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn outbox() -> TokioOutbox {
    TokioOutbox::new(&Options::default()).expect("a good schema")
}

#[tokio::test]
async fn what_is_written_stands_in_the_columns_as_it_was_given() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut client = connect(&fixture.test.url()).await;
    let mut full = message(1);
    full.key = Some("k".to_owned());
    full.headers.insert("trace", "x");
    full.content_type = Some("text/plain".to_owned());
    full.due_at = Some(Timestamp::from_micros(1_800_000_000_000_001));
    let mut bytes = message(2);
    bytes.payload = Payload::bytes(vec![0, 0xff]);
    let prepared = outbox().prepared(&client).await.expect("prepared");
    for outbox in [outbox(), prepared] {
        let tx = outbox.begin(&mut client).await.expect("begin");
        outbox.enqueue(&*tx, &[message(3)]).await.expect("enqueue");
        outbox.commit(tx, &[full.clone(), bytes.clone()]).await.expect("commit");
    }
    let there = "select id, key, content_type, extract(epoch from due_at) * 1000000, headers, \
         payload, payload_bytes from posthaste.outbox order by seq";
    let round = format!(
        "{}||||{{}}|x|\n{}|k|text/plain|1800000000000001.000000|{{\"trace\": \"x\"}}|x|\n\
         {}||||{{}}||\\x00ff",
        id(3),
        id(1),
        id(2)
    );
    assert_eq!(fixture.sql(there).await, format!("{round}\n{round}"));
}

#[tokio::test]
async fn a_failed_insert_makes_the_commit_a_rollback_and_is_the_error() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql("create table orders (total int)").await;
    let mut client = connect(&fixture.test.url()).await;
    let outbox = TokioOutbox::new(&Options { payload_limit: 4 << 20, ..Options::default() });
    let outbox = outbox.expect("a good schema").prepared(&client).await.expect("prepared");
    let mut large = message(1);
    large.payload = "x".repeat(2 << 20).into();
    let tx = outbox.begin(&mut client).await.expect("begin");
    tx.execute("insert into orders values (1)", &[]).await.expect("insert");
    let refused = outbox.commit(tx, &[large]).await;
    assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{refused:?}");
    assert!(shown(refused).contains("payload is over the payload_limit"));
    assert_eq!(fixture.sql("select count(*) from orders").await, "0");
    assert_eq!(fixture.rows().await, 0);
    let tx = outbox.begin(&mut client).await.expect("the connection is as good as new");
    outbox.commit(tx, &[message(2)]).await.expect("commit");
    assert_eq!(fixture.rows().await, 1);
    let log = fixture.test.server().log();
    assert!(!log.contains("no transaction in progress"), "{log}");
}

#[tokio::test]
async fn a_transaction_that_an_error_has_ended_does_not_seem_committed() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut client = connect(&fixture.test.url()).await;
    for messages in [vec![], vec![message(1)]] {
        let tx = outbox().begin(&mut client).await.expect("begin");
        assert!(tx.batch_execute("select 1 / 0").await.is_err());
        let refused = outbox().commit(tx, &messages).await;
        assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{refused:?}");
        assert!(shown(refused).contains("an earlier statement"));
    }
    assert_eq!(fixture.rows().await, 0);
}

#[tokio::test]
async fn a_refusal_by_the_limits_leaves_the_transaction_as_it_was() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut client = connect(&fixture.test.url()).await;
    let outbox = outbox();
    let tx = outbox.begin(&mut client).await.expect("begin");
    let mut bad = message(1);
    bad.kind = "not a kind".to_owned();
    assert!(outbox.enqueue(&*tx, &[message(2), bad]).await.is_err());
    assert!(outbox.enqueue(&*tx, &[message(3), message(3)]).await.is_err(), "given twice");
    outbox.enqueue(&*tx, &[message(4)]).await.expect("enqueue");
    drop(tx);
    let tx = outbox.begin(&mut client).await.expect("begin");
    outbox.commit(tx, &[message(5)]).await.expect("commit");
    assert_eq!(fixture.sql("select id from posthaste.outbox").await, id(5).to_string());
}

#[tokio::test]
async fn a_commit_with_messages_waits_for_no_answer_in_between() {
    let Some(fixture) = Fixture::new().await else { return };
    let proxy = Proxy::before(fixture.test.server().port()).await.expect("a proxy");
    let url = proxy.url(&fixture.test.url());
    let mut client = connect(&url).await;
    for outbox in [outbox(), outbox().prepared(&client).await.expect("prepared")] {
        let before = fixture.rows().await;
        let tx = outbox.begin(&mut client).await.expect("begin");
        let messages = [message(1)];
        proxy.stall(Direction::ToClient);
        let committed = {
            let mut commit = pin!(outbox.commit(tx, &messages));
            let arrived = async {
                while fixture.rows().await == before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                done = &mut commit => panic!("no answer came through, and yet {done:?}"),
                arrived = tokio::time::timeout(Duration::from_secs(20), arrived) => {
                    arrived.expect("it was committed although no answer came back");
                }
            }
            proxy.heal().await;
            commit.await
        };
        committed.expect("commit");
    }
}

#[tokio::test]
async fn a_relay_beside_it_hears_of_a_commit_at_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let mut client = connect(&fixture.test.url()).await;
    let outbox = TokioOutbox::beside(&fixture.database);
    fixture.database.changed().await;
    let tx = outbox.begin(&mut client).await.expect("begin");
    outbox.commit(tx, &[message(1)]).await.expect("commit");
    let heard = tokio::time::timeout(Duration::from_secs(20), fixture.database.changed()).await;
    heard.expect("it was told");
}
