//! Figures, lists and findings.

use posthaste_core::database::{EntryFilter, Held, Monitor, Status};
use posthaste_core::finding::Severity;
use posthaste_core::outbox::Feed;
use posthaste_core::{StoreError, Verdict};

use crate::fixture::{Fixture, TO, dead, retry, verdict};

/// One row of each state: sent, parked, behind it, retried, due later, skipped, new.
async fn every_state() -> Fixture {
    let fixture = Fixture::new().await;
    let keys = [Some("s"), Some("a"), Some("a"), Some("b"), Some("d"), Some("k")];
    fixture.state(&keys[..4]).await;
    fixture
        .execute(
            "insert into posthaste_outbox (topic, kind, key, payload, due_at) values ('orders', \
             'x', 'd', 'x', cast((julianday('now') - 2440587.5) * 86400000 as integer) + 60000)",
        )
        .await
        .expect("insert");
    fixture.state(&keys[5..]).await;
    fixture.state(&[Some("n"), Some("a")]).await;
    let lease = fixture.lease().await;
    let words =
        [Verdict::Sent, dead(true), Verdict::Behind, retry(2, 60_000), Verdict::Due, dead(false)];
    let verdicts = (1..).zip(keys).zip(words);
    let verdicts = verdicts.map(|((seq, key), what)| verdict(seq, Feed::New, key, what)).collect();
    fixture.settle(&lease, 1, Some(6), verdicts).await.expect("settle");
    fixture
}

#[tokio::test]
async fn figures_count_what_could_be_sent() {
    let fixture = every_state().await;
    let status = fixture.database.status(TO).await.expect("status");
    assert_eq!(status.backlog, 2, "the retried and the new one; {status:?}");
    assert!(status.oldest_unsent_seconds.is_some_and(|age| (0.0..60.0).contains(&age)));
    assert_eq!((status.parked_keys, status.dead_letters), (1, 2));
    assert_eq!(status.held, Held { due: 1, retry: 1, behind: 1, unroutable: 0 });
    assert_eq!((status.leases.len(), status.leases[0].token), (1, 1));
    assert_eq!(status.checkpoint, "6");
    assert!(status.rates.sent_per_second > 0.0 && status.rates.failed_per_second > 0.0);
    let other = fixture.database.status("other").await.expect("status");
    assert_eq!((other.backlog, other.checkpoint.as_str()), (7, "0"), "{other:?}");
}

#[tokio::test]
async fn an_empty_database_has_empty_figures() {
    let fixture = Fixture::new().await;
    let status = fixture.database.status(TO).await.expect("status");
    let empty = Status { checkpoint: "0".to_owned(), lanes: 1, ..Status::default() };
    assert_eq!(status, empty);
}

#[tokio::test]
async fn entries_are_listed_with_their_state() {
    let fixture = every_state().await;
    let filter = EntryFilter { destination: TO.to_owned(), limit: 100, ..EntryFilter::default() };
    let list = async |filter: &EntryFilter| {
        let entries = fixture.database.entries(filter).await.expect("entries");
        entries.iter().map(|e| format!("{}:{}", e.position, e.state)).collect::<Vec<_>>().join(" ")
    };
    let all = "1:sent 2:parked 3:behind 4:retry 5:due 6:dead 7:new 8:new";
    assert_eq!(list(&filter).await, all);
    let stuck = EntryFilter { stuck: true, ..filter.clone() };
    assert_eq!(list(&stuck).await, "2:parked 3:behind 4:retry");
    let page = EntryFilter { after: Some("6".to_owned()), limit: 1, ..filter.clone() };
    assert_eq!(list(&page).await, "7:new");
    let topic = EntryFilter { topic: Some("other".to_owned()), ..filter.clone() };
    assert_eq!(list(&topic).await, "");
    let wrong = EntryFilter { after: Some("x".to_owned()), ..filter };
    let error = fixture.database.entries(&wrong).await.expect_err("no position");
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
}

#[tokio::test]
async fn findings_tell_a_healthy_database_from_a_careless_one() {
    let fixture = every_state().await;
    let findings = fixture.database.findings().await;
    let worst = findings.iter().map(|finding| finding.severity).max();
    assert_eq!(worst, Some(Severity::Notice), "only the dead letters: {findings:?}");
    let aside = "insert into posthaste_held (destination, seq, topic, kind, state, ready_at) \
         values ('default', 7, 'orders', 'k', 'unroutable', 0), \
           ('default', 8, 'orders', 'k', 'unroutable', null)";
    fixture.execute(aside).await.expect("an entry that is set aside");
    let findings = fixture.database.findings().await;
    let sentence = "nobody is bound to 2 messages of topic orders, kind k";
    let found = findings.iter().find(|finding| finding.what == sentence);
    assert!(found.is_some_and(|found| found.severity == Severity::Warning), "{findings:?}");

    fixture.database.pool().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(fixture.path())
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Delete)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Off);
    let careless = posthaste_sqlite::Sqlite::new(sqlx::SqlitePool::connect_lazy_with(options));
    let findings = careless.findings().await;
    for sentence in ["can vanish in a power cut", "journal mode is delete"] {
        let found = findings.iter().find(|finding| finding.what.contains(sentence));
        assert!(found.is_some_and(|finding| finding.advice.is_some()), "{sentence}: {findings:?}");
    }
}
