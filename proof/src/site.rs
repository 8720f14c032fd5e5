//! A world on real servers.

use std::time::Duration;

use crate::carrier::Carrier;
use crate::chance::Chance;
use crate::node::{Relaying, Writing};
use crate::shop::{BOOKS, Order, Receipt, TILL};
use crate::truth::Truth;
use crate::{Failure, Job, World};
use posthaste::core::database::{Monitor, Status};
use posthaste::{Event, Subscription};
use posthaste_postgres::Postgres;
use posthaste_servers::{RabbitMq, TestDatabase, TestVhost, postgres_or_skip, rabbitmq_or_skip};
use tokio::time::Instant;

use crate::crew::Crew;
use crate::rig::{PATIENCE, SOON, consumers, number};

/// How often a queue is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The queue of orders.
pub const ORDERS: &str = "orders.till";
/// The queue of receipts.
pub const RECEIPTS: &str = "receipts.books";

/// Effects of receipts so far.
pub const FILED: &str = "select count(*) from shop_effect where consumer = 'books'";

/// Messages in memory of one relay: so many, at most, are on their way when it is killed.
pub const WINDOW: usize = 64;

/// A campaign on servers. The servers' parts go when this does, after everything that uses them.
pub struct Site {
    /// Nodes, evidence and looks from outside.
    pub world: World<Postgres>,
    /// The database that is its own.
    pub database: TestDatabase,
    /// The virtual host that is its own.
    pub vhost: TestVhost,
}

impl Site {
    /// On the servers that all proofs share. Nothing, after saying so, if one is not installed.
    pub async fn shared(chance: &Chance) -> Result<Option<Self>, Failure> {
        let Some((postgres, rabbitmq)) = servers().await else { return Ok(None) };
        Self::on(postgres, rabbitmq, chance).await.map(Some)
    }

    /// On these servers.
    pub async fn on(
        postgres: &posthaste_servers::Postgres,
        rabbitmq: &RabbitMq,
        chance: &Chance,
    ) -> Result<Self, Failure> {
        let (database, vhost) = (postgres.database().await, rabbitmq.vhost().await);
        let world = World::on(chance.seed(), database.url(), vhost.url()).await?;
        Ok(Self { world, database, vhost })
    }

    /// Makes exchanges, queues and bindings, so that nothing is sent before somebody is there.
    pub async fn declare(&self) -> Result<(), Failure> {
        let carrier = Carrier::at(&self.world.broker_url, self.world.bus, self.world.rabbit)?;
        for (topic, consumer) in [(Order::TOPIC, TILL), (Receipt::TOPIC, BOOKS)] {
            drop(carrier.broker().subscriber(&Subscription::new(topic, consumer)).await?);
        }
        carrier.close().await;
        Ok(())
    }

    /// Both consumers, this many relays that share four lanes, and two writers that go on.
    pub async fn crew(&self, relays: u32) -> Result<Crew<'_, Postgres>, Failure> {
        self.declare().await?;
        let mut crew = Crew::of(&self.world);
        crew.add("consumer", consumers()).await?;
        for number in 1..=relays {
            crew.add(&format!("relay {number}"), [relay()]).await?;
        }
        self.add_writers(&mut crew).await?;
        Ok(crew)
    }

    /// Two writers that go on until they are asked to end.
    pub async fn add_writers(&self, crew: &mut Crew<'_, Postgres>) -> Result<(), Failure> {
        for number in 1..=2 {
            crew.add(&format!("writer {number}"), [writer()]).await?;
        }
        Ok(())
    }

    /// Waits until so many more orders were booked.
    pub async fn goes_on(&self, orders: i64) -> Result<(), Failure> {
        let goal = self.booked().await? + orders;
        self.world.until(crate::rig::BOOKED, goal, SOON).await
    }

    /// Orders that were booked so far.
    pub async fn booked(&self) -> Result<i64, Failure> {
        number(&self.world, crate::rig::BOOKED).await
    }

    /// Figures of the relay, from the database.
    pub async fn status(&self) -> Result<Status, Failure> {
        Ok(self.world.database.status("default").await?)
    }

    /// Waits until enough was written, and then until all of it is where it belongs, ends everybody,
    /// and reads what has happened. The promise was kept, and no queue holds anything.
    pub async fn judged(
        &self,
        mut crew: Crew<'_, Postgres>,
        enough: usize,
    ) -> Result<Truth, Failure> {
        self.world.until_acknowledged(enough, SOON).await?;
        self.end_writers(&mut crew).await?;
        let all = self.world.rest(PATIENCE).await?;
        crew.finish_all(&["relay", "consumer"]).await?;
        let truth = self.world.truth().await?;
        truth.kept()?;
        truth.is_worth(enough, 0)?;
        if !all {
            return Err("everything was delivered, but no relay says so".into());
        }
        self.until_empty(ORDERS).await?;
        self.until_empty(RECEIPTS).await?;
        Ok(truth)
    }

    /// Ends the writers in order.
    pub async fn end_writers(&self, crew: &mut Crew<'_, Postgres>) -> Result<(), Failure> {
        for name in crew.names("writer") {
            crew.finish(&name).await?;
        }
        Ok(())
    }

    /// Takes a rule out of a function of the database, which must have it.
    pub async fn weaken(&self, function: &str, rule: &str, instead: &str) -> Result<(), Failure> {
        let statement = format!(
            "do $do$ declare \
             before constant text := pg_get_functiondef('posthaste.{function}'::regproc); \
             after constant text := replace(before, $rule${rule}$rule$, $rule${instead}$rule$); \
             begin \
             if before = after then raise exception 'there is no such rule'; end if; \
             execute after; \
             end $do$"
        );
        self.database.psql(&statement).await?;
        Ok(())
    }

    /// Messages in a queue, delivered or not; the server's answer may be some seconds old.
    pub async fn depth(&self, queue: &str) -> Option<u64> {
        self.vhost.describe("queues", queue).await.and_then(|queue| queue["messages"].as_u64())
    }

    /// Waits until a queue is empty.
    pub async fn until_empty(&self, queue: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + SOON;
        loop {
            let depth = self.depth(queue).await;
            if depth == Some(0) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{depth:?} messages are still in {queue}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The shared servers. Nothing, after saying so, if one is not installed.
pub async fn servers() -> Option<(&'static posthaste_servers::Postgres, &'static RabbitMq)> {
    Some((postgres_or_skip().await?, rabbitmq_or_skip().await?))
}

/// A relay that shares four lanes.
pub fn relay() -> Job {
    Job::Relay(Relaying { lanes: Some(4), window: WINDOW, ..Relaying::default() })
}

/// A writer that goes on until it is asked to end.
pub fn writer() -> Job {
    Job::Write(Writing {
        transactions: u64::MAX,
        pause_ms: 6,
        rollback_one_in: 4,
        savepoint_one_in: 5,
        ..Writing::default()
    })
}

/// Lets some time pass, because time is what the faults are spread over.
pub async fn moment(chance: &mut Chance, longest_ms: u64) {
    let time = chance.between(Duration::from_millis(20), Duration::from_millis(longest_ms));
    tokio::time::sleep(time).await;
}
