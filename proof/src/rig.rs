//! What the proofs and campaigns share: jobs, orders, and how long things may take.

use std::time::Duration;

use crate::chance::Chance;
use crate::evidence::{acknowledged, moment};
use crate::ground::Ground;
use crate::ledger::{Ledger, Placed};
use crate::node::{Consuming, Relaying, Writing};
use crate::shop::{Behaviour, Order};
use crate::{Failure, Job, Process, World};
use posthaste::core::MessageId;
use posthaste::{Draft, Message, Outbox};

/// How long nothing may move before a world counts as at rest although something is missing.
pub const PATIENCE: Duration = Duration::from_secs(12);

/// How long something that has to happen may take.
pub const SOON: Duration = Duration::from_secs(30);

/// A new world for a campaign.
pub async fn world(chance: &Chance) -> Result<World, Failure> {
    World::create(chance.seed()).await
}

/// A relay with the usual settings.
pub fn relay() -> Job {
    Job::Relay(Relaying::default())
}

/// A relay that is slow to believe that another one is gone, for proofs in which none is: a busy
/// machine must not look like a fault.
pub fn patient_relay() -> Job {
    Job::Relay(Relaying { lease_ms: 15_000, ..Relaying::default() })
}

/// Both consumers, with more attempts than a campaign has kills: an attempt that a process dies of
/// counts, whoever is to blame.
pub fn consumers() -> [Job; 2] {
    let settings = Consuming { attempts: 100, ..Consuming::default() };
    [Job::Till(settings.clone()), Job::Books(settings)]
}

/// A writer of this many transactions.
pub fn writer(transactions: u64) -> Job {
    Job::Write(Writing { transactions, ..Writing::default() })
}

/// A writer that goes on until it is asked to end.
pub fn steady_writer() -> Job {
    Job::Write(Writing { transactions: u64::MAX, pause_ms: 4, ..Writing::default() })
}

/// A writer that goes on and thinks in between: one that does not hides what is not synchronised,
/// because it waits for the disk most of the time.
pub fn writer_with_pauses() -> Job {
    Job::Write(Writing { transactions: u64::MAX, pause_ms: 5, ..Writing::default() })
}

/// Waits for writers to be done.
pub async fn written(writers: impl IntoIterator<Item = Process>) -> Result<(), Failure> {
    for mut writer in writers {
        let status = writer.end(Duration::from_secs(60)).await?;
        assert!(status.success(), "a writer ended with {status}");
    }
    Ok(())
}

/// An order by a customer.
pub fn order(customer: &str, amount: i64, behaviour: Behaviour, note: &str) -> Order {
    let (customer, note) = (Some(customer.to_owned()), note.to_owned());
    Order { customer, amount, behaviour, note }
}

/// Places orders in one transaction, from the process of the test.
pub async fn place<D: Ground>(
    world: &World<D>,
    orders: &[Order],
) -> Result<Vec<MessageId>, Failure> {
    let outbox = Outbox::new(world.database.clone());
    let mut transaction = outbox.begin().await?;
    let ids = state(&outbox, D::connection(&mut transaction), orders).await?;
    outbox.commit(transaction).await?;
    let noted = ids.iter().map(MessageId::to_string).collect();
    world.evidence.note(acknowledged(noted))?;
    Ok(ids)
}

/// States orders in a transaction and notes them beside it. Their commit is not noted.
pub async fn state<D: Ground>(
    outbox: &Outbox<D>,
    connection: &mut D::Connection,
    orders: &[Order],
) -> Result<Vec<MessageId>, Failure> {
    let stated = moment();
    let ids = outbox.publish_all(connection, orders).await?;
    let name = format!("of the test, with {:?}", ids.first());
    connection.open_transaction(&name, orders.len()).await?;
    for (order, id) in orders.iter().zip(&ids) {
        let message = Message { id: *id, ..Draft::of(order)?.into_message() };
        let (part_of, amount) = (name.as_str(), order.amount);
        connection.place(Placed { part_of, message: &message, amount, stated }).await?;
    }
    Ok(ids)
}

/// Places an order that is to be sent later. Nobody waits for it, so it has no place in the order
/// of its customer.
pub async fn place_due(world: &World, due_in: Duration) -> Result<(), Failure> {
    let later = Order { customer: None, ..order("nobody", 1, Behaviour::Good, "later") };
    let draft = Draft::of(&later)?.due_in(due_in);
    let outbox = Outbox::new(world.database.clone());
    let mut transaction = outbox.begin().await?;
    let stated = moment();
    let id = outbox.publish_draft(&mut transaction, draft.clone()).await?;
    let message = Message { id, ..draft.into_message() };
    let name = format!("of the test, with {id}, due later");
    transaction.open_transaction(&name, 1).await?;
    let order = Placed { part_of: &name, message: &message, amount: later.amount, stated };
    transaction.place(order).await?;
    Ok(outbox.commit(transaction).await?)
}

/// Effects of orders so far.
pub const BOOKED: &str = "select count(*) from shop_effect where consumer = 'till'";

/// Dead letters so far.
pub const DEAD: &str = "select count(*) from posthaste_dead_letter";

/// Settlements so far.
pub const SETTLEMENTS: &str = "select count(*) from posthaste_batch";

/// The number that a query gives.
pub async fn number<D: Ground>(world: &World<D>, query: &str) -> Result<i64, Failure> {
    Ok(world.eye.number(query).await?)
}
