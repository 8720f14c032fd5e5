//! The inbox: first and before, races, attempts, burials, windows.

use std::time::Duration;

use posthaste_core::inbox::Acceptance::{Before, First};
use posthaste_core::inbox::{Acceptance, Attempts, Burial, Inbox, InboxUpkeep, InboxWindow};
use posthaste_core::transaction::Transactional;
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Message, Payload};
use posthaste_postgres::Postgres;

use crate::fixture::{Fixture, id, message};

fn burial() -> Burial {
    Burial { reason: DeadReason::Rejected, detail: "no such item\0".to_owned(), attempts: 4 }
}

async fn bury(database: &Postgres, message: &Message) {
    let mut tx = database.begin().await.expect("begin");
    database.bury(&mut tx, "shipping", message, &burial()).await.expect("bury");
    database.commit(tx).await.expect("commit");
}

async fn accept(database: &Postgres, numbers: &[u8]) -> Vec<Acceptance> {
    let ids: Vec<_> = numbers.iter().map(|n| id(*n)).collect();
    let mut tx = database.begin().await.expect("begin");
    let accepted = database.accept(&mut tx, "shipping", &ids).await.expect("accept");
    database.commit(tx).await.expect("commit");
    accepted
}

/// What an operator's repost does to the tables.
const REPOST: &str = "delete from posthaste.inbox where outcome = 'dead'; \
     update posthaste.dead_letter set state = 'reposted'";

#[tokio::test]
async fn each_id_is_first_once_in_order_also_within_one_list() {
    let Some(fixture) = Fixture::new().await else { return };
    assert_eq!(accept(&fixture.database, &[1]).await, [First]);
    assert_eq!(accept(&fixture.database, &[2, 1, 3, 2]).await, [First, Before, First, Before]);
    assert_eq!(accept(&fixture.database, &[]).await, []);
    for _ in 0..2 {
        let mut tx = fixture.database.begin().await.expect("begin");
        let other = fixture.database.accept(&mut tx, "billing", &[id(1)]).await.expect("accept");
        assert_eq!(other, [First], "consumers do not see one another's; rolled back each time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_acceptances_that_commit_one_is_first() {
    let Some(fixture) = Fixture::new().await else { return };
    for round in 0..10 {
        let race: Vec<_> = (0..4)
            .map(|racer| {
                let database = fixture.second();
                // The same ids in another order must not block each other.
                let mut ids = vec![round, round + 100];
                ids.rotate_left(racer % 2);
                tokio::spawn(async move { accept(&database, &ids).await })
            })
            .collect();
        let mut first = 0;
        for racer in race {
            let accepted = racer.await.expect("a task");
            first += accepted.iter().filter(|acceptance| **acceptance == First).count();
        }
        assert_eq!(first, 2);
    }
}

#[tokio::test]
async fn a_transaction_that_an_error_has_ended_holds_no_acceptance() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    let mut tx = database.begin().await.expect("begin");
    database.accept(&mut tx, "shipping", &[id(1)]).await.expect("accept");
    assert!(database.holds(&mut tx, "shipping", id(1)).await.expect("holds"));
    assert!(!database.holds(&mut tx, "shipping", id(2)).await.expect("holds"));
    assert!(sqlx::query("select 1 / 0").execute(&mut *tx).await.is_err());
    assert!(!database.holds(&mut tx, "shipping", id(1)).await.expect("an answer, not an error"));
}

#[tokio::test]
async fn what_another_was_done_with_is_not_buried_and_ones_own_acceptance_is() {
    let Some(fixture) = Fixture::new().await else { return };
    assert_eq!(accept(&fixture.database, &[1]).await, [First]);
    bury(&fixture.database, &message(1)).await;
    let count = "select count(*) from posthaste.dead_letter";
    assert_eq!(fixture.sql(count).await.trim(), "0", "it was handled");

    let mut tx = fixture.database.begin().await.expect("begin");
    fixture.database.accept(&mut tx, "shipping", &[id(2)]).await.expect("accept");
    fixture.database.bury(&mut tx, "shipping", &message(2), &burial()).await.expect("bury");
    fixture.database.commit(tx).await.expect("commit");
    assert_eq!(fixture.sql(count).await.trim(), "1");
}

#[tokio::test]
async fn attempts_are_counted_and_forgotten_with_acceptance() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    assert_eq!(database.begin_attempt("shipping", id(1)).await.expect("begin"), 1);
    assert_eq!(database.begin_attempt("shipping", id(1)).await.expect("begin"), 2);
    database.record_failure("shipping", id(1), 2, "once").await.expect("record");
    database.record_failure("shipping", id(1), 3, "twice\0").await.expect("not begun, counted");
    assert_eq!(database.begin_attempt("shipping", id(1)).await.expect("begin"), 4);
    let said = "select string_agg(h ->> 'detail', ',') || '.' from posthaste.attempt, \
         jsonb_array_elements(history) h";
    assert_eq!(fixture.sql(said).await, "once,twice .");
    for attempt in 5..40 {
        database.record_failure("shipping", id(1), attempt, "again").await.expect("record");
    }
    let kept = "select jsonb_array_length(history), history -> -1 ->> 'attempt', \
         abs((history -> -1 ->> 'at')::bigint - extract(epoch from now()) * 1000000) < 60000000 \
         from posthaste.attempt";
    assert_eq!(fixture.sql(kept).await, "20|39|t");
    accept(database, &[1]).await;
    assert_eq!(database.begin_attempt("shipping", id(1)).await.expect("begin"), 1);
}

#[tokio::test]
async fn a_buried_message_is_kept_whole_and_comes_back_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    let mut buried = message(1);
    buried.key = Some("7".to_owned());
    buried.payload = Payload::bytes(vec![0xff, 0]);
    database.record_failure("shipping", buried.id, 1, "first time").await.expect("record");
    bury(database, &buried).await;
    bury(database, &buried).await;
    let letter = "select side, name, reason, detail, attempts, state, history -> 0 ->> 'detail', \
         payload_bytes, (select count(*) from posthaste.attempt) from posthaste.dead_letter";
    let expected = "consumer|shipping|rejected|no such item |4|dead|first time|\\xff00|0";
    assert_eq!(fixture.sql(letter).await, expected, "a second burial is the same letter");
    assert_eq!(accept(database, &[1]).await, [Before]);

    fixture.sql(REPOST).await;
    let back = database.reposted("shipping", 10).await.expect("reposted");
    assert_eq!(back, std::slice::from_ref(&buried));
    assert_eq!(database.reposted("billing", 10).await.expect("reposted"), []);
    assert_eq!(accept(database, &[1]).await, [First], "once more");
    assert_eq!(accept(database, &[1]).await, [Before]);
    assert_eq!(database.reposted("shipping", 10).await.expect("reposted"), []);
}

#[tokio::test]
async fn a_reposted_message_that_fails_again_is_one_letter() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    bury(database, &message(1)).await;
    fixture.sql(REPOST).await;
    bury(database, &message(1)).await;
    assert_eq!(database.reposted("shipping", 10).await.expect("reposted"), []);
    assert_eq!(fixture.sql("select state from posthaste.dead_letter").await, "dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_burials_at_once_are_one_letter() {
    let Some(fixture) = Fixture::new().await else { return };
    for round in 0..10 {
        let race: Vec<_> = (0..3)
            .map(|_| {
                let database = fixture.second();
                tokio::spawn(async move { bury(&database, &message(round)).await })
            })
            .collect();
        for racer in race {
            racer.await.expect("a task");
        }
    }
    assert_eq!(fixture.sql("select count(*) from posthaste.dead_letter").await, "10");
}

#[tokio::test]
async fn windows_forget_by_age_and_by_count_but_never_the_dead() {
    let Some(fixture) = Fixture::new().await else { return };
    let database = &fixture.database;
    accept(database, &[1, 2, 3, 4, 5, 6]).await;
    bury(database, &message(7)).await;
    database.begin_attempt("shipping", id(9)).await.expect("begin");
    fixture
        .sql(
            "update posthaste.inbox set done_at = done_at - interval '10 s' where id in \
               (select id from posthaste.inbox order by id limit 3); \
             update posthaste.inbox set done_at = 'epoch' where outcome = 'dead'; \
             update posthaste.attempt set last_at = last_at - interval '10 s'",
        )
        .await;
    let old = InboxWindow { age: Duration::from_secs(5), count: None };
    assert_eq!(database.prune_inbox("shipping", old, 2).await.expect("prune"), 2, "the limit");
    assert_eq!(database.prune_inbox("shipping", old, 9).await.expect("prune"), 1);
    assert_eq!(fixture.sql("select count(*) from posthaste.attempt").await, "0");
    let few = InboxWindow { age: Duration::from_secs(3600), count: Some(2) };
    assert_eq!(database.prune_inbox("shipping", few, 9).await.expect("prune"), 1);
    assert_eq!(database.prune_inbox("shipping", few, 9).await.expect("prune"), 0);
    let forever = InboxWindow { age: Duration::MAX, count: Some(u64::MAX) };
    assert_eq!(database.prune_inbox("shipping", forever, usize::MAX).await.expect("prune"), 0);
    let left = "select string_agg(outcome, ',' order by outcome) from posthaste.inbox";
    assert_eq!(fixture.sql(left).await, "dead,done,done");
}
