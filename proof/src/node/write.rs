//! Places orders: each transaction notes the business beside the messages that it states, some
//! are rolled back, some stay open for a while.

use std::time::Duration;

use posthaste::{Draft, Message, MessageId, Outbox};

use super::Writing;
use super::run::Site;
use crate::Failure;
use crate::chance::Chance;
use crate::evidence::{acknowledged, moment, rolled_back};
use crate::ground::{Counter, Ground};
use crate::ledger::{Ledger, Placed, Undo};
use crate::shop::{Behaviour, Order};

/// How long a writer waits before it tries again what the database could not do.
const AGAIN: Duration = Duration::from_millis(20);

pub(super) async fn write<D: Ground>(
    number: u64,
    site: Site<D>,
    writing: Writing,
) -> Result<(), Failure> {
    let database = site.database.clone();
    match site.node.death {
        Some(death) => write_to(death.database(database), number, site, writing).await,
        None => write_to(database, number, site, writing).await,
    }
}

async fn write_to<S: Counter, D: Ground>(
    database: S,
    number: u64,
    site: Site<D>,
    writing: Writing,
) -> Result<(), Failure> {
    let mut clerk = Clerk {
        chance: Chance::new(site.node.seed),
        outbox: Outbox::new(database),
        run: format!("{}/{}/{number}", site.node.name, std::process::id()),
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

struct Clerk<S, D> {
    site: Site<D>,
    writing: Writing,
    chance: Chance,
    outbox: Outbox<S>,
    /// Makes the names of transactions unique over all starts of this writer.
    run: String,
}

impl<S: Counter, D: Ground> Clerk<S, D> {
    async fn transact(&mut self, number: u64) -> Result<(), Failure> {
        let name = format!("{}/{number}", self.run);
        let orders: Vec<Order> = (0..=self.chance.below(3)).map(|_| self.order()).collect();
        let mut transaction = self.outbox.begin().await?;
        let connection = S::connection(&mut transaction);
        connection.open_transaction(&name, orders.len()).await?;
        let never = self.regret(connection).await?;
        let ids = self.state(connection, &name, &orders).await?;
        if self.chance.one(8) {
            tokio::time::sleep(Duration::from_millis(self.chance.below(6))).await;
        }
        if self.writing.hold_ms > 0 {
            let longest = Duration::from_millis(self.writing.hold_ms);
            tokio::time::sleep(self.chance.between(Duration::ZERO, longest)).await;
        }
        let ids = ids.iter().map(MessageId::to_string).collect();
        self.note_regret(never)?;
        if self.chance.one(self.writing.rollback_one_in.max(1)) {
            transaction.undo().await?;
            return self.site.evidence.note(rolled_back(ids));
        }
        self.outbox.commit(transaction).await?;
        self.site.evidence.note(acknowledged(ids))
    }

    /// States an order in a savepoint and takes it back. Whatever becomes of the transaction, it
    /// must be nowhere.
    async fn regret(
        &mut self,
        connection: &mut S::Connection,
    ) -> Result<Option<MessageId>, Failure> {
        if self.writing.savepoint_one_in == 0 || !self.chance.one(self.writing.savepoint_one_in) {
            return Ok(None);
        }
        connection.mark("savepoint regret").await?;
        let order = self.order();
        let id = self.outbox.publish(connection, &order).await?;
        connection.mark("rollback to savepoint regret").await?;
        if self.chance.one(2) {
            connection.mark("release savepoint regret").await?;
        }
        Ok(Some(id))
    }

    fn note_regret(&self, never: Option<MessageId>) -> Result<(), Failure> {
        match never {
            Some(id) => self.site.evidence.note(rolled_back(vec![id.to_string()])),
            None => Ok(()),
        }
    }

    /// States the orders, all in one statement or one by one, and notes them.
    async fn state(
        &mut self,
        connection: &mut S::Connection,
        transaction: &str,
        orders: &[Order],
    ) -> Result<Vec<MessageId>, Failure> {
        let stated = moment();
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
            let (amount, part_of) = (order.amount, transaction);
            connection.place(Placed { part_of, message: &message, amount, stated }).await?;
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
