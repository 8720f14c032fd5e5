//! Taking away what was sent long ago, and nothing else.

use std::time::Duration;

use posthaste_core::database::Upkeep;
use posthaste_core::lease::Leases;
use posthaste_core::outbox::{Feed, OutboxReader};
use posthaste_core::{Lane, Verdict};

use crate::fixture::{ALL, Fixture, TO, retry, verdict};

const TTL: Duration = Duration::from_secs(60);

/// Makes every row older than anything that is kept.
async fn age(fixture: &Fixture) {
    for statement in [
        "drop trigger posthaste_outbox_update",
        "update posthaste_outbox set stated_at = 1000",
        "update posthaste_batch set at = 1000",
    ] {
        fixture.execute(statement).await.expect(statement);
    }
}

#[tokio::test]
async fn a_destination_whose_broker_was_never_there_keeps_its_messages() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    fixture.state(&[None, None]).await;
    let lease = fixture.lease().await;
    database.acquire("relay/other/side/0", "relay", TTL).await.expect("its relay starts");
    database.acquire("some lease", "relay", TTL).await.expect("nobody's destination");
    let sent = (1..=2).map(|seq| verdict(seq, Feed::New, None, Verdict::Sent)).collect();
    fixture.settle(&lease, 1, Some(2), sent).await.expect("settle");
    age(&fixture).await;
    assert_eq!(database.prune_sent(&lease, TTL, 10).await.expect("prune"), 0);
    let from = database.checkpoint(&Lane::whole("other/side")).await.expect("a checkpoint");
    assert!(from.is_start());
    assert_eq!(
        database.read(&Lane::whole("other/side"), &from, ALL).await.expect("read").entries.len(),
        2
    );
    let known = "select group_concat(destination) from posthaste_checkpoint";
    assert_eq!(fixture.text(known).await, format!("{TO},other/side"));
    let forget = "delete from posthaste_checkpoint where destination = 'other/side'";
    fixture.execute(forget).await.expect("that destination is history");
    assert_eq!(database.prune_sent(&lease, TTL, 10).await.expect("prune"), 2);
}

#[tokio::test]
async fn what_must_stay_hides_nothing_behind_it() {
    let fixture = Fixture::new().await;
    fixture.state(&[None; 1500]).await;
    fixture.state(&[Some("a"); 3]).await;
    let lease = fixture.lease().await;
    let mut verdicts: Vec<_> =
        (1..=1500).map(|seq| verdict(seq, Feed::New, None, retry(1, 60_000))).collect();
    let sent = (1501..=1503).map(|seq| verdict(seq, Feed::New, Some("a"), Verdict::Sent));
    verdicts.extend(sent);
    fixture.settle(&lease, 1, Some(1503), verdicts).await.expect("settle");
    age(&fixture).await;
    for expected in [2, 1, 0] {
        let removed = fixture.database.prune_sent(&lease, TTL, 2).await.expect("prune");
        assert_eq!(removed, expected);
    }
    assert_eq!(fixture.number("select count(*) from posthaste_outbox").await, 1500);
}

#[tokio::test]
async fn the_log_is_emptied_however_long_it_is() {
    let fixture = Fixture::new().await;
    let lease = fixture.lease().await;
    for number in 1..=7 {
        fixture.settle(&lease, number, None, Vec::new()).await.expect("settle");
    }
    age(&fixture).await;
    fixture.settle(&lease, 8, None, Vec::new()).await.expect("settle");
    assert_eq!(fixture.database.prune_sent(&lease, TTL, 2).await.expect("prune"), 0);
    let left = "select group_concat(settlement) from posthaste_batch";
    assert_eq!(fixture.text(left).await, "8");
    fixture.database.prune_sent(&lease, Duration::ZERO, 0).await.expect("of nothing, nothing");
}

#[tokio::test]
async fn looking_for_old_messages_keeps_nobody_from_writing() {
    let fixture = Fixture::new().await;
    fixture.state(&[None]).await;
    let lease = fixture.lease().await;
    let options = posthaste_sqlite::Options { busy_timeout: Duration::ZERO, ..Default::default() };
    let hasty = posthaste_sqlite::Sqlite::open(&fixture.url(), options).expect("a good URL");
    let busy = fixture.database.pool().begin_with("BEGIN IMMEDIATE").await.expect("begin");
    let removed = hasty.prune_sent(&lease, TTL, 10).await.expect("it needs no lock to find none");
    assert_eq!(removed, 0);
    let mut old = lease.clone();
    old.token += 1;
    hasty.prune_sent(&old, TTL, 10).await.expect_err("fenced all the same");
    drop(busy);
}
