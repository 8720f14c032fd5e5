//! What a relay keeps in mind of a server is worth nothing once that server has begun anew: it may
//! have come back without the last commits, and others get their numbers.

use std::time::Duration;

use posthaste_core::database::Schema;
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::outbox::{Batch, Feed, OutboxReader, ReadLimit, Settled, Settlement};
use posthaste_core::{Lane, StoreError, Verdict};
use posthaste_postgres::{Options, Postgres};
use posthaste_servers::{PostgresOptions, TestDatabase};

const ALL: ReadLimit = ReadLimit { messages: 100, bytes: 1 << 20 };
const TTL: Duration = Duration::from_secs(600);

/// A relay that does by hand what the real one does.
struct Leader {
    database: Postgres,
    lane: Lane,
    lease: Lease,
    settled: u64,
}

/// Tries again while the server is away.
async fn patiently<T>(
    mut work: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match work().await {
            Err(error) if error.is_transient() && tokio::time::Instant::now() < deadline => {}
            done => return done,
        }
    }
}

async fn claim(database: &Postgres, lane: &Lane) -> Lease {
    let claim = patiently(async || database.acquire(&lane.lease_name(), "me", TTL).await).await;
    match claim.expect("a claim") {
        Claim::Granted(lease) => lease,
        held => panic!("{held:?}"),
    }
}

impl Leader {
    async fn new(database: Postgres) -> Self {
        let lane = Lane::whole("default");
        let lease = claim(&database, &lane).await;
        Self { database, lane, lease, settled: 0 }
    }

    async fn read(&self) -> Batch {
        let read = patiently(async || {
            let from = self.database.checkpoint(&self.lane).await?;
            self.database.read(&self.lane, &from, ALL).await
        });
        read.await.expect("read")
    }

    async fn settle(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.settled += 1;
        let sent = |entry: &posthaste_core::outbox::Entry| Settled {
            position: entry.position.clone(),
            feed: Feed::New,
            address: None,
            verdict: Verdict::Sent,
        };
        let settlement = Settlement {
            lane: self.lane.clone(),
            number: self.settled,
            checkpoint: Some(batch.checkpoint.clone()),
            verdicts: batch.entries.iter().map(sent).collect(),
        };
        patiently(async || self.database.settle(&self.lease, &settlement).await).await
    }
}

async fn insert(test: &TestDatabase, count: u32) {
    let rows = format!(
        "insert into posthaste.outbox (topic, kind, payload) \
         select 'orders', 'placed', g from generate_series(1, {count}) g"
    );
    test.psql(&rows).await.expect("inserted");
}

/// Two batches, of which only the first is settled before the server begins anew by `anew`.
async fn survives(anew: impl AsyncFnOnce(&posthaste_servers::Postgres, &TestDatabase)) {
    if posthaste_servers::postgres_or_skip().await.is_none() {
        return;
    }
    let server = posthaste_servers::Postgres::start(PostgresOptions::new()).await;
    let test = server.database().await;
    let database = Postgres::open(&test.url(), Options::default()).expect("a good URL");
    database.migrate().await.expect("migrate");
    let mut leader = Leader::new(database).await;
    insert(&test, 5).await;
    let first = leader.read().await;
    leader.settle(&first).await.expect("settle");
    insert(&test, 3).await;
    let second = leader.read().await;
    assert_eq!(second.entries.len(), 3);

    anew(&server, &test).await;
    let settled = leader.settle(&second).await;
    assert!(matches!(settled, Err(StoreError::Fenced)), "{settled:?}");
    let renewed = patiently(async || leader.database.renew(&leader.lease, TTL).await).await;
    assert!(matches!(renewed, Err(StoreError::Fenced)), "{renewed:?}");

    let lease = claim(&leader.database, &leader.lane).await;
    assert!(lease.token > leader.lease.token, "{lease:?}");
    leader.lease = lease;
    leader.settled = 0;
    insert(&test, 2).await;
    let rest = leader.read().await;
    assert_eq!(rest.entries.len(), 5, "what was in flight comes once more, and the rest once");
    leader.settle(&rest).await.expect("settle");
    assert_eq!(leader.read().await.entries.len(), 0);
    leader.database.renew(&leader.lease, TTL).await.expect("renew");
    leader.database.release(&leader.lease).await.expect("release");
}

#[tokio::test]
async fn a_server_that_is_started_again_ends_the_leases_of_its_earlier_life() {
    survives(async |server, _| {
        server.kill().await;
        server.restart().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_recovers_without_being_started_again_ends_them_too() {
    survives(async |_, test| {
        // The program's parent is a process of the server: the others are ended, and what was not
        // on the disk is gone.
        let lost = test.psql("copy (select 1) to program 'kill -9 $PPID'").await;
        assert!(lost.is_err(), "{lost:?}");
    })
    .await;
}

#[tokio::test]
async fn a_standby_that_is_promoted_ends_the_leases_of_the_primary() {
    if posthaste_servers::postgres_or_skip().await.is_none() {
        return;
    }
    let primary = posthaste_servers::Postgres::start(PostgresOptions::new()).await;
    let test = primary.database().await;
    let database = Postgres::open(&test.url(), Options::default()).expect("a good URL");
    database.migrate().await.expect("migrate");
    let mut leader = Leader::new(database).await;
    insert(&test, 5).await;
    let batch = leader.read().await;
    let standby = primary.standby().await;
    let url = standby.url(&test.name);
    primary.kill().await;
    standby.promote().await;
    leader.database = Postgres::open(&url, Options::default()).expect("a good URL");
    let settled = leader.settle(&batch).await;
    assert!(matches!(settled, Err(StoreError::Fenced)), "{settled:?}");
    leader.lease = claim(&leader.database, &leader.lane).await;
    let again = leader.read().await;
    assert_eq!(again.entries.len(), 5);
    leader.settle(&again).await.expect("settle");
}
