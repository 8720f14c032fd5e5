//! Relay, consumers and bus inside the process of the test, where futures can be dropped and
//! connections reached.

use std::future::Future;
use std::sync::Arc;

use posthaste::core::Broker;
use posthaste::{Event, Relay, Subscription};
use posthaste_bus::Bus;
use posthaste_proof::ground::CONNECTIONS;
use posthaste_proof::node::{Consuming, Relaying, Witness, consume, relay};
use posthaste_proof::shop::{BOOKS, Order, Receipt, TILL};
use posthaste_proof::{Failure, World};
use sqlx::Sqlite;
use sqlx::pool::PoolConnection;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// See the module.
pub(crate) struct Inside<'w> {
    world: &'w World,
    pub(crate) bus: Bus,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<(), Failure>>,
}

impl<'w> Inside<'w> {
    pub(crate) fn open(world: &'w World) -> Result<Self, Failure> {
        let bus = Bus::open(&world.broker_url, world.bus.into())?;
        let (stop, _) = watch::channel(false);
        Ok(Self { world, bus, stop, tasks: JoinSet::new() })
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // An error means that nobody can say stop any more, which is the same.
            drop(stop.wait_for(|stop| *stop).await);
        }
    }

    /// A relay that is not running yet.
    pub(crate) fn relay(&self, settings: &Relaying) -> Relay {
        let database = Arc::new(self.world.database.clone());
        Relay::new(database, Arc::new(self.bus.clone())).options(relay::options("inside", settings))
    }

    /// Lets a relay run.
    pub(crate) fn start_relay(&mut self) -> Arc<posthaste::Progress> {
        let relay = self.relay(&Relaying::default());
        let (progress, stopped) = (relay.progress(), self.stopped());
        self.tasks.spawn(async move {
            relay.run_until(stopped).await;
            Ok(())
        });
        progress
    }

    /// A subscription whose arrivals are noted.
    pub(crate) async fn witness<E: Event>(&self, consumer: &str) -> Result<Witness, Failure> {
        let inner = self.bus.subscriber(&Subscription::new(E::TOPIC, consumer)).await?;
        let evidence = self.world.evidence.clone();
        Ok(Witness { consumer: consumer.to_owned(), inner, evidence })
    }

    /// Lets the till run.
    pub(crate) async fn start_till(&mut self) -> Result<(), Failure> {
        let subscriber = Box::new(self.witness::<Order>(TILL).await?);
        let till = consume::till_on(self.world.database.clone(), self.world.evidence.clone())
            .options(consume::options(&Consuming::default()));
        let stopped = self.stopped();
        self.tasks.spawn(async move { Ok(till.run_until(subscriber, stopped).await?) });
        Ok(())
    }

    /// Lets the books run.
    pub(crate) async fn start_books(&mut self) -> Result<(), Failure> {
        let subscriber = Box::new(self.witness::<Receipt>(BOOKS).await?);
        let books = consume::books_on(self.world.database.clone())
            .options(consume::options(&Consuming::default()));
        let stopped = self.stopped();
        self.tasks.spawn(async move { Ok(books.run_until(subscriber, stopped).await?) });
        Ok(())
    }

    /// Stops everything and closes the bus.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        self.bus.close().await;
        Ok(())
    }
}

/// Every connection of the pool at once.
pub(crate) async fn all_connections(world: &World) -> Result<Vec<PoolConnection<Sqlite>>, Failure> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(world.database.pool().acquire().await?);
    }
    Ok(connections)
}
