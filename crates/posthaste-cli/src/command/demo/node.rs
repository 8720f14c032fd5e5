//! The child process of the demo: a relay and two consumers, until it is asked to stop or killed.
//!
//! It stops in good order when its standard input ends, which also happens when its parent dies.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use posthaste::{Relay, RelayOptions, Subscription};
use posthaste_core::{Broker, BrokerError, Database, Subscriber};
use posthaste_history::Journal;
use posthaste_history::event::Format;
use posthaste_postgres::Postgres;
use posthaste_sqlite::Sqlite;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::context::Context;
use crate::failure::Failure;
use crate::logging;
use crate::settings::address::Address;
use crate::settings::configuration::LogConfiguration;

use super::carrier::Carrier;
use super::recorder::Recorder;
use super::sabotage::{self, Sabotage};
use super::site::Site;
use super::stage::Stage;
use super::world::{CONSUMERS, SHOP, TOPIC};

/// How long a killed relay's lease keeps the next one waiting. Far shorter than what suits a
/// service, because here a relay dies every half second.
const LEASE: Duration = Duration::from_millis(400);
/// How long a stop may take before the process ends anyway.
const GRACE: Duration = Duration::from_secs(10);

/// Variables that hold the URL of a server, if the demo takes place at one.
pub(super) const DATABASE: &str = "POSTHASTE_DEMO_DATABASE";
pub(super) const BROKER: &str = "POSTHASTE_DEMO_BROKER";

/// The relay and the consumers of the demo
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder of the demo
    folder: PathBuf,
    /// What it is called at servers
    name: String,
    /// Which rule to break
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
}

/// Relays and consumes until standard input ends.
pub(crate) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    logging::start(&LogConfiguration::default(), "warn", context.output);
    let server = |variable| std::env::var(variable).ok().map(Address::new);
    let Arguments { folder, name, sabotage } = arguments;
    let site = Site { folder, name, database: server(DATABASE), broker: server(BROKER) };
    match site.database {
        None => work::<Sqlite>(&site, sabotage).await,
        Some(_) => work::<Postgres>(&site, sabotage).await,
    }
}

async fn work<S: Stage>(site: &Site, sabotage: Option<Sabotage>) -> Result<(), Failure> {
    let stop = end_of_input()?;
    let carrier = Carrier::open(site)?;
    let broker = match sabotage {
        Some(sabotage) => sabotage.broker(carrier.broker()),
        None => carrier.broker(),
    };
    let mut parts = JoinSet::new();
    for name in CONSUMERS {
        let inner = subscribe(&*broker, name).await?;
        let journal = Journal::open(&site.arrivals(name), name, Format::default());
        let journal = journal.map_err(|error| {
            Failure::failed(format!("cannot write the arrivals of {name}: {error}"))
        })?;
        let database = S::open(site, name, false)?;
        let recorder = Box::new(Recorder { inner, consumer: name, journal });
        let stop = asked(stop.clone());
        let consumer = sabotage::consumer(sabotage, name, database, recorder, stop);
        parts.spawn(async move { consumer.await.map_err(Failure::from) });
    }
    let database: Arc<dyn Database> = Arc::new(S::open(site, SHOP, false)?);
    let database = match sabotage {
        Some(sabotage) => sabotage.database(database),
        None => database,
    };
    let options = RelayOptions { lease_ttl: LEASE, ..RelayOptions::default() };
    let relay = Relay::new(database, broker).options(options);
    let stop = asked(stop);
    parts.spawn(async move {
        relay.run_until(stop).await;
        Ok(())
    });
    while let Some(ended) = parts.join_next().await {
        ended.map_err(|error| Failure::failed(format!("a part of it ended: {error}")))??;
    }
    carrier.close().await;
    Ok(())
}

/// Subscribes, patiently: another owner of the bus may be on its way out.
async fn subscribe(broker: &dyn Broker, name: &str) -> Result<Box<dyn Subscriber>, BrokerError> {
    let subscription = Subscription::new(TOPIC, name);
    let mut last = broker.subscriber(&subscription).await;
    for _ in 0..50 {
        match last {
            Err(error) if error.is_transient() => {}
            settled => return settled,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        last = broker.subscriber(&subscription).await;
    }
    last
}

/// Turns true when standard input ends; some time later the process ends, whatever it is doing.
fn end_of_input() -> Result<watch::Receiver<bool>, Failure> {
    let (sender, receiver) = watch::channel(false);
    // A thread of its own, because reading cannot be interrupted and must not keep the runtime.
    let watching = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut nothing = [0; 64];
        while matches!(stdin.read(&mut nothing), Ok(1..)) {}
        sender.send_replace(true);
        std::thread::sleep(GRACE);
        std::process::exit(1);
    });
    watching.map(drop).map_err(|error| Failure::failed(format!("cannot watch stdin: {error}")))?;
    Ok(receiver)
}

async fn asked(mut stop: watch::Receiver<bool>) {
    // An end of the sender is an end of the process.
    drop(stop.wait_for(|asked| *asked).await);
}
