//! The tables of the shop, and what is written into them inside the transactions that are watched.

use async_trait::async_trait;
use posthaste::Message;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Executor, PgConnection};

use crate::shop::{digest, printed};

/// The tables. `shop_order` has a row for each message that a transaction states, written beside
/// it; `shop_effect` has no uniqueness whatever, so that doubled effects show. `NUMBER` is a column
/// that the database counts up.
const TABLES: &str = "
create table shop_transaction (id text primary key, messages bigint not null);
create table shop_order (
    number NUMBER, message text not null, part_of text not null, key text,
    digest text not null, amount bigint not null, stated bigint not null);
create table shop_effect (
    number NUMBER, consumer text not null, message text not null, digest text not null,
    amount bigint not null, receipt text, receipt_digest text);
create table shop_balance (consumer text primary key, amount bigint not null);
create index shop_order_message on shop_order (message);
create index shop_effect_message on shop_effect (message);
create index shop_effect_receipt on shop_effect (receipt);
";

/// The statements that make the tables in SQLite.
pub fn sqlite_tables() -> String {
    TABLES.replace("NUMBER", "integer primary key autoincrement")
}

/// The statements that make the tables in PostgreSQL.
pub fn postgres_tables() -> String {
    TABLES.replace("NUMBER", "bigint generated always as identity primary key")
}

/// An order as it is noted beside its message.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'o> {
    /// The transaction that it is part of.
    pub part_of: &'o str,
    /// The message.
    pub message: &'o Message,
    /// What it is worth.
    pub amount: i64,
    /// A moment before the message was stated; see [`crate::evidence::moment`].
    pub stated: i64,
}

/// A connection, inside a transaction, to a database with the tables of the shop.
#[async_trait]
pub trait Ledger: Send {
    /// Notes a transaction and how many messages belong to it.
    async fn open_transaction(&mut self, id: &str, messages: usize) -> Result<(), sqlx::Error>;

    /// Notes an order beside its message.
    async fn place(&mut self, order: Placed<'_>) -> Result<(), sqlx::Error>;

    /// What a handler does: a row, and a sum that would show if it were done twice.
    async fn book(
        &mut self,
        consumer: &str,
        message: &Message,
        amount: i64,
        receipt: Option<&Message>,
    ) -> Result<(), sqlx::Error>;

    /// Runs a statement that says where in the transaction something begins or is undone.
    async fn mark(&mut self, statement: &'static str) -> Result<(), sqlx::Error>;
}

/// The statements are the same; the drivers' types are not.
macro_rules! ledger {
    ($connection:ty) => {
        #[async_trait]
        impl Ledger for $connection {
            async fn open_transaction(
                &mut self,
                id: &str,
                messages: usize,
            ) -> Result<(), sqlx::Error> {
                sqlx::query("insert into shop_transaction (id, messages) values ($1, $2)")
                    .bind(id)
                    .bind(i64::try_from(messages).unwrap_or(i64::MAX))
                    .execute(self)
                    .await?;
                Ok(())
            }

            async fn place(&mut self, order: Placed<'_>) -> Result<(), sqlx::Error> {
                sqlx::query(
                    "insert into shop_order (message, part_of, key, digest, amount, stated) \
                     values ($1, $2, $3, $4, $5, $6)",
                )
                .bind(order.message.id.to_string())
                .bind(order.part_of)
                .bind(&order.message.key)
                .bind(printed(digest(order.message)))
                .bind(order.amount)
                .bind(order.stated)
                .execute(self)
                .await?;
                Ok(())
            }

            async fn book(
                &mut self,
                consumer: &str,
                message: &Message,
                amount: i64,
                receipt: Option<&Message>,
            ) -> Result<(), sqlx::Error> {
                sqlx::query(
                    "insert into shop_effect \
                     (consumer, message, digest, amount, receipt, receipt_digest) \
                     values ($1, $2, $3, $4, $5, $6)",
                )
                .bind(consumer)
                .bind(message.id.to_string())
                .bind(printed(digest(message)))
                .bind(amount)
                .bind(receipt.map(|receipt| receipt.id.to_string()))
                .bind(receipt.map(|receipt| printed(digest(receipt))))
                .execute(&mut *self)
                .await?;
                sqlx::query(
                    "insert into shop_balance (consumer, amount) values ($1, $2) \
                     on conflict (consumer) do update \
                     set amount = shop_balance.amount + excluded.amount",
                )
                .bind(consumer)
                .bind(amount)
                .execute(self)
                .await?;
                Ok(())
            }

            async fn mark(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
                Executor::execute(self, statement).await.map(|_| ())
            }
        }
    };
}

ledger!(SqliteConnection);
ledger!(PgConnection);

/// A transaction that can be given up on purpose.
#[async_trait]
pub trait Undo: Send {
    /// Rolls it back.
    async fn undo(self) -> Result<(), sqlx::Error>;
}

#[async_trait]
impl<DB: sqlx::Database> Undo for sqlx::Transaction<'static, DB> {
    async fn undo(self) -> Result<(), sqlx::Error> {
        self.rollback().await
    }
}
