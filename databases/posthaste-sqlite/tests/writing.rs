//! The writer: one statement in the caller's own transaction.

use posthaste_core::outbox::OutboxReader;
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Checkpoint, Headers, Message, Payload, StoreError, Timestamp};
use posthaste_sqlite::Sqlite;

use crate::fixture::{ALL, Fixture, lane, message};

fn full(n: u8) -> Message {
    let mut message = message(n);
    message.key = Some(format!("key {n} ü"));
    message.headers = Headers::from_iter([("trace-id", "a\"b\\c"), ("empty", "")]);
    message.content_type = Some("application/json".to_owned());
    message.due_at = Some(Timestamp::from_millis(1_790_000_000_000));
    message
}

async fn all(database: &Sqlite) -> Vec<Message> {
    let batch = database.read(&lane(), &Checkpoint::start(), ALL).await.expect("a batch");
    batch.entries.into_iter().map(|entry| entry.body.expect("a message")).collect()
}

#[tokio::test]
async fn a_users_own_transaction_is_given_as_it_is() {
    let fixture = Fixture::new().await;
    let outbox = fixture.database.clone();
    let mut bytes = full(3);
    bytes.payload = Payload::bytes(vec![0xff, 0, 1]);
    let messages = [full(1), message(2), bytes];
    let mut tx = outbox.pool().begin().await.expect("a transaction");
    sqlx::query("create table orders (n)").execute(&mut *tx).await.expect("a statement");
    outbox.enqueue(&mut tx, &messages).await.expect("enqueue");
    tx.commit().await.expect("commit");
    assert_eq!(all(&outbox).await, messages);
    let types = fixture.text("select group_concat(typeof(payload)) from posthaste_outbox").await;
    assert_eq!(types, "text,text,blob");
}

#[tokio::test]
async fn a_rollback_takes_the_messages_along() {
    let fixture = Fixture::new().await;
    let mut tx = fixture.database.begin().await.expect("begin");
    fixture.database.enqueue(&mut tx, &[message(1)]).await.expect("enqueue");
    drop(tx);
    assert_eq!(all(&fixture.database).await, []);
}

#[tokio::test]
async fn one_bad_message_keeps_all_from_being_written() {
    let fixture = Fixture::new().await;
    let mut cases = Vec::new();
    for (wrong, sentence) in [
        ("topic", "must be 1 to 200"),
        ("reserved", "is reserved"),
        ("due", "after the year 5138"),
        ("payload", "the limit is 1048576"),
        ("id", "in the outbox already"),
    ] {
        let mut bad = message(2);
        match wrong {
            "topic" => bad.topic = "a b".to_owned(),
            "reserved" => drop(bad.headers.insert("posthaste-x", "1")),
            "due" => bad.due_at = Some(Timestamp::from_millis(100_000_000_000_000)),
            "payload" => bad.payload = Payload::bytes(vec![0; 1024 * 1024 + 1]),
            _ => bad.id = message(1).id,
        }
        cases.push((bad, sentence));
    }
    let mut tx = fixture.database.begin().await.expect("begin");
    for (bad, sentence) in cases {
        let error = fixture.database.enqueue(&mut tx, &[message(1), bad]).await;
        let error = error.expect_err(sentence);
        assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
        assert!(error.to_string().contains(sentence), "{error}");
    }
    fixture.database.enqueue(&mut tx, &[]).await.expect("nothing");
    fixture.database.commit(tx).await.expect("the transaction is still good");
    assert_eq!(all(&fixture.database).await, []);
}

#[tokio::test]
async fn lists_above_the_limit_of_parameters_are_all_or_nothing() {
    let fixture = Fixture::new().await;
    let mut messages: Vec<Message> = (0..4000_u32)
        .map(|n| {
            let mut random = [0; 10];
            random[..4].copy_from_slice(&n.to_be_bytes());
            let at = Timestamp::from_millis(1_790_000_000_000);
            let id = posthaste_core::MessageId::v7(at, random);
            Message::new(id, "orders", "placed", "x", at)
        })
        .collect();
    let duplicate = messages[3999].id;
    messages[3999].id = messages[0].id;
    let mut tx = fixture.database.begin().await.expect("begin");
    let error = fixture.database.enqueue(&mut tx, &messages).await.expect_err("a duplicate");
    assert!(error.to_string().contains("already"), "{error}");
    let count: i64 = sqlx::query_scalar("select count(*) from posthaste_outbox")
        .fetch_one(&mut *tx)
        .await
        .expect("a count");
    assert_eq!(count, 0);
    messages[3999].id = duplicate;
    fixture.database.enqueue(&mut tx, &messages).await.expect("enqueue");
    fixture.database.commit(tx).await.expect("commit");
    assert_eq!(all(&fixture.database).await, messages);
}
