//! What the demo does and reads in a database, whichever it is: the state of the shop, and what
//! the consumers book.
//!
//! The statements are the same everywhere ([`statements`]); what differs from database to database
//! stands in a file of its own.

mod postgres;
mod sqlite;
mod statements;

use std::fmt::Debug;
use std::future::Future;

use posthaste::{HandlerError, PublishError};
use posthaste_core::inbox::{Inbox, InboxUpkeep};
use posthaste_core::transaction::OutboxWriter;
use posthaste_core::{Database, StoreError};

use crate::failure::{Failure, sentence};

use super::site::Site;

pub(super) use self::statements::Count;

/// How one database differs from another.
pub(super) trait Dialect:
    Clone + Debug + Database + OutboxWriter + Inbox + InboxUpkeep
{
    /// How long a transaction is held open at most, in milliseconds: as long as others can bear.
    const LONGEST_HOLD: u64;
    /// The shop, and what the consumers book, as statements for [`Dialect::text`].
    const SHOP: &'static str;
    /// See [`Dialect::SHOP`]. It may be there already.
    const LEDGER: &'static str;
    /// The rows of the outbox in their order, as the contract describes them.
    const OUTBOX: &'static str;

    /// A handle on one of the demo's databases.
    fn open(site: &Site, database: &str, create: bool) -> Result<Self, Failure>;

    /// A statement with names put in: `posthaste.` is before tables of Posthaste, `shop.` before
    /// those of the application.
    fn text(&self, template: &'static str) -> String;

    /// A transaction as a service begins it that reads for a while before it writes.
    fn begin_reading(&self) -> impl Future<Output = Result<Self::Transaction, Trouble>> + Send;

    /// Whether other transactions got in the way, so that trying again helps.
    fn is_busy(error: &sqlx::Error) -> bool;

    /// Takes away what was made at a server, unless it is to be kept, and closes the database.
    fn leave(&self, site: &Site, keep: bool) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What the demo does in its databases.
pub(super) trait Stage: Dialect {
    /// Makes the tables of the shop.
    fn furnish_shop(&self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Makes the tables of a consumer.
    fn furnish_ledger(&self, consumer: &str) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Looks at the orders of a customer.
    fn look(
        &self,
        connection: &mut Self::Connection,
        customer: &str,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Raises the version of a customer and returns it.
    fn raise(
        &self,
        connection: &mut Self::Connection,
        customer: &str,
        by: i64,
    ) -> impl Future<Output = Result<i64, Trouble>> + Send;

    /// Notes an order with the number of its messages.
    fn place(
        &self,
        connection: &mut Self::Connection,
        order: &Order<'_>,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Commits without telling anybody, as a service does that has its own way to commit.
    fn commit_plainly(
        transaction: Self::Transaction,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Rolls back.
    fn roll_back(
        transaction: Self::Transaction,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Books a message: one more row, and a higher balance. Nothing but the inbox keeps it from
    /// being booked twice.
    fn book(
        &self,
        connection: &mut Self::Connection,
        entry: &Entry<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Orders with the number of their messages.
    fn orders(&self) -> impl Future<Output = Result<Vec<(String, i64)>, Failure>> + Send;

    /// The outbox, in its order.
    fn outbox(&self) -> impl Future<Output = Result<Vec<Row>, Failure>> + Send;

    /// What a consumer has booked, in its order: ids and digests.
    fn ledger(
        &self,
        consumer: &str,
    ) -> impl Future<Output = Result<Vec<(String, String)>, Failure>> + Send;

    /// A single number.
    fn count(
        &self,
        count: Count,
        consumer: &str,
    ) -> impl Future<Output = Result<i64, Failure>> + Send;
}

/// An order of the shop.
pub(super) struct Order<'o> {
    pub(super) id: &'o str,
    pub(super) customer: &'o str,
    pub(super) amount: i64,
    pub(super) messages: i64,
}

/// What a consumer books.
pub(super) struct Entry<'e> {
    pub(super) consumer: &'e str,
    pub(super) message: String,
    pub(super) digest: String,
    pub(super) amount: i64,
}

/// A row of the outbox, as the contract describes it.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) topic: String,
    pub(super) kind: String,
    pub(super) key: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) headers: String,
    pub(super) payload: Vec<u8>,
}

impl<'r, R> sqlx::FromRow<'r, R> for Row
where
    R: sqlx::Row,
    for<'i> &'i str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<String>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Vec<u8>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            topic: row.try_get("topic")?,
            kind: row.try_get("kind")?,
            key: row.try_get("key")?,
            content_type: row.try_get("content_type")?,
            headers: row.try_get("headers")?,
            payload: row.try_get("payload")?,
        })
    }
}

/// Why a transaction did not get to its end.
pub(super) enum Trouble {
    /// Another one holds the lock: trying again helps.
    Busy,
    Failed(Failure),
}

impl Trouble {
    pub(super) fn of<D: Dialect>(error: &sqlx::Error) -> Self {
        if D::is_busy(error) { Self::Busy } else { Self::Failed(failed(error)) }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        if error.is_transient() { Self::Busy } else { Self::Failed(error.into()) }
    }
}

impl From<PublishError> for Trouble {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(error) => error.into(),
            other => Self::Failed(failed(&other)),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::failed(format!("the shop cannot write: {}", sentence(error)))
}

fn unreadable(error: &sqlx::Error) -> Failure {
    Failure::failed(format!("cannot read what the demo has written: {}", sentence(error)))
}
