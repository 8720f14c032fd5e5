//! Acts of operators on dead letters of the relay.

use std::time::Duration;

use posthaste_core::database::Upkeep;
use posthaste_core::dead_letter::{DeadFilter, DeadLetters, Origin};
use posthaste_core::outbox::Feed;
use posthaste_core::{StoreError, Verdict};

use crate::fixture::{Fixture, dead, verdict};

fn numbers(numbers: &[&str]) -> Vec<String> {
    numbers.iter().map(ToString::to_string).collect()
}

/// Key `a` is parked behind letter 1, letter 2 was skipped and has no key.
async fn two_letters() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a"), Some("a"), None]).await;
    let lease = fixture.lease().await;
    let verdicts = vec![
        verdict(1, Feed::New, Some("a"), dead(true)),
        verdict(2, Feed::New, Some("a"), Verdict::Behind),
        verdict(3, Feed::New, None, dead(false)),
    ];
    fixture.settle(&lease, 1, Some(3), verdicts).await.expect("settle");
    fixture
}

#[tokio::test]
async fn letters_are_listed_with_all_that_is_known() {
    let fixture = two_letters().await;
    let all = DeadFilter { limit: 10, ..DeadFilter::default() };
    let letters = fixture.database.list(&all).await.expect("letters");
    let parked: Vec<_> = letters.iter().map(|l| (l.reference.as_str(), l.parked)).collect();
    assert_eq!(parked, [("1", true), ("2", false)]);
    let letter = &letters[0];
    assert_eq!(letter.origin, Origin::Relay("default".to_owned()));
    assert_eq!((letter.topic.as_str(), letter.key.as_deref()), ("orders", Some("a")));
    assert_eq!((letter.reason.as_str(), letter.detail.as_str()), ("refused", "never"));
    assert_eq!((letter.attempts, letter.history.len()), (3, 1));
    assert_eq!(letter.payload.as_text(), Some("x"));
    assert_eq!(fixture.database.get("1").await.expect("get").as_ref(), Some(letter));
    assert_eq!(fixture.database.get("x").await.expect("get"), None);
    let page = DeadFilter { after: Some("1".to_owned()), ..all.clone() };
    assert_eq!(fixture.database.list(&page).await.expect("letters").len(), 1);
    let by_id = DeadFilter { id: Some(letter.id.clone()), ..all.clone() };
    assert_eq!(fixture.database.list(&by_id).await.expect("letters").len(), 1);
    let other = DeadFilter { topic: Some("other".to_owned()), ..all };
    assert_eq!(fixture.database.list(&other).await.expect("letters"), []);
}

#[tokio::test]
async fn a_repost_goes_ahead_of_what_waits_behind_it() {
    let fixture = two_letters().await;
    fixture.database.repost(&numbers(&["1", "2"]), "ann").await.expect("repost");
    assert_eq!(fixture.held().await, "1:retry 2:behind 3:retry");
    let ready = fixture.ready().await.entries;
    assert_eq!((ready[0].position.as_str(), ready[0].attempts), ("1", 0));
    assert_eq!(fixture.number("select count(*) from posthaste_dead_letter").await, 0);
    let audit = "select group_concat(actor || ' ' || action || ' ' || dead_letter, ', ') \
         from posthaste_audit where at > 0 and reason is null";
    assert_eq!(fixture.text(audit).await, "ann repost 1, ann repost 2");
}

#[tokio::test]
async fn a_discard_lets_the_key_go_on_and_is_recorded_with_its_reason() {
    let fixture = two_letters().await;
    let error = fixture.database.discard(&numbers(&["1"]), "ann", " ").await.expect_err("why?");
    assert!(error.to_string().contains("needs a reason"), "{error}");
    fixture.database.discard(&numbers(&["1"]), "ann", "test order").await.expect("discard");
    assert_eq!(fixture.held().await, "2:retry");
    let audit = "select actor || ' ' || action || ' ' || topic || ' ' || key || ' ' || payload || \
         ' ' || died_of || ' ' || reason from posthaste_audit";
    assert_eq!(fixture.text(audit).await, "ann discard orders a x refused test order");
}

#[tokio::test]
async fn acts_are_all_or_nothing() {
    let fixture = two_letters().await;
    for several in [&["1", "9"][..], &["1", "1"], &["1", "x"]] {
        let error = fixture.database.repost(&numbers(several), "ann").await.expect_err("unknown");
        assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
        let expected = format!("no dead letter {}; nothing was changed", several[1]);
        assert!(error.to_string().contains(&expected), "{error}");
    }
    assert_eq!(fixture.held().await, "1:parked 2:behind");
    assert_eq!(fixture.number("select count(*) from posthaste_audit").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_equal_acts_at_once_one_succeeds() {
    let fixture = two_letters().await;
    let acts = (0..2).map(|_| {
        let database = fixture.second();
        tokio::spawn(async move { database.repost(&numbers(&["1"]), "ann").await })
    });
    let mut succeeded = 0;
    for act in acts.collect::<Vec<_>>() {
        succeeded += usize::from(act.await.expect("a task").is_ok());
    }
    assert_eq!(succeeded, 1);
}

#[tokio::test]
async fn pruning_keeps_what_a_dead_letter_or_a_line_still_needs() {
    let fixture = two_letters().await;
    fixture.state(&[None, None]).await;
    let lease = fixture.lease().await;
    let sent = (4..=5).map(|seq| verdict(seq, Feed::New, None, Verdict::Sent)).collect();
    fixture.settle(&lease, 2, Some(5), sent).await.expect("settle");
    fixture.state(&[None]).await;
    let database = &fixture.database;
    let hour = Duration::from_secs(3600);
    assert_eq!(database.prune_sent(&lease, hour, 10).await.expect("prune"), 0, "too young");
    let removed = database.prune_sent(&lease, Duration::ZERO, 1).await;
    crate::fixture::until("the rows are older than nothing", async || {
        fixture
            .number(
                "select max(stated_at) < cast((julianday('now') - 2440587.5) * 86400000 \
            as integer) from posthaste_outbox",
            )
            .await
            == 1
    })
    .await;
    let removed = removed.expect("prune")
        + database.prune_sent(&lease, Duration::ZERO, 10).await.expect("prune");
    assert_eq!(removed, 2);
    let left = "select group_concat(seq) from (select seq from posthaste_outbox order by seq)";
    assert_eq!(fixture.text(left).await, "1,2,3,6");
    assert_eq!(fixture.number("select count(*) from posthaste_batch").await, 0);
    let mut other = lease;
    other.token += 1;
    let error = database.prune_sent(&other, Duration::ZERO, 10).await.expect_err("fenced");
    assert!(matches!(error, StoreError::Fenced), "{error:?}");
}

#[tokio::test]
async fn a_letter_whose_row_was_deleted_by_hand_stays() {
    let fixture = two_letters().await;
    fixture.execute("delete from posthaste_outbox where seq = 1").await.expect("by hand");
    let error = fixture.database.repost(&numbers(&["1"]), "ann").await.expect_err("no row");
    assert!(error.to_string().contains("deleted from posthaste_outbox"), "{error}");
    assert!(fixture.database.get("1").await.expect("get").is_some());
}
