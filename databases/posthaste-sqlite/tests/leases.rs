//! Leases beyond what the shared laws say.

use std::time::Duration;

use posthaste_core::database::Monitor;
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::{StoreError, Verdict};
use posthaste_sqlite::{Options, Sqlite};

use crate::fixture::{Fixture, TO, until, verdict};

const TTL: Duration = Duration::from_secs(60);

fn granted(claim: Claim) -> Lease {
    match claim {
        Claim::Granted(lease) => lease,
        held => panic!("{held:?}"),
    }
}

#[tokio::test]
async fn one_holds_and_the_others_hear_who_and_how_long() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    let mine = granted(database.acquire("lane", "me", TTL).await.expect("a claim"));
    match database.acquire("lane", "you", TTL).await.expect("a claim") {
        Claim::Held { by, remaining } => {
            assert_eq!(by, "me");
            assert!(remaining > TTL / 2 && remaining <= TTL, "{remaining:?}");
        }
        granted => panic!("{granted:?}"),
    }
    let again = granted(database.acquire("lane", "me", TTL).await.expect("again"));
    assert_eq!((mine.token, again.token), (1, 2), "each grant has a token of its own");
}

#[tokio::test]
async fn a_lease_given_back_is_free_at_once_and_tokens_grow() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    let mine = granted(database.acquire("lane", "me", TTL).await.expect("a claim"));
    database.release(&mine).await.expect("release");
    database.release(&mine).await.expect("twice is no error");
    let yours = granted(database.acquire("lane", "you", TTL).await.expect("a claim"));
    assert_eq!(yours.token, 2);
    let error = database.renew(&mine, TTL).await.expect_err("an old token");
    assert!(matches!(error, StoreError::Fenced), "{error:?}");
    database.release(&mine).await.expect("changes nothing");
    assert!(matches!(
        database.acquire("lane", "me", TTL).await.expect("a claim"),
        Claim::Held { .. }
    ));
}

#[tokio::test]
async fn whoever_claims_again_after_giving_back_counts_settlements_anew() {
    let fixture = Fixture::new().await;
    fixture.state(&[None, None]).await;
    let first = fixture.lease().await;
    let sent = |seq| vec![verdict(seq, posthaste_core::outbox::Feed::New, None, Verdict::Sent)];
    fixture.settle(&first, 1, Some(1), sent(1)).await.expect("settle");
    fixture.database.release(&first).await.expect("release");
    let second = fixture.lease().await;
    assert!(second.token > first.token);
    fixture.settle(&second, 1, Some(2), sent(2)).await.expect("settle");
    assert_eq!(fixture.number("select count(*) from posthaste_batch").await, 2);
}

#[tokio::test]
async fn a_lease_runs_out_by_the_clock_of_the_database() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    let short = Duration::from_millis(40);
    let mine = granted(database.acquire("lane", "me", short).await.expect("a claim"));
    until("the lease ran out", async || {
        let claim = database.acquire("lane", "you", TTL).await.expect("a claim");
        matches!(claim, Claim::Granted(lease) if lease.token == mine.token + 1)
    })
    .await;
}

#[tokio::test]
async fn of_many_claims_at_once_one_is_granted() {
    let fixture = Fixture::new().await;
    let claims = (0..8).map(|n| {
        let database = fixture.second();
        tokio::spawn(async move { database.acquire("lane", &format!("{n}"), TTL).await })
    });
    let mut granted = 0;
    for claim in claims.collect::<Vec<_>>() {
        let claim = claim.await.expect("a task").expect("a claim");
        granted += usize::from(matches!(claim, Claim::Granted(_)));
    }
    assert_eq!(granted, 1);
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_lengthen_a_lease() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    let mine = granted(database.acquire("lane", "me", TTL).await.expect("a claim"));
    let short = Duration::from_secs(5);
    let claim = database.acquire("lane", "you", short).await.expect("a claim");
    assert!(matches!(claim, Claim::Held { .. }), "a longer lease than one asks for: {claim:?}");
    let ahead = "update posthaste_lease set expires_at = expires_at + 3600000";
    fixture.execute(ahead).await.expect("the clock was an hour ahead");
    assert!(database.status(TO).await.expect("status").leases.is_empty());
    let yours = granted(database.acquire("lane", "you", short).await.expect("a claim"));
    assert!(yours.token > mine.token);
    let claim = database.acquire("lane", "me", TTL).await.expect("a claim");
    assert!(matches!(claim, Claim::Held { .. }), "{claim:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_can_write_nobody_loses_a_lease() {
    let fixture = Fixture::new().await;
    let ttl = Duration::from_secs(2);
    let mine = granted(fixture.database.acquire("lane", "me", ttl).await.expect("a claim"));
    let busy = fixture.database.pool().begin_with("BEGIN IMMEDIATE").await.expect("begin");
    until("the lease ran out", async || {
        let left = "select expires_at > cast((julianday('now') - 2440587.5) * 86400000 as \
             integer) from posthaste_lease";
        fixture.number(left).await == 0
    })
    .await;
    let standby = fixture.second();
    let mut claim = tokio::spawn(async move { standby.acquire("lane", "you", ttl).await });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut claim).await;
    assert!(early.is_err(), "it waits for the application: {early:?}");
    busy.rollback().await.expect("the application is done");
    let claim = claim.await.expect("a task").expect("a claim");
    assert!(matches!(claim, Claim::Held { .. }), "the holder could not renew either: {claim:?}");
    fixture.database.renew(&mine, ttl).await.expect("it is still the holder");
}

#[tokio::test]
async fn a_claim_on_a_held_lease_waits_for_no_writer() {
    let fixture = Fixture::new().await;
    fixture.database.acquire("lane", "me", TTL).await.expect("a claim");
    let options = Options { busy_timeout: Duration::ZERO, ..Options::default() };
    let standby = Sqlite::open(&fixture.url(), options).expect("a good URL");
    let busy = fixture.database.pool().begin_with("BEGIN IMMEDIATE").await.expect("begin");
    let claim = standby.acquire("lane", "you", TTL).await.expect("an answer at once");
    assert!(matches!(claim, Claim::Held { .. }), "{claim:?}");
    drop(busy);
}
