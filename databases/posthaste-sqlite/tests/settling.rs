//! Settlements: what becomes of the side table, who may settle, and how often.

use std::time::Duration;

use posthaste_core::lease::{Claim, Leases};
use posthaste_core::outbox::{Feed, OutboxReader, Settled, Settlement};
use posthaste_core::{Position, StoreError, Verdict};

use crate::fixture::{Fixture, dead, lane, retry, until, verdict};

fn new(seq: i64, key: &str, what: Verdict) -> Settled {
    verdict(seq, Feed::New, Some(key), what)
}

fn ready(seq: i64, key: &str, what: Verdict) -> Settled {
    verdict(seq, Feed::Ready, Some(key), what)
}

#[tokio::test]
async fn what_is_sent_leaves_only_a_checkpoint_and_a_line_in_the_log() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a"), None]).await;
    let lease = fixture.lease().await;
    let sent = vec![new(1, "a", Verdict::Sent), verdict(2, Feed::New, None, Verdict::Sent)];
    fixture.settle(&lease, 1, Some(2), sent).await.expect("settle");
    assert_eq!(fixture.held().await, "");
    assert_eq!(fixture.database.checkpoint(&lane()).await.expect("checkpoint").as_str(), "2");
    let logged = "select sent || ' ' || failed || ' ' || dead || ' ' || first_position || ' ' || \
         last_position || ' ' || settlement from posthaste_batch";
    assert_eq!(fixture.text(logged).await, "2 0 0 1 2 1");
}

#[tokio::test]
async fn a_failed_head_holds_its_line_until_it_is_gone() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a"), Some("a"), Some("b"), Some("a")]).await;
    let lease = fixture.lease().await;
    let first = vec![
        new(1, "a", retry(1, 0)),
        new(2, "a", Verdict::Behind),
        new(3, "b", Verdict::Sent),
        new(4, "a", Verdict::Behind),
    ];
    fixture.settle(&lease, 1, Some(4), first).await.expect("settle");
    assert_eq!(fixture.held().await, "1:retry 2:behind 4:behind");
    assert_eq!(fixture.ready_seqs().await, ["1"]);
    fixture.settle(&lease, 2, None, vec![ready(1, "a", retry(2, 60_000))]).await.expect("settle");
    assert_eq!(fixture.ready_seqs().await, Vec::<String>::new());
    let next = fixture.ready().await.next_in.expect("a next time");
    assert!(next > Duration::from_secs(50) && next <= Duration::from_secs(60), "{next:?}");
    fixture.settle(&lease, 3, None, vec![ready(1, "a", Verdict::Sent)]).await.expect("settle");
    assert_eq!(fixture.held().await, "2:retry 4:retry");
    assert_eq!(fixture.ready_seqs().await, ["2", "4"]);
}

#[tokio::test]
async fn attempts_and_history_persist_and_are_bounded() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a")]).await;
    let lease = fixture.lease().await;
    fixture.settle(&lease, 1, Some(1), vec![new(1, "a", retry(1, 0))]).await.expect("settle");
    for attempts in 2..=30 {
        let again = vec![ready(1, "a", retry(attempts, 0))];
        fixture.settle(&lease, u64::from(attempts), None, again).await.expect("settle");
    }
    let put_back = Verdict::Retry { attempts: 30, delay: Duration::ZERO, detail: String::new() };
    fixture.settle(&lease, 31, None, vec![ready(1, "a", put_back)]).await.expect("settle");
    assert_eq!(fixture.ready().await.entries[0].attempts, 30);
    let history = "select json_array_length(history) || ' ' || (history ->> '$[0].attempt') || \
         ' ' || (history ->> '$[19].detail') || ' ' || detail from posthaste_held";
    assert_eq!(fixture.text(history).await, "20 11 failure 30 failure 30");
    let since = "select first_failed_at <= ready_at from posthaste_held";
    assert_eq!(fixture.number(since).await, 1);
}

#[tokio::test]
async fn a_message_that_is_not_due_waits_alone() {
    let fixture = Fixture::new().await;
    fixture
        .execute(
            "insert into posthaste_outbox (topic, kind, key, payload, due_at) values ('orders', \
             'b', 'a', 'c', cast((julianday('now') - 2440587.5) * 86400000 as integer) + 300)",
        )
        .await
        .expect("insert");
    fixture.state(&[Some("a")]).await;
    let lease = fixture.lease().await;
    fixture.settle(&lease, 1, Some(1), vec![new(1, "a", Verdict::Due)]).await.expect("settle");
    let batch = fixture.read().await;
    assert!(!batch.entries[0].blocked, "what is not due holds nobody back");
    assert_eq!(fixture.ready_seqs().await, Vec::<String>::new());
    assert!(fixture.ready().await.next_in.is_some_and(|next| next < Duration::from_millis(301)));
    fixture.settle(&lease, 2, Some(2), vec![new(2, "a", retry(1, 60_000))]).await.expect("settle");
    until("the message is due", async || fixture.ready_seqs().await == ["1"]).await;
    assert!(fixture.ready().await.entries[0].blocked, "its key waits for a retry");
    fixture.settle(&lease, 3, None, vec![ready(1, "a", Verdict::Behind)]).await.expect("settle");
    assert_eq!(fixture.held().await, "1:retry 2:retry", "nothing failed stands before it");
    assert_eq!(fixture.ready_seqs().await, ["1"]);
}

#[tokio::test]
async fn a_dead_head_parks_its_key_or_is_skipped() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a"), Some("a"), Some("b"), Some("b"), None]).await;
    let lease = fixture.lease().await;
    let first = vec![
        new(1, "a", dead(true)),
        new(2, "a", Verdict::Behind),
        new(3, "b", retry(1, 60_000)),
        new(4, "b", Verdict::Behind),
        verdict(5, Feed::New, None, dead(true)),
    ];
    fixture.settle(&lease, 1, Some(5), first).await.expect("settle");
    assert_eq!(fixture.held().await, "1:parked 2:behind 3:retry 4:behind");
    fixture.settle(&lease, 2, None, vec![ready(3, "b", dead(false))]).await.expect("settle");
    assert_eq!(fixture.held().await, "1:parked 2:behind 4:retry");
    assert_eq!(fixture.ready_seqs().await, ["4"]);
    let dead = "select group_concat(seq || ':' || parked || ':' || json_array_length(history), \
         ' ') from posthaste_dead_letter";
    assert_eq!(fixture.text(dead).await, "1:1:1 5:0:1 3:0:2");
}

#[tokio::test]
async fn long_lines_are_made_ready_in_parts_and_never_left_without_a_head() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a"); 600]).await;
    let lease = fixture.lease().await;
    let mut first = vec![new(1, "a", retry(1, 60_000))];
    first.extend((2..=600).map(|seq| new(seq, "a", Verdict::Behind)));
    fixture.settle(&lease, 1, Some(600), first).await.expect("settle");
    fixture.settle(&lease, 2, None, vec![ready(1, "a", Verdict::Sent)]).await.expect("settle");
    let mut sent = 1;
    for number in 3.. {
        let entries = fixture.ready().await.entries;
        if entries.is_empty() {
            break;
        }
        assert!(entries.len() <= 256);
        let verdicts: Vec<Settled> = entries
            .iter()
            .map(|entry| {
                sent += 1;
                assert_eq!(entry.position.as_str(), sent.to_string());
                ready(sent, "a", Verdict::Sent)
            })
            .collect();
        fixture.settle(&lease, number, None, verdicts).await.expect("settle");
    }
    assert_eq!((sent, fixture.held().await), (600, String::new()));
}

#[tokio::test]
async fn an_old_token_settles_nothing() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a")]).await;
    let old = fixture.lease().await;
    fixture.database.renew(&old, Duration::ZERO).await.expect("it runs out at once");
    let ttl = Duration::from_secs(60);
    let claim = fixture.database.acquire(&old.name, "other", ttl).await.expect("a claim");
    let Claim::Granted(new_lease) = claim else { panic!("{claim:?}") };
    assert!(new_lease.token > old.token);
    let failed = vec![new(1, "a", retry(1, 0))];
    let error = fixture.settle(&old, 9, Some(1), failed.clone()).await.expect_err("fenced");
    assert!(matches!(error, StoreError::Fenced), "{error:?}");
    assert_eq!(fixture.held().await, "");
    assert!(fixture.database.checkpoint(&lane()).await.expect("checkpoint").is_start());
    fixture.settle(&new_lease, 1, Some(1), failed).await.expect("numbers begin anew");
    assert_eq!(fixture.held().await, "1:retry");
}

#[tokio::test]
async fn a_repeated_settlement_changes_nothing() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a")]).await;
    let lease = fixture.lease().await;
    let died = || vec![new(1, "a", dead(true))];
    fixture.settle(&lease, 1, Some(1), died()).await.expect("settle");
    fixture.settle(&lease, 1, Some(1), died()).await.expect("the same again");
    assert_eq!(fixture.number("select count(*) from posthaste_dead_letter").await, 1);
    assert_eq!(fixture.number("select count(*) from posthaste_batch").await, 1);
}

#[tokio::test]
async fn a_failing_settlement_changes_nothing_and_can_be_repeated() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a"), Some("a")]).await;
    let lease = fixture.lease().await;
    fixture
        .execute(
            "create trigger sabotage before insert on posthaste_batch \
             begin select raise(abort, 'no'); end",
        )
        .await
        .expect("a trigger");
    let failed = || vec![new(1, "a", retry(1, 0)), new(2, "a", Verdict::Behind)];
    fixture.settle(&lease, 1, Some(2), failed()).await.expect_err("sabotaged");
    assert_eq!(fixture.held().await, "");
    fixture.execute("drop trigger sabotage").await.expect("by hand");
    fixture.settle(&lease, 1, Some(2), failed()).await.expect("settle");
    assert_eq!(fixture.held().await, "1:retry 2:behind");
}

#[tokio::test]
async fn a_row_deleted_by_hand_is_an_answer_and_leaves_a_dead_letter() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a"), Some("a")]).await;
    let lease = fixture.lease().await;
    let failed = vec![new(1, "a", retry(1, 0)), new(2, "a", Verdict::Behind)];
    fixture.settle(&lease, 1, Some(2), failed).await.expect("settle");
    fixture.execute("delete from posthaste_outbox where seq = 1").await.expect("by hand");
    let gone = fixture.ready().await.entries.remove(0);
    let detail = gone.body.expect_err("no message").detail;
    assert!(detail.contains("deleted from posthaste_outbox"), "{detail}");
    let position = Position::new("1");
    let malformed = Settled { position, feed: Feed::Ready, address: None, verdict: dead(false) };
    fixture.settle(&lease, 2, None, vec![malformed]).await.expect("settle");
    assert_eq!(fixture.number("select count(*) from posthaste_dead_letter").await, 1);
    let kept = "select topic || ' ' || key from posthaste_dead_letter";
    assert_eq!(fixture.text(kept).await, "orders a");
    assert_eq!(fixture.held().await, "2:retry", "its key goes on");
}

#[tokio::test]
async fn positions_that_are_none_are_refused() {
    let fixture = Fixture::new().await;
    let lease = fixture.lease().await;
    let mut wrong = new(1, "a", Verdict::Sent);
    wrong.position = Position::new("0/16B3748");
    let error = fixture.settle(&lease, 1, None, vec![wrong]).await.expect_err("no position");
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
    let checkpoint = Some(posthaste_core::Checkpoint::new("x"));
    let settlement = Settlement { lane: lane(), number: 1, checkpoint, verdicts: Vec::new() };
    let error = fixture.database.settle(&lease, &settlement).await.expect_err("no checkpoint");
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
}

#[tokio::test]
async fn a_row_deleted_before_it_is_found_not_due_is_looked_at_again() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("a")]).await;
    let lease = fixture.lease().await;
    fixture.execute("delete from posthaste_outbox").await.expect("by hand");
    fixture.settle(&lease, 1, Some(1), vec![new(1, "a", Verdict::Due)]).await.expect("settle");
    let gone = fixture.ready().await.entries.remove(0);
    assert!(gone.body.expect_err("no message").detail.contains("deleted"));
}
