//! Relaying through a PgBouncer that lends connections for one transaction each.

use std::time::Duration;

use posthaste_core::database::{Monitor, Upkeep};
use posthaste_core::dead_letter::{DeadFilter, DeadLetters};
use posthaste_core::finding::Severity;
use posthaste_core::lane::Lanes;
use posthaste_core::lease::{Claim, Leases};
use posthaste_core::outbox::{Feed, OutboxReader, ReadLimit, Settled, Settlement};
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Lane, Verdict};
use posthaste_postgres::{Options, Postgres};
use posthaste_servers::{PgBouncer, skip};

use crate::fixture::{Fixture, message};

const ALL: ReadLimit = ReadLimit { messages: 100, bytes: 1 << 30 };

#[tokio::test]
async fn a_relay_reads_settles_and_cleans_up_through_a_pooler() {
    let Some(fixture) = Fixture::new().await else { return };
    if let Some(reason) = PgBouncer::missing() {
        return skip(&reason);
    }
    // Many are set up like this, because most drivers say it.
    let settings = [("ignore_startup_parameters", "extra_float_digits")];
    let pooler = PgBouncer::start_with(fixture.test.server(), &settings).await;
    let url = format!("{}?pgbouncer=true", pooler.url(&fixture.test.name));
    let database = Postgres::open(&url, Options::default()).expect("a good URL");
    let lane = Lane::whole("default");
    let name = lane.lease_name();
    let ttl = Duration::from_secs(60);
    let lease = match database.acquire(&name, "me", ttl).await.expect("a claim") {
        Claim::Granted(lease) => lease,
        held => panic!("{held:?}"),
    };
    fixture.state(&[message(1), message(2), message(3)]).await;
    let from = database.checkpoint(&lane).await.expect("checkpoint");
    let batch = database.read(&lane, &from, ALL).await.expect("read");
    let dead = |detail: &str| Verdict::Dead {
        attempts: 1,
        reason: DeadReason::Refused,
        detail: detail.to_owned(),
        park: false,
    };
    let again = Verdict::Retry { attempts: 1, delay: Duration::ZERO, detail: "busy".to_owned() };
    let verdicts = batch.entries.iter().zip([Verdict::Sent, again, dead("no")]);
    let verdicts = verdicts.map(|(entry, verdict)| Settled {
        position: entry.position.clone(),
        feed: Feed::New,
        address: Some(("orders".to_owned(), None)),
        verdict,
    });
    let verdicts: Vec<Settled> = verdicts.collect();
    assert_eq!(verdicts.len(), 3);
    let checkpoint = Some(batch.checkpoint);
    let settlement = Settlement { lane: lane.clone(), number: 1, checkpoint, verdicts };
    for _ in 0..2 {
        database.settle(&lease, &settlement).await.expect("settle");
    }
    assert_eq!(database.ready(&lane, ALL).await.expect("ready").entries.len(), 1);
    let filter = DeadFilter { limit: 10, ..DeadFilter::default() };
    let letters = database.list(&filter).await.expect("list");
    database.repost(&[letters[0].reference.clone()], "operator").await.expect("repost");
    assert_eq!(database.ready(&lane, ALL).await.expect("ready").entries.len(), 2);
    database.renew(&lease, ttl).await.expect("renew");
    tokio::time::sleep(Duration::from_millis(5)).await;
    let keep = Duration::from_millis(1);
    assert_eq!(database.prune_sent(&lease, keep, 10).await.expect("prune"), 1);
    database.want_lanes("default", 3).await.expect("want");
    database.divide("default", &[lease]).await.expect("divide");
    assert_eq!(database.division("default").await.expect("division").now, 3);
    let findings = database.findings().await;
    assert!(findings.iter().all(|it| it.severity < Severity::Problem), "{findings:?}");
    // Who does not say that there is a pooler is told so.
    let silent = Postgres::open(&pooler.url(&fixture.test.name), Options::default());
    let findings = silent.expect("a good URL").findings().await;
    let told = findings
        .iter()
        .any(|it| it.subject == "database.pooling" && it.severity == Severity::Warning);
    assert!(told, "{findings:?}");
}
