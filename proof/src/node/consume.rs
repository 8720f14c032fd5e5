//! The two consumers: the till books orders and issues receipts, the books take receipts in.

use std::time::Duration;

use posthaste::core::inbox::{Inbox, InboxUpkeep};
use posthaste::core::outbox::Signal;
use posthaste::{
    Consumer, ConsumerOptions, Draft, Event, Handler, HandlerError, Message, Outbox, RetryPolicy,
    Subscription, reject,
};
use posthaste_bus::Bus;
use posthaste_sqlite::Sqlite;
use sqlx::sqlite::SqliteConnection;

use super::Consuming;
use super::run::Site;
use super::witness::Witness;
use crate::Failure;
use crate::evidence::{Evidence, Sight};
use crate::shop::{self, BOOKS, Behaviour, Order, Receipt, TILL};

/// Books an order and issues its receipt.
pub struct Till {
    /// For the receipts.
    pub outbox: Outbox<Sqlite>,
    /// For the attempts.
    pub evidence: Evidence,
}

impl Handler<SqliteConnection> for Till {
    type Event = Order;

    async fn handle(
        &self,
        connection: &mut SqliteConnection,
        order: Order,
        message: &Message,
    ) -> Result<(), HandlerError> {
        let id = message.id.to_string();
        self.evidence.note(Sight::Attempted { consumer: TILL.to_owned(), id: id.clone() })?;
        let receipt =
            Receipt { customer: order.customer.clone(), amount: order.amount, order: id.clone() };
        let receipt_id = self.outbox.publish(connection, &receipt).await?;
        let stated = Message { id: receipt_id, ..Draft::of(&receipt)?.into_message() };
        shop::book(connection, TILL, message, order.amount, Some(&stated)).await?;
        self.misbehave(order.behaviour, &id).await
    }
}

impl Till {
    /// Everything was done; now it turns out what kind of order it was.
    async fn misbehave(&self, behaviour: Behaviour, id: &str) -> Result<(), HandlerError> {
        match behaviour {
            Behaviour::Good => Ok(()),
            Behaviour::FailTwice if self.evidence.attempts(id)? > 2 => Ok(()),
            Behaviour::FailTwice | Behaviour::Fail => Err("the drawer is stuck".into()),
            Behaviour::Reject => Err(reject("not for this till")),
            Behaviour::Panic => panic!("the drawer fell out"),
            Behaviour::AbortOnce if self.evidence.attempts(id)? > 1 => Ok(()),
            Behaviour::AbortOnce | Behaviour::Abort => std::process::abort(),
            Behaviour::Hang => std::future::pending().await,
        }
    }
}

/// Takes a receipt in.
pub struct Books;

impl Handler<SqliteConnection> for Books {
    type Event = Receipt;

    async fn handle(
        &self,
        connection: &mut SqliteConnection,
        receipt: Receipt,
        message: &Message,
    ) -> Result<(), HandlerError> {
        shop::book(connection, BOOKS, message, receipt.amount, None).await?;
        Ok(())
    }
}

pub(super) async fn till(site: Site, bus: Bus, consuming: Consuming) -> Result<(), Failure> {
    let (plain, evidence) = (site.database.clone(), site.evidence.clone());
    let till = Till { outbox: Outbox::new(plain), evidence };
    consume(TILL, till, site, bus, consuming).await
}

pub(super) async fn books(site: Site, bus: Bus, consuming: Consuming) -> Result<(), Failure> {
    consume(BOOKS, Books, site, bus, consuming).await
}

/// The consumer of orders.
pub fn till_on(database: Sqlite, evidence: Evidence) -> Consumer<Sqlite> {
    let till = Till { outbox: Outbox::new(database.clone()), evidence };
    Consumer::new(TILL, database).on(till)
}

/// The consumer of receipts.
pub fn books_on(database: Sqlite) -> Consumer<Sqlite> {
    Consumer::new(BOOKS, database).on(Books)
}

/// Consumes on the database as this node sees it, with whatever is done to it.
async fn consume<H: Handler<SqliteConnection>>(
    name: &str,
    handler: H,
    site: Site,
    bus: Bus,
    consuming: Consuming,
) -> Result<(), Failure> {
    let plain = site.database.clone();
    let forgetful = site.node.sabotage.and_then(|sabotage| sabotage.forgetful(plain.clone()));
    match (forgetful, site.node.death) {
        (Some(forgetful), _) => consume_on(forgetful, name, handler, site, bus, consuming).await,
        (None, Some(death)) => {
            consume_on(death.database(plain), name, handler, site, bus, consuming).await
        }
        (None, None) => consume_on(plain, name, handler, site, bus, consuming).await,
    }
}

async fn consume_on<D, H>(
    database: D,
    name: &str,
    handler: H,
    site: Site,
    bus: Bus,
    consuming: Consuming,
) -> Result<(), Failure>
where
    D: Inbox<Connection = SqliteConnection> + InboxUpkeep + Signal + Clone,
    H: Handler<SqliteConnection>,
{
    let subscription = Subscription::new(H::Event::TOPIC, name);
    let broker = site.broker(bus);
    let inner = loop {
        match broker.subscriber(&subscription).await {
            Ok(subscriber) => break subscriber,
            Err(error) if error.is_transient() && site.is_stopped() => return Ok(()),
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
    };
    let witness = Witness { consumer: name.to_owned(), inner, evidence: site.evidence.clone() };
    let consumer = Consumer::new(name, database).on(handler).options(options(&consuming));
    Ok(consumer.run_until(Box::new(witness), site.stopped()).await?)
}

/// Quick, so that a proof need not wait.
pub fn options(consuming: &Consuming) -> ConsumerOptions {
    ConsumerOptions {
        batch: consuming.batch,
        retry: RetryPolicy {
            limit: consuming.attempts,
            first: Duration::from_millis(20),
            longest: Duration::from_millis(200),
        },
        handler_timeout: Duration::from_millis(consuming.handler_timeout_ms),
        upkeep: Duration::from_millis(300),
        prefetch: 64,
        ..ConsumerOptions::default()
    }
}
