//! Reading past a checkpoint, and rows that are no messages.

use std::time::Duration;

use posthaste_core::database::{EntryFilter, Monitor, Upkeep};
use posthaste_core::dead_letter::{DeadFilter, DeadLetters};
use posthaste_core::finding::{Finding, Severity};
use posthaste_core::outbox::{Entry, Feed, OutboxReader, ReadLimit, Settled};
use posthaste_core::{Checkpoint, Verdict};

use crate::fixture::{Fixture, TO, dead, lane, retry, verdict};

#[tokio::test]
async fn limits_cut_a_batch_and_say_so() {
    let fixture = Fixture::new().await;
    fixture.state(&[None; 5]).await;
    let read = async |from: &Checkpoint, messages, bytes| {
        let limit = ReadLimit { messages, bytes };
        fixture.database.read(&lane(), from, limit).await.expect("a batch")
    };
    let start = Checkpoint::start();
    let two = read(&start, 2, 1 << 20).await;
    assert_eq!((two.entries.len(), two.more, two.checkpoint.as_str()), (2, true, "2"));
    let rest = read(&two.checkpoint, 3, 1 << 20).await;
    assert_eq!((rest.entries.len(), rest.more), (3, false));
    let one = read(&start, 5, 1).await;
    assert_eq!((one.entries.len(), one.more), (1, true), "at least one, whatever its size");
    let some = read(&start, 5, 600).await;
    assert_eq!((some.entries.len(), some.more), (3, true));
    let none = read(&rest.checkpoint, 5, 1).await;
    assert_eq!((none.entries.len(), none.more), (0, false));
    assert_eq!(none.checkpoint, rest.checkpoint);
}

#[tokio::test]
async fn what_is_uncommitted_or_rolled_back_is_not_read() {
    let fixture = Fixture::new().await;
    let mut tx = fixture.database.pool().begin().await.expect("begin");
    sqlx::query("insert into posthaste_outbox (topic, kind, payload) values ('a', 'b', 'c')")
        .execute(&mut *tx)
        .await
        .expect("insert");
    assert_eq!(fixture.read().await.entries.len(), 0);
    tx.rollback().await.expect("rollback");
    assert_eq!(fixture.read().await.entries.len(), 0);
}

#[tokio::test]
async fn a_row_that_is_not_due_says_how_long_it_takes() {
    let fixture = Fixture::new().await;
    fixture
        .execute(
            "insert into posthaste_outbox (topic, kind, payload, due_at) values \
             ('a', 'b', 'c', cast((julianday('now') - 2440587.5) * 86400000 as integer) + 60000), \
             ('a', 'b', 'c', 1700000000000)",
        )
        .await
        .expect("insert");
    let batch = fixture.read().await;
    let due_in = batch.entries[0].due_in.expect("not due");
    assert!(due_in > Duration::from_secs(50) && due_in <= Duration::from_secs(60), "{due_in:?}");
    assert_eq!(batch.entries[1].due_in, None);
}

#[tokio::test]
async fn a_key_with_held_entries_is_blocked_and_no_other() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a"), Some("a"), Some("b"), None]).await;
    let lease = fixture.lease().await;
    let failed = verdict(1, Feed::New, Some("a"), retry(1, 60_000));
    fixture.settle(&lease, 1, Some(1), vec![failed]).await.expect("settle");
    let blocked: Vec<bool> = fixture.read().await.entries.iter().map(|e| e.blocked).collect();
    assert_eq!(blocked, [true, false, false]);
}

#[tokio::test]
async fn a_row_of_nothing_but_nulls_is_read_like_any_other() {
    let fixture = Fixture::new().await;
    let mut connection = fixture.database.pool().acquire().await.expect("a connection");
    for statement in [
        "pragma ignore_check_constraints = on",
        "insert into posthaste_outbox (topic) values (null)",
        "pragma ignore_check_constraints = off",
    ] {
        sqlx::query(statement).execute(&mut *connection).await.expect(statement);
    }
    drop(connection);
    let batch = fixture.read().await;
    assert_eq!((batch.entries.len(), batch.more, batch.checkpoint.as_str()), (1, false, "1"));
    assert!(batch.entries[0].body.is_err());
}

#[tokio::test]
async fn rows_written_past_the_checks_are_answers_and_block_nothing() {
    let fixture = Fixture::new().await;
    fixture.execute("drop trigger posthaste_outbox_headers").await.expect("by hand");
    let mut connection = fixture.database.pool().acquire().await.expect("a connection");
    for statement in [
        "pragma ignore_check_constraints = on",
        "insert into posthaste_outbox (topic, kind, payload, id) values ('a', 'b', 'c', 'x')",
        "insert into posthaste_outbox (topic, kind, payload) values (cast(x'ff' as text), 'b', '')",
        "insert into posthaste_outbox (kind, payload) values ('b', 'c')",
        "insert into posthaste_outbox (topic, kind, payload) values ('a', 'b', 42)",
        "insert into posthaste_outbox (topic, kind, payload) values ('a', 'b', null)",
        "insert into posthaste_outbox (topic, kind, payload, headers) values ('a', 'b', '', '[1]')",
        "insert into posthaste_outbox (topic, kind, payload, key) values ('a', 'b', '', x'ff')",
        "insert into posthaste_outbox (topic, kind, payload, due_at) values ('a', 'b', '', 'x')",
        "insert into posthaste_outbox (topic, kind, payload, stated_at) values ('a', 'b', '', 'x')",
        "insert into posthaste_outbox (topic, kind, payload) values ('a', 'b', 'good')",
        "pragma ignore_check_constraints = off",
    ] {
        sqlx::query(statement).execute(&mut *connection).await.expect(statement);
    }
    drop(connection);
    let entries = fixture.read().await.entries;
    let details: Vec<String> = entries
        .iter()
        .map(|entry| match &entry.body {
            Ok(message) => message.payload.as_text().unwrap_or_default().to_owned(),
            Err(malformed) => malformed.detail.clone(),
        })
        .collect();
    for (detail, expected) in details.iter().zip([
        "id: a message id is a UUID",
        "topic is not UTF-8",
        "topic is missing",
        "payload is integer",
        "payload is null",
        "headers are not a JSON object of strings",
        "key is not UTF-8",
        "due_at is text",
        "stated_at is text",
        "good",
    ]) {
        assert!(detail.contains(expected), "{expected}: {detail}");
    }
    assert_eq!(entries.len(), 10);
}

/// Values of every type, none of which any column of a message is to hold.
const NONSENSE: [&str; 8] = [
    "1e300",
    "1.8e12 + 0.5",
    "-1",
    "9223372036854775807",
    "x'00ff'",
    "cast(x'ff' as text)",
    "''",
    "null",
];

#[tokio::test]
async fn no_value_in_any_column_stops_what_reads_the_outbox() {
    let fixture = Fixture::new().await;
    fixture.execute("drop trigger posthaste_outbox_headers").await.expect("by hand");
    let mut connection = fixture.database.pool().acquire().await.expect("a connection");
    let columns =
        ["id", "topic", "kind", "key", "content_type", "stated_at", "due_at", "headers", "payload"];
    let mut rows = 0;
    let past_the_checks = sqlx::query("pragma ignore_check_constraints = on");
    past_the_checks.execute(&mut *connection).await.expect("a pragma");
    for column in columns {
        for value in NONSENSE {
            let mut all = vec![("topic", "'a'"), ("kind", "'b'"), ("payload", "'c'")];
            all.retain(|(name, _)| *name != column);
            all.push((column, value));
            let (names, values): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            let (names, values) = (names.join(","), values.join(","));
            let insert = format!("insert into posthaste_outbox ({names}) values ({values})");
            let query = sqlx::query(sqlx::AssertSqlSafe(insert.clone()));
            query.execute(&mut *connection).await.expect(&insert);
            rows += 1;
        }
    }
    let back = sqlx::query("pragma ignore_check_constraints = off");
    back.execute(&mut *connection).await.expect("a pragma");
    drop(connection);
    fixture.state(&[None]).await;
    rows += 1;

    let entries = fixture.read().await.entries;
    assert_eq!(entries.len(), rows);
    let database = &fixture.database;
    database.status(TO).await.expect("the status");
    let all = EntryFilter { destination: TO.to_owned(), limit: 1000, ..EntryFilter::default() };
    assert_eq!(database.entries(&all).await.expect("the list").len(), rows);
    let problem = |finding: &Finding| finding.severity == Severity::Problem;
    let findings = database.findings().await;
    assert!(!findings.iter().any(problem), "{findings:?}");

    // Every row through the side table, and those that are no messages to the dead letters.
    let lease = fixture.lease().await;
    let settled = |entry: &Entry, feed, good: Verdict| {
        let message = entry.body.as_ref().ok();
        let address = message.map(|message| (message.topic.clone(), message.key.clone()));
        let verdict = if address.is_some() { good } else { dead(true) };
        Settled { position: entry.position.clone(), feed, address, verdict }
    };
    let first = entries.iter().map(|entry| settled(entry, Feed::New, retry(1, 0))).collect();
    let reached = i64::try_from(rows).expect("few");
    fixture.settle(&lease, 1, Some(reached), first).await.expect("settle");
    let ready = fixture.ready().await.entries;
    let second = ready.iter().map(|entry| settled(entry, Feed::Ready, Verdict::Sent)).collect();
    fixture.settle(&lease, 2, None, second).await.expect("settle");
    assert_eq!(fixture.held().await, "");
    let malformed = entries.iter().filter(|entry| entry.body.is_err()).count();
    let letters = database.list(&DeadFilter { limit: 1000, ..DeadFilter::default() }).await;
    assert_eq!(letters.expect("letters").len(), malformed);
    database.status(TO).await.expect("the status");
    database.prune_sent(&lease, Duration::from_secs(60), 100).await.expect("prune");
}

#[tokio::test]
async fn the_first_of_a_line_is_found_also_if_it_is_ready_since_later() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a"), Some("a")]).await;
    let lease = fixture.lease().await;
    let both = vec![
        verdict(1, Feed::New, Some("a"), retry(1, 0)),
        verdict(2, Feed::New, Some("a"), retry(1, 0)),
    ];
    fixture.settle(&lease, 1, Some(2), both).await.expect("settle");
    // The first of the line may be sent since later than all others.
    let later = "update posthaste_held set ready_at = ready_at - (seq = 2)";
    fixture.execute(later).await.expect("by hand");
    let limit = ReadLimit { messages: 1, bytes: 1 << 20 };
    let one = fixture.database.ready(&lane(), limit).await.expect("what is ready");
    assert_eq!((one.entries[0].position.as_str(), one.more), ("1", true));
}

#[tokio::test]
async fn of_many_that_are_ready_those_that_wait_longest_are_looked_at_first() {
    let fixture = Fixture::new().await;
    fixture.state(&[None; 300]).await;
    let lease = fixture.lease().await;
    let all = (1..=300).map(|seq| verdict(seq, Feed::New, None, retry(1, 0))).collect();
    fixture.settle(&lease, 1, Some(300), all).await.expect("settle");
    let reversed = "update posthaste_held set ready_at = ready_at - seq";
    fixture.execute(reversed).await.expect("by hand");
    let limit = ReadLimit { messages: 10, bytes: 1 << 20 };
    let ten = fixture.database.ready(&lane(), limit).await.expect("what is ready");
    let seqs: Vec<i64> =
        ten.entries.iter().map(|entry| entry.position.as_str().parse().expect("seq")).collect();
    assert_eq!((seqs.len(), ten.more), (10, true));
    assert!(seqs.is_sorted() && seqs[0] > 200, "the cost follows the limit: {seqs:?}");
}
