//! A database in a folder of its own, and short words for what tests do with it.

use std::time::Duration;

use posthaste_core::database::Schema;
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::outbox::{Batch, Feed, OutboxReader, ReadLimit, Ready, Settled, Settlement};
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Checkpoint, Lane, Message, MessageId, StoreError, Timestamp, Verdict};
use posthaste_sqlite::{Options, Sqlite};
use tempfile::TempDir;

/// The one destination of these tests.
pub(crate) const TO: &str = "default";

/// The lane of these tests.
pub(crate) fn lane() -> Lane {
    Lane::whole(TO)
}

/// Room for everything.
pub(crate) const ALL: ReadLimit = ReadLimit { messages: 10_000, bytes: 1 << 30 };

/// A migrated database, which goes away with this.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) database: Sqlite,
}

impl Fixture {
    /// An empty database with our tables.
    pub(crate) async fn new() -> Self {
        let fixture = Self::unmigrated(Options { create: true, ..Options::default() });
        fixture.database.migrate().await.expect("migrating a new file");
        fixture
    }

    /// A name for a file that is not there.
    pub(crate) fn unmigrated(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("app.db").display());
        let database = Sqlite::open(&url, options).expect("a good URL");
        Self { folder, database }
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("app.db")
    }

    /// Another handle on the same file, as another program would have it.
    pub(crate) fn second(&self) -> Sqlite {
        Sqlite::open(&self.url(), Options::default()).expect("a good URL")
    }

    /// Runs a statement and returns what the database says to it.
    pub(crate) async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let query = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
        query.execute(self.database.pool()).await.map(|done| done.rows_affected())
    }

    /// A number that a query returns.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()));
        query.fetch_one(self.database.pool()).await.expect(sql)
    }

    /// A text that a query returns.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()));
        query.fetch_one(self.database.pool()).await.expect(sql)
    }

    /// Inserts one row per key, as a script would.
    pub(crate) async fn state(&self, keys: &[Option<&str>]) {
        for key in keys {
            sqlx::query(
                "insert into posthaste_outbox (topic, kind, key, payload) \
                 values ('orders', 'placed', ?, 'x')",
            )
            .bind(key)
            .execute(self.database.pool())
            .await
            .expect("a plain insert");
        }
    }

    pub(crate) async fn lease(&self) -> Lease {
        let ttl = Duration::from_secs(60);
        match self.database.acquire("relay/default/0", "me", ttl).await.expect("a claim") {
            Claim::Granted(lease) => lease,
            held => panic!("{held:?}"),
        }
    }

    pub(crate) async fn read(&self) -> Batch {
        let from = self.database.checkpoint(&lane()).await.expect("a checkpoint");
        self.database.read(&lane(), &from, ALL).await.expect("a batch")
    }

    pub(crate) async fn ready(&self) -> Ready {
        self.database.ready(&lane(), ALL).await.expect("what is ready")
    }

    /// The positions that are ready.
    pub(crate) async fn ready_seqs(&self) -> Vec<String> {
        let ready = self.ready().await;
        ready.entries.iter().map(|entry| entry.position.to_string()).collect()
    }

    /// Settles rows of topic `orders` and moves the checkpoint to `reached`.
    pub(crate) async fn settle(
        &self,
        lease: &Lease,
        number: u64,
        reached: Option<i64>,
        verdicts: Vec<Settled>,
    ) -> Result<(), StoreError> {
        let checkpoint = reached.map(|seq| Checkpoint::new(seq.to_string()));
        let settlement = Settlement { lane: lane(), number, checkpoint, verdicts };
        self.database.settle(lease, &settlement).await
    }

    /// The side table, as `seq:state` words in the order of positions.
    pub(crate) async fn held(&self) -> String {
        self.text(
            "select coalesce(group_concat(seq || ':' || state, ' '), '') \
             from (select seq, state from posthaste_held order by seq)",
        )
        .await
    }
}

/// A verdict on a row of topic `orders`.
pub(crate) fn verdict(seq: i64, feed: Feed, key: Option<&str>, verdict: Verdict) -> Settled {
    let address = Some(("orders".to_owned(), key.map(str::to_owned)));
    Settled { position: posthaste_core::Position::new(seq.to_string()), feed, address, verdict }
}

/// A failed attempt that is tried again after `delay` milliseconds.
pub(crate) fn retry(attempts: u32, delay: u64) -> Verdict {
    let delay = Duration::from_millis(delay);
    Verdict::Retry { attempts, delay, detail: format!("failure {attempts}") }
}

pub(crate) fn dead(park: bool) -> Verdict {
    let (reason, detail) = (DeadReason::Refused, "never".to_owned());
    Verdict::Dead { attempts: 3, reason, detail, park }
}

pub(crate) fn id(n: u8) -> MessageId {
    MessageId::v7(Timestamp::from_millis(1_790_000_000_000), [n; 10])
}

pub(crate) fn message(n: u8) -> Message {
    let stated_at = Timestamp::from_millis(1_790_000_000_000);
    Message::new(id(n), "orders", "order.placed", format!("{{\"n\":{n}}}"), stated_at)
}

/// Waits until `condition` holds, for at most ten seconds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
