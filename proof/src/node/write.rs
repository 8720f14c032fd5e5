//! Places orders: each transaction notes the business beside the messages that it states, some
//! are rolled back, some stay open for a while.

use std::time::Duration;

use posthaste::core::transaction::OutboxWriter;
use posthaste::{Draft, Message, MessageId, Outbox};
use sqlx::Transaction;
use sqlx::sqlite::SqliteConnection;

use super::Writing;
use super::run::Site;
use crate::Failure;
use crate::chance::Chance;
use crate::evidence::Sight;
use crate::shop::{self, Behaviour, Order};

/// How long a writer waits before it tries again what the database could not do.
const AGAIN: Duration = Duration::from_millis(20);

pub(super) async fn write(site: Site, writing: Writing) -> Result<(), Failure> {
    let database = site.database.clone();
    match site.node.death {
        Some(death) => write_to(death.database(database), site, writing).await,
        None => write_to(database, site, writing).await,
    }
}

async fn write_to<D: Shop>(database: D, site: Site, writing: Writing) -> Result<(), Failure> {
    let mut clerk = Clerk {
        chance: Chance::new(site.node.seed),
        outbox: Outbox::new(database),
        run: format!("{}/{}", site.node.name, std::process::id()),
        writing,
        site,
    };
    for number in 0..clerk.writing.transactions {
        if clerk.site.is_stopped() {
            break;
        }
        if clerk.transact(number).await.is_err() {
            // Unavailable or a full disk. Whether it was committed is seen in the tables.
            tokio::time::sleep(AGAIN).await;
        }
        tokio::time::sleep(Duration::from_millis(clerk.writing.pause_ms)).await;
    }
    Ok(())
}

/// A database in whose transactions orders can be placed.
trait Shop:
    OutboxWriter<Connection = SqliteConnection, Transaction = Transaction<'static, sqlx::Sqlite>>
{
}

impl<D> Shop for D where
    D: OutboxWriter<
            Connection = SqliteConnection,
            Transaction = Transaction<'static, sqlx::Sqlite>,
        >
{
}

struct Clerk<D> {
    site: Site,
    writing: Writing,
    chance: Chance,
    outbox: Outbox<D>,
    /// Makes the names of transactions unique over all starts of this writer.
    run: String,
}

impl<D: Shop> Clerk<D> {
    async fn transact(&mut self, number: u64) -> Result<(), Failure> {
        let name = format!("{}/{number}", self.run);
        let orders: Vec<Order> = (0..=self.chance.below(3)).map(|_| self.order()).collect();
        let mut transaction = self.outbox.begin().await?;
        shop::open_transaction(&mut transaction, &name, orders.len()).await?;
        let ids = self.state(&mut transaction, &name, &orders).await?;
        if self.chance.one(8) {
            tokio::time::sleep(Duration::from_millis(self.chance.below(6))).await;
        }
        let ids = ids.iter().map(MessageId::to_string).collect();
        if self.chance.one(self.writing.rollback_one_in.max(1)) {
            transaction.rollback().await?;
            return self.site.evidence.note(Sight::RolledBack { ids });
        }
        self.outbox.commit(transaction).await?;
        self.site.evidence.note(Sight::Acknowledged { ids })
    }

    /// States the orders, all in one statement or one by one, and notes them.
    async fn state(
        &mut self,
        connection: &mut SqliteConnection,
        transaction: &str,
        orders: &[Order],
    ) -> Result<Vec<MessageId>, Failure> {
        let mut ids = Vec::new();
        if self.chance.one(2) {
            ids = self.outbox.publish_all(connection, orders).await?;
        } else {
            for order in orders {
                ids.push(self.outbox.publish(connection, order).await?);
            }
        }
        for (order, id) in orders.iter().zip(&ids) {
            let message = Message { id: *id, ..Draft::of(order)?.into_message() };
            shop::place(connection, transaction, &message, order.amount).await?;
        }
        Ok(ids)
    }

    fn order(&mut self) -> Order {
        let customer = match self.chance.one(10) {
            true => None,
            false => Some(format!("customer {}", self.chance.below(self.writing.customers.max(1)))),
        };
        let behaviour = match self.chance.one(10) {
            true => self.writing.behaviour,
            false => Behaviour::Good,
        };
        let length = match self.chance.one(40) {
            true => 60_000,
            false => usize::try_from(self.chance.below(80)).unwrap_or(0),
        };
        let note = "grüße, 世界 \u{1f4ee} ".chars().cycle().take(length).collect();
        let amount = i64::try_from(1 + self.chance.below(500)).unwrap_or(1);
        Order { customer, amount, behaviour, note }
    }
}
