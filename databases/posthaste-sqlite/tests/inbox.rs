//! The inbox: first and before, races, attempts, burials, windows.

use std::time::Duration;

use posthaste_core::dead_letter::{DeadFilter, DeadLetters, Origin};
use posthaste_core::inbox::Acceptance::{Before, First};
use posthaste_core::inbox::{Attempts, Burial, Inbox, InboxUpkeep, InboxWindow};
use posthaste_core::transaction::Transactional;
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Message, Payload};
use posthaste_sqlite::Sqlite;

use crate::fixture::{Fixture, id, message};

fn burial() -> Burial {
    Burial { reason: DeadReason::Rejected, detail: "no such item".to_owned(), attempts: 4 }
}

async fn bury(database: &Sqlite, message: &Message) {
    let mut tx = database.begin().await.expect("begin");
    database.bury(&mut tx, "shipping", message, &burial()).await.expect("bury");
    database.commit(tx).await.expect("commit");
}

async fn accept(database: &Sqlite, numbers: &[u8]) -> Vec<posthaste_core::inbox::Acceptance> {
    let ids: Vec<_> = numbers.iter().map(|n| id(*n)).collect();
    let mut tx = database.begin().await.expect("begin");
    let accepted = database.accept(&mut tx, "shipping", &ids).await.expect("accept");
    database.commit(tx).await.expect("commit");
    accepted
}

#[tokio::test]
async fn each_id_is_first_once_in_order_also_within_one_list() {
    let fixture = Fixture::new().await;
    assert_eq!(accept(&fixture.database, &[1]).await, [First]);
    assert_eq!(accept(&fixture.database, &[2, 1, 3, 2]).await, [First, Before, First, Before]);
    assert_eq!(accept(&fixture.database, &[]).await, []);
    let mut tx = fixture.database.begin().await.expect("begin");
    let other = fixture.database.accept(&mut tx, "billing", &[id(1)]).await.expect("accept");
    assert_eq!(other, [First], "consumers do not see one another's");
    drop(tx);
    let mut tx = fixture.database.begin().await.expect("begin");
    let again = fixture.database.accept(&mut tx, "billing", &[id(1)]).await.expect("accept");
    assert_eq!(again, [First], "rolled back with its transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_acceptances_that_commit_one_is_first() {
    let fixture = Fixture::new().await;
    for round in 0..10 {
        let race = (0..2).map(|_| {
            let database = fixture.second();
            tokio::spawn(async move { accept(&database, &[round]).await })
        });
        let mut first = 0;
        for racer in race.collect::<Vec<_>>() {
            first += usize::from(racer.await.expect("a task") == [First]);
        }
        assert_eq!(first, 1);
    }
}

#[tokio::test]
async fn attempts_are_counted_and_forgotten_with_acceptance() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    assert_eq!(database.begin_attempt("shipping", id(1)).await.expect("begin"), 1);
    assert_eq!(database.begin_attempt("shipping", id(1)).await.expect("begin"), 2);
    database.record_failure("shipping", id(1), 2, "once").await.expect("record");
    database.record_failure("shipping", id(1), 3, "twice\0").await.expect("not begun, counted");
    assert_eq!(database.begin_attempt("shipping", id(1)).await.expect("begin"), 4);
    let said = "select group_concat(h.value ->> 'detail') from posthaste_attempt, \
         json_each(history) h";
    assert_eq!(fixture.text(said).await, "once,twice ");
    accept(database, &[1]).await;
    assert_eq!(database.begin_attempt("shipping", id(1)).await.expect("begin"), 1);
}

#[tokio::test]
async fn a_buried_message_is_kept_whole_and_comes_back_once() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    let mut buried = message(1);
    buried.key = Some("7".to_owned());
    buried.payload = Payload::bytes(vec![0xff, 0]);
    database.record_failure("shipping", buried.id, 1, "first time").await.expect("record");
    bury(database, &buried).await;
    bury(database, &buried).await;
    let letters = database.list(&DeadFilter { limit: 9, ..DeadFilter::default() }).await;
    let letters = letters.expect("letters");
    assert_eq!(letters.len(), 1, "a second burial is the same letter");
    assert_eq!(letters[0].origin, Origin::Consumer("shipping".to_owned()));
    assert_eq!((letters[0].attempts, letters[0].reason.as_str()), (4, "rejected"));
    assert_eq!(letters[0].history[0].detail, "first time");
    assert_eq!(letters[0].payload, buried.payload);
    assert_eq!(accept(database, &[1]).await, [Before]);

    let reference = letters[0].reference.clone();
    database.repost(std::slice::from_ref(&reference), "ann").await.expect("repost");
    let back = database.reposted("shipping", 10).await.expect("reposted");
    assert_eq!(back, std::slice::from_ref(&buried));
    assert_eq!(database.reposted("billing", 10).await.expect("reposted"), []);
    assert!(database.get(&reference).await.expect("get").expect("it waits").reposted);
    assert_eq!(accept(database, &[1]).await, [First], "once more");
    assert_eq!(accept(database, &[1]).await, [Before]);
    assert_eq!(database.reposted("shipping", 10).await.expect("reposted"), []);
}

#[tokio::test]
async fn a_reposted_message_that_fails_again_is_one_letter() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    bury(database, &message(1)).await;
    database.repost(&["1".to_owned()], "ann").await.expect("repost");
    bury(database, &message(1)).await;
    assert_eq!(database.reposted("shipping", 10).await.expect("reposted"), []);
    assert_eq!(fixture.number("select count(*) from posthaste_dead_letter").await, 1);
    database.discard(&["2".to_owned()], "ann", "obsolete").await.expect("discard");
    assert_eq!(fixture.number("select count(*) from posthaste_dead_letter").await, 0);
    assert_eq!(accept(database, &[1]).await, [Before], "a duplicate stays one");
    assert_eq!(fixture.text("select outcome from posthaste_inbox").await, "done");
}

#[tokio::test]
async fn windows_forget_by_age_and_by_count_but_never_the_dead() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    accept(database, &[1, 2, 3, 4, 5, 6]).await;
    bury(database, &message(7)).await;
    fixture
        .execute(
            "update posthaste_inbox set done_at = done_at - 10000 where id <= (select id \
            from posthaste_inbox order by id limit 1 offset 2)",
        )
        .await
        .expect("time passes");
    fixture
        .execute("update posthaste_inbox set done_at = 1 where outcome = 'dead'")
        .await
        .expect("x");
    let old = InboxWindow { age: Duration::from_secs(5), count: None };
    assert_eq!(database.prune_inbox("shipping", old, 2).await.expect("prune"), 2, "the limit");
    assert_eq!(database.prune_inbox("shipping", old, 9).await.expect("prune"), 1);
    let few = InboxWindow { age: Duration::from_secs(3600), count: Some(2) };
    assert_eq!(database.prune_inbox("shipping", few, 9).await.expect("prune"), 1);
    assert_eq!(database.prune_inbox("shipping", few, 9).await.expect("prune"), 0);
    let left = "select group_concat(outcome) from (select outcome from posthaste_inbox order by 1)";
    assert_eq!(fixture.text(left).await, "dead,done,done");
}
