//! Every call dropped at every poll: what it did is done wholly or not at all, and no connection
//! goes back to the pool inside a transaction.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use posthaste_core::Checkpoint;
use posthaste_core::database::{Monitor, Upkeep};
use posthaste_core::dead_letter::DeadLetters;
use posthaste_core::inbox::{Attempts, Inbox, InboxUpkeep, InboxWindow};
use posthaste_core::lease::Leases;
use posthaste_core::outbox::{Feed, OutboxReader};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_sqlite::Options;

use crate::fixture::{ALL, Fixture, TO, dead, id, lane, message, retry, verdict};

/// Polls `future` up to `polls` times and then drops it; `None` if it was not done by then.
async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// A database with two connections.
async fn small() -> Fixture {
    let options = Options { create: true, connections: 2, ..Options::default() };
    let fixture = Fixture::unmigrated(options);
    posthaste_core::database::Schema::migrate(&fixture.database).await.expect("migrate");
    fixture
}

/// Takes every connection of the pool, which waits for whatever still runs on one, and shows that
/// each can begin a transaction.
async fn no_transaction_is_open(fixture: &Fixture) {
    let pool = fixture.database.pool();
    let mut connections = Vec::new();
    for _ in 0..2 {
        connections.push(pool.acquire().await.expect("a connection comes back"));
    }
    for connection in &mut connections {
        for statement in ["begin immediate", "rollback"] {
            sqlx::query(statement).execute(&mut **connection).await.expect(statement);
        }
    }
}

/// Drops `$call` after 0, 1, 2, … polls until it ends by itself, looking at the pool after each.
macro_rules! at_every_poll {
    ($fixture:ident, $call:expr) => {
        for polls in 0..10_000 {
            let done = polled($call, polls).await;
            no_transaction_is_open(&$fixture).await;
            if let Some(result) = done {
                result.expect(stringify!($call));
                assert!(polls > 0, "the call was dropped at least once");
                break;
            }
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn begin_and_every_call_with_a_transaction_of_its_own() {
    let fixture = small().await;
    fixture.state(&[Some("a"); 2]).await;
    let lease = fixture.lease().await;
    let database = &fixture.database;
    at_every_poll!(fixture, async { database.begin().await.map(drop) });
    at_every_poll!(fixture, database.checkpoint(&lane()));
    at_every_poll!(fixture, database.read(&lane(), &Checkpoint::start(), ALL));
    at_every_poll!(fixture, database.ready(&lane(), ALL));
    at_every_poll!(fixture, database.status(TO));
    at_every_poll!(fixture, database.renew(&lease, std::time::Duration::from_secs(60)));
    at_every_poll!(fixture, database.begin_attempt("shipping", id(1)));
    at_every_poll!(fixture, database.record_failure("shipping", id(1), 1, "no"));
    at_every_poll!(fixture, database.prune_sent(&lease, std::time::Duration::ZERO, 10));
    at_every_poll!(fixture, database.prune_inbox("shipping", InboxWindow::default(), 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_settlement_is_whole_or_not_there_and_can_be_repeated() {
    let fixture = small().await;
    fixture.state(&[Some("a"), Some("b")]).await;
    let lease = fixture.lease().await;
    let verdicts = || {
        vec![
            verdict(1, Feed::New, Some("a"), dead(true)),
            verdict(2, Feed::New, Some("b"), retry(1, 60_000)),
        ]
    };
    at_every_poll!(fixture, async {
        let whole = "select (select count(*) from posthaste_held) || ' ' || \
             (select count(*) from posthaste_dead_letter) || ' ' || \
             (select count(*) from posthaste_batch)";
        let there = fixture.text(whole).await;
        assert!(there == "0 0 0" || there == "2 1 1", "{there}");
        fixture.settle(&lease, 1, Some(2), verdicts()).await
    });
    assert_eq!(fixture.held().await, "1:parked 2:retry");
    assert_eq!(fixture.number("select count(*) from posthaste_dead_letter").await, 1);
    let letter = ["1".to_owned()];
    at_every_poll!(fixture, async {
        match fixture.database.repost(&letter, "ann").await {
            // A dropped call may have done it.
            Err(error) if error.to_string().contains("no dead letter") => Ok(()),
            other => other,
        }
    });
    assert_eq!(fixture.number("select count(*) from posthaste_audit").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_enqueue_or_accept_goes_with_its_transaction() {
    let fixture = small().await;
    let database = &fixture.database;
    let messages: Vec<_> = (0..20).map(message).collect();
    for polls in 0..10_000 {
        let mut tx = database.begin().await.expect("begin");
        let done = polled(database.enqueue(&mut tx, &messages), polls).await;
        drop(tx);
        no_transaction_is_open(&fixture).await;
        assert_eq!(fixture.number("select count(*) from posthaste_outbox").await, 0);
        if done.is_some() {
            break;
        }
    }
    for polls in 0..10_000 {
        let mut tx = database.begin().await.expect("begin");
        let done = polled(database.accept(&mut tx, "shipping", &[id(1), id(2)]), polls).await;
        drop(tx);
        no_transaction_is_open(&fixture).await;
        assert_eq!(fixture.number("select count(*) from posthaste_inbox").await, 0);
        if done.is_some() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_commit_is_a_commit_or_a_rollback() {
    let fixture = small().await;
    let database = &fixture.database;
    let pair = [message(1), message(2)];
    for polls in 0..10_000 {
        let mut tx = database.begin().await.expect("begin");
        database.enqueue(&mut tx, &pair).await.expect("enqueue");
        let done = polled(database.commit(tx), polls).await;
        no_transaction_is_open(&fixture).await;
        let there = fixture.number("select count(*) from posthaste_outbox").await;
        assert!(there == 0 || there == 2, "{there}");
        if let Some(result) = done {
            result.expect("commit");
            assert_eq!(there, 2);
            break;
        }
        fixture.execute("delete from posthaste_outbox").await.expect("by hand");
    }
    fixture.execute("delete from posthaste_outbox").await.expect("by hand");
    at_every_poll!(fixture, async {
        match database.enqueue_alone(&pair).await {
            Err(error) if error.to_string().contains("already") => Ok(()),
            other => other,
        }
    });
    assert_eq!(fixture.number("select count(*) from posthaste_outbox").await, 2);
}
