//! The two consumers: the till books orders and issues receipts, the books take receipts in.

use std::time::Duration;

use posthaste::core::inbox::{Inbox, InboxUpkeep};
use posthaste::core::outbox::Signal;
use posthaste::core::transaction::Transactional;
use posthaste::{
    Consumer, ConsumerOptions, Draft, Event, Handler, HandlerError, Message, Outbox, RetryPolicy,
    Subscription, reject,
};
use posthaste_history::event::Handling;

use super::Consuming;
use super::run::Site;
use super::witness::Witness;
use crate::Failure;
use crate::carrier::Carrier;
use crate::evidence::Evidence;
use crate::ground::{Counter, Ground};
use crate::ledger::Ledger;
use crate::shop::{BOOKS, Behaviour, Order, Receipt, TILL};

/// How long a consumer waits before it asks again for what the broker could not give.
const AGAIN: Duration = Duration::from_millis(20);

/// Books an order and issues its receipt.
pub struct Till<D> {
    /// For the receipts.
    pub outbox: Outbox<D>,
    /// For the attempts.
    pub evidence: Evidence,
}

impl<D: Counter> Handler<D::Connection> for Till<D> {
    type Event = Order;

    async fn handle(
        &self,
        connection: &mut D::Connection,
        order: Order,
        message: &Message,
    ) -> Result<(), HandlerError> {
        let id = message.id.to_string();
        let entered = Handling { consumer: TILL.to_owned(), id: id.clone(), attempt: None };
        self.evidence.note(entered)?;
        let receipt =
            Receipt { customer: order.customer.clone(), amount: order.amount, order: id.clone() };
        let receipt_id = self.outbox.publish(connection, &receipt).await?;
        let stated = Message { id: receipt_id, ..Draft::of(&receipt)?.into_message() };
        connection.book(TILL, message, order.amount, Some(&stated)).await?;
        self.misbehave(order.behaviour, &id).await
    }
}

impl<D> Till<D> {
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

impl<C: Ledger> Handler<C> for Books {
    type Event = Receipt;

    async fn handle(
        &self,
        connection: &mut C,
        receipt: Receipt,
        message: &Message,
    ) -> Result<(), HandlerError> {
        connection.book(BOOKS, message, receipt.amount, None).await?;
        Ok(())
    }
}

pub(super) async fn till<D: Ground>(
    site: Site<D>,
    carrier: Carrier,
    consuming: Consuming,
) -> Result<(), Failure> {
    let (plain, evidence) = (site.database.clone(), site.evidence.clone());
    let till = Till { outbox: Outbox::new(plain), evidence };
    consume(TILL, till, site, carrier, consuming).await
}

pub(super) async fn books<D: Ground>(
    site: Site<D>,
    carrier: Carrier,
    consuming: Consuming,
) -> Result<(), Failure> {
    consume(BOOKS, Books, site, carrier, consuming).await
}

/// The consumer of orders.
pub fn till_on<D: Ground>(database: D, evidence: Evidence) -> Consumer<D> {
    let till = Till { outbox: Outbox::new(database.clone()), evidence };
    Consumer::new(TILL, database).on(till)
}

/// The consumer of receipts.
pub fn books_on<D: Ground>(database: D) -> Consumer<D> {
    Consumer::new(BOOKS, database).on(Books)
}

/// Consumes on the database as this node sees it, with whatever is done to it.
async fn consume<D: Ground, H: Handler<D::Connection>>(
    name: &str,
    handler: H,
    site: Site<D>,
    carrier: Carrier,
    consuming: Consuming,
) -> Result<(), Failure> {
    let plain = site.database.clone();
    let forgetful = site.node.sabotage.and_then(|sabotage| sabotage.forgetful(plain.clone()));
    let seat = Seat { name, site: &site, carrier: &carrier, consuming: &consuming };
    match (forgetful, site.node.death) {
        (Some(forgetful), _) => seat.consume(forgetful, handler).await,
        (None, Some(death)) => seat.consume(death.database(plain), handler).await,
        (None, None) => seat.consume(plain, handler).await,
    }
}

/// Where a consumer works.
struct Seat<'s, D> {
    name: &'s str,
    site: &'s Site<D>,
    carrier: &'s Carrier,
    consuming: &'s Consuming,
}

impl<D: Ground> Seat<'_, D> {
    async fn consume<S, H>(self, database: S, handler: H) -> Result<(), Failure>
    where
        S: Inbox + InboxUpkeep + Signal + Clone,
        H: Handler<<S as Transactional>::Connection>,
    {
        let (name, site) = (self.name, self.site);
        let subscription = Subscription::new(H::Event::TOPIC, name);
        let broker = site.broker(self.carrier);
        let inner = loop {
            match broker.subscriber(&subscription).await {
                Ok(subscriber) => break subscriber,
                Err(error) if error.is_transient() && site.is_stopped() => return Ok(()),
                Err(error) if error.is_transient() => tokio::time::sleep(AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        };
        let witness = Witness { consumer: name.to_owned(), inner, evidence: site.evidence.clone() };
        let consumer = Consumer::new(name, database).on(handler).options(options(self.consuming));
        Ok(consumer.run_until(Box::new(witness), site.stopped()).await?)
    }
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
