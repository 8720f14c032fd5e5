//! Consumes events with a plain async function, each exactly once in effect: the inbox entry, the
//! shipment and the follow-up message are one transaction.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::Arc;

use posthaste::core::Broker;
use posthaste::core::database::Schema;
use posthaste::{Consumer, Event, HandlerError, Outbox, Relay, Subscription, handler_fn};
use posthaste_bus::{Bus, BusOptions};
use posthaste_sqlite::{Options, Sqlite};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use tokio::sync::Notify;

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order: i64,
}

impl Event for OrderPlaced {
    const TOPIC: &'static str = "orders";
    const KIND: &'static str = "order.placed";

    fn key(&self) -> Option<String> {
        Some(self.order.to_string())
    }
}

async fn ship(tx: &mut SqliteConnection, event: OrderPlaced) -> Result<(), HandlerError> {
    sqlx::query("insert into shipments (order_id) values (?)")
        .bind(event.order)
        .execute(tx)
        .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let at =
        |scheme: &str, file: &str| format!("{scheme}://{}", folder.path().join(file).display());
    let options = Options { create: true, ..Options::default() };
    let database = Sqlite::open(&at("sqlite", "app.db"), options)?;
    database.migrate().await?;
    sqlx::query("create table shipments (order_id integer not null)")
        .execute(database.pool())
        .await?;
    let bus = Bus::open(&at("bus", "bus.db"), BusOptions::default())?;

    let stop = Arc::new(Notify::new());
    let subscriber = bus.subscriber(&Subscription::new("orders", "shipping")).await?;
    let consumer = Consumer::new("shipping", database.clone()).on(handler_fn(ship));
    let stopped = Arc::clone(&stop);
    let consuming = tokio::spawn(consumer.run_until(subscriber, async move {
        stopped.notified().await;
    }));
    let relay = Relay::new(Arc::new(database.clone()), Arc::new(bus.clone()));
    let stopped = Arc::clone(&stop);
    let relaying = tokio::spawn(relay.run_until(async move { stopped.notified().await }));

    let outbox = Outbox::new(database.clone());
    let mut tx = outbox.begin().await?;
    let events: Vec<OrderPlaced> = (1..=100).map(|order| OrderPlaced { order }).collect();
    outbox.publish_all(&mut tx, &events).await?;
    outbox.commit(tx).await?;

    let mut look = tokio::time::interval(std::time::Duration::from_millis(5));
    let shipments = loop {
        look.tick().await;
        let count: i64 =
            sqlx::query_scalar("select count(*) from shipments").fetch_one(database.pool()).await?;
        if count >= 100 {
            break count;
        }
    };
    stop.notify_waiters();
    relaying.await?;
    consuming.await??;
    println!("100 orders placed, {shipments} shipments");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_runs() {
        super::main().expect("the example ends well");
    }
}
