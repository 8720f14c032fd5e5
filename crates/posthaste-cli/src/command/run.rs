//! `posthaste run`: relays until it is told to stop.
//!
//! It waits for whatever is absent, says so, and never makes it: no file, no table, no schema.

use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste::Relay;
use posthaste_core::finding::Severity;
use posthaste_core::{Broker, Database, StoreError};
use posthaste_http::Health;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::actor;
use crate::context::Context;
use crate::failure::{Failure, sentence};
use crate::patience::Patience;
use crate::registry::OpenBroker;
use crate::settings::Configuration;
use crate::settings::validation::Needs;
use crate::stop::Stop;

/// How long the broker may take to answer the look at the start.
const FIRST_LOOK: Duration = Duration::from_secs(20);

/// Relay messages from the outbox to the broker until stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "Waits for a database, a schema or a broker that is not there yet; never \
    migrates. Any number may run on one database: one leads, the others stand by. SIGINT or \
    SIGTERM ends it in order, a second one at once.\n\nExamples:\n  posthaste run\n  \
    posthaste run --database sqlite:///var/lib/shop/app.db --broker bus:///var/lib/shop/bus.db\n  \
    posthaste run --listen 127.0.0.1:8025 --log-format json")]
pub(crate) struct Arguments {
    /// Serve /health/live, /health/ready and /metrics at this loopback address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
}

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let needs = Needs { database: true, broker: true };
    let configuration = context.configuration(needs, "info")?;
    let mut stop = Stop::listen()?;
    let health = Health::new(configuration.destination());
    let served = serve(&configuration, &health, &stop).await?;
    let relayed = relay(&configuration, context, &health, &mut stop).await;
    if relayed.is_ok()
        && let Some(served) = served
    {
        // It ends with the same signal, within the time that it gives to open requests.
        match served.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "health and metrics ended badly"),
            Err(error) => tracing::warn!(%error, "health and metrics ended badly"),
        }
    }
    relayed
}

async fn relay(
    configuration: &Configuration,
    context: &Context,
    health: &Health,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let database = configuration.open_database(&context.registry, false).await?;
    if !schema_is_there(&*database, configuration.destination(), health, stop).await? {
        return Ok(());
    }
    let Some(broker) = broker(configuration, context, health, stop).await? else { return Ok(()) };
    let mut options = configuration.relay.clone();
    options.owner = format!("{} pid {}", actor::this_host(), std::process::id());
    let relay = Relay::new(database.clone(), broker.broker.clone()).options(options);
    health.relaying(database, relay.progress());
    tracing::info!(destination = configuration.destination(), "relaying");
    let look = look_at(broker.broker.clone());
    let stopping = async {
        stop.requested().await;
        tracing::info!("stopping; a second signal ends at once");
    };
    relay.run_until(stopping).await;
    look.abort();
    broker.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Looks at the broker and warns of its problems, beside everything else: a relay that stands by
/// does not publish, and would say only when it leads that it cannot.
fn look_at(broker: Arc<dyn Broker>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let Ok(findings) = tokio::time::timeout(FIRST_LOOK, broker.check()).await else {
            let waited = FIRST_LOOK.as_secs();
            tracing::warn!(
                "the broker did not answer within {waited} s; 'posthaste doctor' asks again"
            );
            return;
        };
        for finding in findings.iter().filter(|found| found.severity == Severity::Problem) {
            let advice = finding.advice.as_ref().map(|advice| format!("; {advice}"));
            let advice = advice.unwrap_or_default();
            tracing::warn!("{}: {}{advice}", finding.subject, finding.what);
        }
    })
}

/// Starts to serve health and metrics if that was asked for.
async fn serve(
    configuration: &Configuration,
    health: &Health,
    stop: &Stop,
) -> Result<Option<JoinHandle<std::io::Result<()>>>, Failure> {
    let Some(address) = configuration.http else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!("http.listen: cannot listen on {address}: {error}"))
    })?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "serving /health/live, /health/ready and /metrics");
    let router = posthaste_http::router(health.clone());
    let mut stop = stop.clone();
    let stopping = async move { stop.requested().await };
    Ok(Some(tokio::spawn(posthaste_http::serve(listener, router, stopping))))
}

/// Waits until the database can be used; `false` if it was told to stop meanwhile.
async fn schema_is_there(
    database: &dyn Database,
    destination: &str,
    health: &Health,
    stop: &mut Stop,
) -> Result<bool, Failure> {
    let mut patience = Patience::default();
    loop {
        let looked = tokio::select! {
            biased;
            () = stop.requested() => return Ok(false),
            looked = database.division(destination) => looked,
        };
        let error = match looked {
            Ok(_) => {
                if patience.is_over() {
                    tracing::info!("the database is there");
                }
                return Ok(true);
            }
            Err(error) => error,
        };
        if let StoreError::Schema { found: Some(found), needed, .. } = &error
            && found > needed
        {
            // Nobody takes a schema back, so there is nothing to wait for.
            return Err(error.into());
        }
        if matches!(error, StoreError::Rejected { .. }) {
            return Err(error.into());
        }
        if !wait(&mut patience, &sentence(&error), health, stop).await {
            return Ok(false);
        }
    }
}

/// Waits until the broker can be opened; `None` if it was told to stop meanwhile. A broker that
/// goes away later is the relay's to wait for.
async fn broker(
    configuration: &Configuration,
    context: &Context,
    health: &Health,
    stop: &mut Stop,
) -> Result<Option<OpenBroker>, Failure> {
    let mut patience = Patience::default();
    loop {
        match configuration.try_open_broker(&context.registry).await? {
            Ok(broker) => {
                if patience.is_over() {
                    tracing::info!("the broker is there");
                }
                return Ok(Some(broker));
            }
            Err(error) if error.is_transient() => {
                if !wait(&mut patience, &sentence(&error), health, stop).await {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Says what is waited for and waits a moment; `false` if it was told to stop.
async fn wait(patience: &mut Patience, reason: &str, health: &Health, stop: &mut Stop) -> bool {
    health.waiting(reason);
    if patience.is_news(Instant::now(), reason) {
        tracing::warn!("waiting: {reason}");
    }
    tokio::select! {
        biased;
        () = stop.requested() => false,
        () = tokio::time::sleep(patience.wait()) => true,
    }
}
