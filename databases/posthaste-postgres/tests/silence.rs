//! A network that drops what is sent and says nothing: every call ends within its bound, what was
//! under way is closed, and the next call after the network is back works.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use posthaste_core::database::{Monitor, Schema, Upkeep};
use posthaste_core::dead_letter::{DeadFilter, DeadLetters};
use posthaste_core::finding::Severity;
use posthaste_core::inbox::{Attempts, Inbox};
use posthaste_core::lane::Lanes;
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::outbox::{Feed, OutboxReader, ReadLimit, Settled, Settlement, Signal};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Lane, StoreError, Verdict};
use posthaste_postgres::{Options, Postgres};
use posthaste_servers::{Direction, Proxy};
use sqlx::postgres::PgPoolOptions;

use crate::fixture::{Fixture, id, message};

const ALL: ReadLimit = ReadLimit { messages: 100, bytes: 1 << 30 };
const TTL: Duration = Duration::from_secs(600);
/// The bound of the tests. What takes as long as there are rows takes it twice.
const BOUND: Duration = Duration::from_secs(1);
/// Without a bound of ours a call waits for the network much longer than this.
const DEADLINE: Duration = Duration::from_secs(8);

fn options() -> Options {
    Options {
        answer_within: BOUND,
        acquire_timeout: Duration::from_secs(2),
        listen: false,
        ..Options::default()
    }
}

/// A database and a handle on it behind a proxy.
struct Stage {
    fixture: Fixture,
    proxy: Proxy,
    database: Postgres,
}

impl Stage {
    async fn new(options: Options) -> Option<Self> {
        let fixture = Fixture::new().await?;
        let proxy = Proxy::before(fixture.test.server().port()).await.expect("a proxy");
        let url = proxy.url(&fixture.test.url());
        let database = Postgres::open(&url, options).expect("a good URL");
        Some(Self { fixture, proxy, database })
    }

    /// The same with a pool of the service's.
    async fn foreign() -> Option<Self> {
        let mut stage = Self::new(options()).await?;
        let pool = PgPoolOptions::new().max_connections(2).test_before_acquire(false);
        let pool = pool.connect_lazy(&stage.proxy.url(&stage.fixture.test.url()));
        let pool = pool.expect("a good URL");
        stage.database = Postgres::with_options(pool, options()).expect("a good schema");
        Some(stage)
    }

    async fn lease(&self) -> Lease {
        let name = Lane::whole("default").lease_name();
        match self.database.acquire(&name, "me", TTL).await.expect("a claim") {
            Claim::Granted(lease) => lease,
            held @ Claim::Held { .. } => panic!("{held:?}"),
        }
    }

    /// Does `call` while no reply comes: it ends within its bound, nothing of it stays in the pool,
    /// and it works once the network is back.
    async fn cut<T: Debug>(&self, what: &str, call: impl AsyncFn() -> Result<T, StoreError>) {
        // A connection is there and was used a moment ago.
        self.database.version().await.expect("version");
        self.is_at_rest().await;
        let before = self.database.pool().size();
        self.proxy.stall(Direction::ToClient);
        refused(what, call()).await;
        self.is_closed(what, before).await;
        self.proxy.heal().await;
        if let Err(error) = call().await {
            panic!("{what} after the network is back: {error}");
        }
    }

    /// Waits until all connections are back in the pool, and there is one.
    async fn is_at_rest(&self) {
        let (pool, begun) = (self.database.pool(), Instant::now());
        while pool.num_idle() == 0 || pool.num_idle() < usize::try_from(pool.size()).expect("few") {
            assert!(begun.elapsed() < DEADLINE, "a connection does not come back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the pool has fewer connections than before and none of them could be in the
    /// middle of something. What is on its way back to it has a bound of its own.
    async fn is_closed(&self, what: &str, before: u32) {
        let (pool, begun) = (self.database.pool(), Instant::now());
        while pool.size() >= before || pool.num_idle() < usize::try_from(pool.size()).expect("few")
        {
            assert!(begun.elapsed() < DEADLINE, "{what}: a connection stays in the pool");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A call that must be given up in time, with a sentence that says so.
async fn refused<T: Debug>(what: &str, call: impl Future<Output = Result<T, StoreError>>) {
    let Ok(given_up) = tokio::time::timeout(DEADLINE, call).await else {
        panic!("{what} waits for a network that is silent");
    };
    let error = given_up.expect_err(what);
    assert!(matches!(error, StoreError::Unavailable { .. }), "{what}: {error:?}");
    assert!(error.to_string().contains("did not answer within 1 s"), "{what}: {error}");
}

fn settlement(number: u64, verdicts: Vec<Settled>) -> Settlement {
    Settlement { lane: Lane::whole("default"), number, checkpoint: None, verdicts }
}

#[tokio::test]
async fn what_a_relay_asks_ends_in_time_and_works_again() {
    let Some(stage) = Stage::new(options()).await else { return };
    let (database, lane, lease) = (&stage.database, Lane::whole("default"), stage.lease().await);
    stage.fixture.state(&[message(1)]).await;
    let from = database.checkpoint(&lane).await.expect("checkpoint");
    stage.cut("checkpoint", async || database.checkpoint(&lane).await).await;
    stage.cut("read", async || database.read(&lane, &from, ALL).await).await;
    stage.cut("ready", async || database.ready(&lane, ALL).await).await;
    let nothing = settlement(1, Vec::new());
    stage.cut("settle", async || database.settle(&lease, &nothing).await).await;
    let name = lane.lease_name();
    stage.cut("acquire", async || database.acquire(&name, "other", TTL).await).await;
    stage.cut("renew", async || database.renew(&lease, TTL).await).await;
    stage.cut("held", async || database.held("").await).await;
    stage.cut("division", async || database.division("default").await).await;
    stage.cut("enqueue alone", async || database.enqueue_alone(&[message(2)]).await).await;
    stage.cut("prune", async || database.prune_sent(&lease, TTL, 10).await).await;
}

#[tokio::test]
async fn what_people_and_consumers_ask_ends_in_time_and_works_again() {
    let Some(stage) = Stage::new(options()).await else { return };
    let database = &stage.database;
    let filter = DeadFilter { limit: 10, ..DeadFilter::default() };
    stage.cut("dead letters", async || database.list(&filter).await).await;
    stage.cut("status", async || database.status("default").await).await;
    stage.cut("version", async || database.version().await).await;
    stage.cut("migrate", async || database.migrate().await).await;
    stage.cut("adopt", async || database.adopt("me").await).await;
    stage.cut("attempt", async || database.begin_attempt("shipping", id(1)).await).await;
    stage.cut("begin", async || database.begin().await).await;
    let commit = async || {
        let transaction = database.begin().await?;
        database.commit(transaction).await
    };
    stage.cut("begin and commit", commit).await;
    stage.is_at_rest().await;
    stage.proxy.stall(Direction::ToClient);
    let findings = tokio::time::timeout(DEADLINE, database.findings()).await;
    let findings = findings.expect("doctor ends in time");
    assert!(findings.iter().any(|finding| finding.severity >= Severity::Warning), "{findings:?}");
}

#[tokio::test]
async fn a_transaction_that_is_cut_off_is_not_committed_and_blocks_nobody() {
    let Some(stage) = Stage::new(options()).await else { return };
    let database = &stage.database;
    let mut tx = database.begin().await.expect("begin");
    database.enqueue(&mut tx, &[message(1)]).await.expect("enqueue");
    let before = database.pool().size();
    stage.proxy.stall(Direction::ToClient);
    refused("accept", database.accept(&mut tx, "shipping", &[id(1)])).await;
    drop(tx);
    stage.is_closed("accept", before).await;
    stage.proxy.heal().await;
    assert_eq!(stage.fixture.rows().await, 0);
    let mut tx = database.begin().await.expect("begin");
    database.accept(&mut tx, "shipping", &[id(1)]).await.expect("nobody holds it");
    let before = database.pool().size();
    stage.proxy.stall(Direction::ToServer);
    refused("commit", database.commit(tx)).await;
    stage.is_closed("commit", before).await;
    stage.proxy.heal().await;
    let mut all = Vec::new();
    for _ in 0..4 {
        let mut tx = database.begin().await.expect("begin");
        let one: i32 = sqlx::query_scalar("select 1").fetch_one(&mut *tx).await.expect("select");
        assert_eq!(one, 1);
        all.push(tx);
    }
}

#[tokio::test]
async fn a_pool_of_the_service_gets_no_connection_back_that_is_cut_off() {
    let Some(stage) = Stage::foreign().await else { return };
    let (database, lane, lease) = (&stage.database, Lane::whole("default"), stage.lease().await);
    let from = database.checkpoint(&lane).await.expect("checkpoint");
    stage.cut("read", async || database.read(&lane, &from, ALL).await).await;
    let nothing = settlement(1, Vec::new());
    stage.cut("settle", async || database.settle(&lease, &nothing).await).await;
    stage.cut("enqueue alone", async || database.enqueue_alone(&[message(2)]).await).await;
}

#[tokio::test]
async fn a_settlement_whose_reply_was_lost_counts_once_however_often_it_is_repeated() {
    let Some(stage) = Stage::new(options()).await else { return };
    let (database, lane, lease) = (&stage.database, Lane::whole("default"), stage.lease().await);
    stage.fixture.state(&[message(1), message(2)]).await;
    let from = database.checkpoint(&lane).await.expect("checkpoint");
    let batch = database.read(&lane, &from, ALL).await.expect("read");
    let settled = |entry: &posthaste_core::outbox::Entry| Settled {
        position: entry.position.clone(),
        feed: Feed::New,
        address: None,
        verdict: Verdict::Sent,
    };
    // Each connection knows the statement, so that one reply is all that can be lost.
    for _ in 0..=database.pool().size() {
        database.settle(&lease, &settlement(1, Vec::new())).await.expect("settle");
        stage.is_at_rest().await;
    }
    let mut sent = settlement(2, batch.entries.iter().map(settled).collect());
    sent.checkpoint = Some(batch.checkpoint);
    let counted = "select sum(sent) from posthaste.batch";
    stage.proxy.swallow(Direction::ToClient);
    refused("settle", database.settle(&lease, &sent)).await;
    assert_eq!(stage.fixture.sql(counted).await, "2", "only the reply was lost");
    stage.proxy.heal().await;
    for _ in 0..2 {
        database.settle(&lease, &sent).await.expect("the same once more");
    }
    assert_eq!(stage.fixture.sql(counted).await, "2");
}

#[tokio::test]
async fn a_server_that_is_silent_from_the_start_is_named_as_such() {
    let Some(stage) = Stage::new(options()).await else { return };
    stage.proxy.stall(Direction::ToClient);
    let patient = Options { answer_within: Duration::from_secs(30), ..options() };
    let url = stage.proxy.url(&stage.fixture.test.url());
    let database = Postgres::open(&url, patient).expect("a good URL");
    let refused = tokio::time::timeout(DEADLINE, database.version()).await.expect("it ends");
    let error = refused.expect_err("nobody answers");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("nothing answers"), "{error}");
}

#[tokio::test]
async fn what_takes_long_goes_on_while_the_server_answers_and_what_is_short_does_not() {
    let Some(stage) = Stage::new(options()).await else { return };
    let lease = stage.lease().await;
    let mut holder = stage.fixture.database.begin().await.expect("begin");
    let hold = "select pg_advisory_xact_lock(hashtextextended('posthaste migrate posthaste', 0)), \
                (select 1 from posthaste.lease for update)";
    sqlx::query(hold).execute(&mut *holder).await.expect("two locks");
    let migrating = stage.database.clone();
    let migrating = tokio::spawn(async move { migrating.migrate().await });
    refused("renew", stage.database.renew(&lease, TTL)).await;
    refused("renew", stage.database.renew(&lease, TTL)).await;
    assert!(!migrating.is_finished(), "it waits for a lock longer than the bound");
    stage.fixture.database.commit(holder).await.expect("commit");
    let migrated = tokio::time::timeout(DEADLINE, migrating).await.expect("in time");
    migrated.expect("a task").expect("migrate");
}

#[tokio::test]
async fn a_connection_that_listens_to_nobody_is_given_up_and_made_again() {
    let Some(stage) = Stage::new(Options { listen: true, ..options() }).await else { return };
    let hint =
        async |patience| tokio::time::timeout(patience, stage.database.changed()).await.is_ok();
    while hint(Duration::from_millis(300)).await {}
    stage.proxy.swallow(Direction::ToClient);
    let before = stage.proxy.connections();
    stage.proxy.wait_for(DEADLINE, |counts| counts.connections > before).await;
    stage.proxy.heal().await;
    assert!(hint(DEADLINE).await, "something may have been missed");
    while hint(Duration::from_millis(300)).await {}
    stage.fixture.sql("notify posthaste_outbox").await;
    assert!(hint(DEADLINE).await, "it listens again");
}
