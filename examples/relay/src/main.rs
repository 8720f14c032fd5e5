//! Relays in the same process as the application: no server, no second program.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::Arc;

use posthaste::core::Broker;
use posthaste::core::database::Schema;
use posthaste::{Draft, Outbox, Relay, Subscription};
use posthaste_bus::{Bus, BusOptions};
use posthaste_sqlite::{Options, Sqlite};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let at =
        |scheme: &str, file: &str| format!("{scheme}://{}", folder.path().join(file).display());
    let options = Options { create: true, ..Options::default() };
    let database = Sqlite::open(&at("sqlite", "app.db"), options)?;
    database.migrate().await?;
    let bus = Bus::open(&at("bus", "bus.db"), BusOptions::default())?;

    let (stop, stopped) = oneshot::channel::<()>();
    let relay = Relay::new(Arc::new(database.clone()), Arc::new(bus.clone()));
    let progress = relay.progress();
    let relaying = tokio::spawn(relay.run_until(async {
        // Also when the sender is dropped: whoever held it is gone.
        let _ = stopped.await;
    }));

    let outbox = Outbox::new(database);
    let mut tx = outbox.begin().await?;
    let draft = Draft::new("greetings", "hello", "hello, world").key("world");
    outbox.publish_draft(&mut tx, draft).await?;
    outbox.commit(tx).await?;

    let mut subscriber = bus.subscriber(&Subscription::new("greetings", "default")).await?;
    for delivery in subscriber.receive(1).await? {
        println!("{}: {:?}", delivery.message.kind, delivery.message.payload.as_text());
        delivery.complete().await?;
    }
    let _ = stop.send(());
    relaying.await?;
    println!("sent: {}", progress.snapshot().sent);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_runs() {
        super::main().expect("the example ends well");
    }
}
