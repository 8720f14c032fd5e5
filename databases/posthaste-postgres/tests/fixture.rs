//! A database of its own for each test, and short words for what tests do with it.

use std::fmt::Debug;

use posthaste_core::database::Schema;
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Message, MessageId, Timestamp};
use posthaste_postgres::{Options, Postgres};
use posthaste_servers::{TestDatabase, postgres_or_skip};

/// A database of the shared server, which goes away with this.
pub(crate) struct Fixture {
    pub(crate) test: TestDatabase,
    pub(crate) database: Postgres,
}

impl Fixture {
    /// An empty database with our tables; nothing, after saying so, where there is no server.
    pub(crate) async fn new() -> Option<Self> {
        let fixture = Self::unmigrated(Options::default()).await?;
        fixture.database.migrate().await.expect("migrating a new database");
        Some(fixture)
    }

    /// An empty database.
    pub(crate) async fn unmigrated(options: Options) -> Option<Self> {
        let test = postgres_or_skip().await?.database().await;
        let database = Postgres::open(&test.url(), options).expect("a good URL");
        Some(Self { test, database })
    }

    /// Another handle on the same database, as another program would have it.
    pub(crate) fn second(&self) -> Postgres {
        Postgres::open(&self.test.url(), Options::default()).expect("a good URL")
    }

    /// A handle as another role.
    pub(crate) fn as_role(&self, role: &str) -> Postgres {
        Postgres::open(&self.test.url_as(role), Options::default()).expect("a good URL")
    }

    /// Runs statements with psql and returns what it prints.
    pub(crate) async fn sql(&self, statements: &str) -> String {
        match self.test.psql(statements).await {
            Ok(printed) => printed,
            Err(reason) => panic!("{statements}: {reason}"),
        }
    }

    /// Runs statements that must be refused, and returns why.
    pub(crate) async fn refused(&self, statements: &str) -> String {
        match self.test.psql(statements).await {
            Ok(printed) => panic!("{statements}: not refused, but {printed}"),
            Err(reason) => reason,
        }
    }

    /// States messages in a transaction of their own.
    pub(crate) async fn state(&self, messages: &[Message]) {
        let mut tx = self.database.begin().await.expect("begin");
        self.database.enqueue(&mut tx, messages).await.expect("enqueue");
        self.database.commit(tx).await.expect("commit");
    }

    /// How many rows the outbox has.
    pub(crate) async fn rows(&self) -> i64 {
        self.sql("select count(*) from posthaste.outbox").await.parse().expect("a number")
    }
}

/// The id with this number.
pub(crate) fn id(number: u8) -> MessageId {
    MessageId::v7(Timestamp::from_millis(1_700_000_000_000), [number; 10])
}

/// The message with this number.
pub(crate) fn message(number: u8) -> Message {
    Message::new(id(number), "orders", "placed", "x", Timestamp::from_millis(1_700_000_000_000))
}

/// What went wrong, with all its causes, as a person would see it.
pub(crate) fn shown<T: Debug, E: std::error::Error>(result: Result<T, E>) -> String {
    result.expect_err("it must not go well").to_string()
}
