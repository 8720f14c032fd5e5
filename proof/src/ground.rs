//! The databases that a world can stand on, opened by their URLs.

use std::time::Duration;

use posthaste::core::inbox::{Inbox, InboxUpkeep};
use posthaste::core::outbox::Signal;
use posthaste::core::transaction::{OutboxWriter, Transactional};
use posthaste::core::{Database, StoreError};
use posthaste_postgres::Postgres;
use posthaste_sqlite::Sqlite;

use crate::Failure;
use crate::eye::Eye;
use crate::ledger::{Ledger, Undo};

/// Most connections of one process to the database.
pub const CONNECTIONS: u32 = 4;

/// A database in whose transactions orders can be placed.
pub trait Counter: OutboxWriter + Transactional<Connection: Ledger, Transaction: Undo> {}

impl<D: OutboxWriter + Transactional<Connection: Ledger, Transaction: Undo>> Counter for D {}

/// A database on which everything runs.
pub trait Ground:
    Counter + Database + Inbox + InboxUpkeep + Signal + Clone + std::fmt::Debug
{
    /// The database at a URL.
    ///
    /// # Errors
    /// If the URL makes no sense.
    fn at(url: &str) -> Result<Self, StoreError>;

    /// A way to look at everything from outside.
    ///
    /// # Errors
    /// If the URL makes no sense.
    fn eye(&self, url: &str) -> Result<Eye, Failure>;

    /// What makes the tables of the shop.
    fn tables() -> String;
}

/// How an SQLite file is opened.
pub fn sqlite_options() -> posthaste_sqlite::Options {
    posthaste_sqlite::Options {
        create: true,
        busy_timeout: Duration::from_secs(10),
        connections: CONNECTIONS,
        ..posthaste_sqlite::Options::default()
    }
}

impl Ground for Sqlite {
    fn at(url: &str) -> Result<Self, StoreError> {
        Self::open(url, sqlite_options())
    }

    fn eye(&self, _url: &str) -> Result<Eye, Failure> {
        Ok(Eye::Sqlite(self.pool().clone()))
    }

    fn tables() -> String {
        crate::ledger::sqlite_tables()
    }
}

impl Ground for Postgres {
    fn at(url: &str) -> Result<Self, StoreError> {
        let options = posthaste_postgres::Options {
            connections: CONNECTIONS + 2,
            acquire_timeout: Duration::from_secs(5),
            answer_within: Duration::from_secs(4),
            lock_timeout: Duration::from_secs(3),
            ..posthaste_postgres::Options::default()
        };
        Self::open(url, options)
    }

    fn eye(&self, url: &str) -> Result<Eye, Failure> {
        Ok(Eye::postgres(url)?)
    }

    fn tables() -> String {
        crate::ledger::postgres_tables()
    }
}
