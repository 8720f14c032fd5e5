//! Which URL scheme is which backend, and which options it takes: the only file of the program that
//! names one, apart from the demo.
//!
//! Somebody with a backend of their own builds their own binary in one line:
//! `posthaste_cli::main(Registry::default().broker("acme", acme::open))`.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use posthaste_bus::{Bus, BusOptions};
use posthaste_core::dead_letter::DeadLetters;
use posthaste_core::{Broker, BrokerError, Database, StoreError};
use posthaste_postgres::Postgres;
use posthaste_rabbitmq::{RabbitMq, RabbitMqOptions};
use posthaste_sqlite::Sqlite;
use secrecy::{ExposeSecret, SecretString};

use crate::failure::Failure;
use crate::settings::address::Address;
use crate::settings::options::{BrokerOptions, DatabaseOptions, Known};
use crate::settings::validation::Schemes;

/// A future that lives as long as it likes.
pub type Opening<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Ends a broker in order.
pub type Closer = Arc<dyn Fn() -> Opening<()> + Send + Sync>;
type DatabaseOpener =
    Arc<dyn Fn(DatabasePlace) -> Opening<Result<Arc<dyn Database>, StoreError>> + Send + Sync>;
type BrokerOpener =
    Arc<dyn Fn(BrokerPlace) -> Opening<Result<OpenBroker, BrokerError>> + Send + Sync>;

/// A database to open.
#[derive(Clone, Debug)]
pub struct DatabasePlace {
    /// The URL as it was given. It may hold a password and parameters of the backend's own.
    pub url: SecretString,
    /// Most bytes of one payload.
    pub payload_limit: usize,
    /// Whether a database that is not there may be made (only `migrate` may).
    pub create: bool,
    /// What the settings say beside the URL; only what the scheme was registered with.
    pub options: DatabaseOptions,
}

/// A broker to open.
#[derive(Clone, Debug)]
pub struct BrokerPlace {
    /// The URL as it was given. It may hold a password and parameters of the backend's own.
    pub url: SecretString,
    /// Its name in the settings.
    pub name: String,
    /// What the settings say beside the URL; only what the scheme was registered with.
    pub options: BrokerOptions,
}

/// A broker that was opened.
#[derive(Clone)]
pub struct OpenBroker {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// What it gave up on, if operators can act on that.
    pub dead_letters: Option<Arc<dyn DeadLetters>>,
    /// Ends it in order, if there is something to end; not doing so is no worse than a crash, and
    /// what takes longer than 5 s is given up.
    pub close: Option<Closer>,
}

/// A farewell that takes longer is given up.
const FAREWELL: Duration = Duration::from_secs(5);

impl OpenBroker {
    pub(crate) async fn close(&self) {
        if let Some(close) = &self.close
            && tokio::time::timeout(FAREWELL, close()).await.is_err()
        {
            tracing::debug!("the broker did not let go in time and was left");
        }
    }
}

/// Backends by URL scheme.
#[derive(Clone)]
pub struct Registry {
    databases: BTreeMap<String, Backend<DatabaseOpener>>,
    brokers: BTreeMap<String, Backend<BrokerOpener>>,
}

/// A backend.
#[derive(Clone)]
struct Backend<O> {
    /// The options that it takes, by their names in the settings.
    options: &'static [&'static str],
    open: O,
}

const POSTGRES: &[&str] = &["schema", "connections", "lock_timeout", "listen"];
const RABBITMQ: &[&str] = &[
    "prefix",
    "declare",
    "ca_file",
    "window",
    "publish_timeout",
    "delivery_limit",
    "subscriptions",
];

impl Default for Registry {
    /// The backends of this repository.
    fn default() -> Self {
        Self::empty()
            .database("sqlite", sqlite)
            .database_with("postgres", POSTGRES, postgres)
            .database_with("postgresql", POSTGRES, postgres)
            .broker("bus", bus)
            .broker_with("amqp", RABBITMQ, rabbitmq)
            .broker_with("amqps", RABBITMQ, rabbitmq)
    }
}

impl Registry {
    /// No backends at all.
    pub fn empty() -> Self {
        Self { databases: BTreeMap::new(), brokers: BTreeMap::new() }
    }

    /// The same with a database for URLs of this scheme, in place of the one it had. All that it
    /// is told stands in the URL.
    #[must_use]
    pub fn database<F, O>(self, scheme: &str, open: F) -> Self
    where
        F: Fn(DatabasePlace) -> O + Send + Sync + 'static,
        O: Future<Output = Result<Arc<dyn Database>, StoreError>> + Send + 'static,
    {
        self.database_with(scheme, &[], open)
    }

    /// The same for a database that takes these options of `[database]`, by the names of the fields
    /// of [`DatabaseOptions`]; others are refused before it is opened.
    #[must_use]
    pub fn database_with<F, O>(
        mut self,
        scheme: &str,
        options: &'static [&'static str],
        open: F,
    ) -> Self
    where
        F: Fn(DatabasePlace) -> O + Send + Sync + 'static,
        O: Future<Output = Result<Arc<dyn Database>, StoreError>> + Send + 'static,
    {
        let open: DatabaseOpener = Arc::new(move |place| Box::pin(open(place)));
        self.databases.insert(scheme.to_ascii_lowercase(), Backend { options, open });
        self
    }

    /// The same with a broker for URLs of this scheme, in place of the one it had. All that it is
    /// told stands in the URL.
    #[must_use]
    pub fn broker<F, O>(self, scheme: &str, open: F) -> Self
    where
        F: Fn(BrokerPlace) -> O + Send + Sync + 'static,
        O: Future<Output = Result<OpenBroker, BrokerError>> + Send + 'static,
    {
        self.broker_with(scheme, &[], open)
    }

    /// The same for a broker that takes these options of `[broker]`, by the names of the fields of
    /// [`BrokerOptions`]; others are refused before it is opened.
    #[must_use]
    pub fn broker_with<F, O>(
        mut self,
        scheme: &str,
        options: &'static [&'static str],
        open: F,
    ) -> Self
    where
        F: Fn(BrokerPlace) -> O + Send + Sync + 'static,
        O: Future<Output = Result<OpenBroker, BrokerError>> + Send + 'static,
    {
        let open: BrokerOpener = Arc::new(move |place| Box::pin(open(place)));
        self.brokers.insert(scheme.to_ascii_lowercase(), Backend { options, open });
        self
    }

    /// The schemes that are known.
    pub(crate) fn schemes(&self) -> Schemes {
        Schemes { databases: known(&self.databases), brokers: known(&self.brokers) }
    }

    /// Whether brokers of the scheme of this address take this option.
    pub(crate) fn broker_takes(&self, address: &Address, option: &str) -> bool {
        let backend = address.scheme().and_then(|scheme| self.brokers.get(&scheme));
        backend.is_some_and(|backend| backend.options.contains(&option))
    }

    pub(crate) async fn open_database(
        &self,
        address: &Address,
        place: DatabasePlace,
    ) -> Result<Result<Arc<dyn Database>, StoreError>, Failure> {
        let scheme = address.scheme().unwrap_or_default();
        match self.databases.get(&scheme) {
            Some(backend) => Ok((backend.open)(place).await),
            None => Err(unknown("database", &scheme, self.databases.keys())),
        }
    }

    pub(crate) async fn open_broker(
        &self,
        address: &Address,
        place: BrokerPlace,
    ) -> Result<Result<OpenBroker, BrokerError>, Failure> {
        let scheme = address.scheme().unwrap_or_default();
        match self.brokers.get(&scheme) {
            Some(backend) => Ok((backend.open)(place).await),
            None => Err(unknown("broker", &scheme, self.brokers.keys())),
        }
    }
}

async fn sqlite(place: DatabasePlace) -> Result<Arc<dyn Database>, StoreError> {
    let options = posthaste_sqlite::Options {
        create: place.create,
        payload_limit: place.payload_limit,
        ..posthaste_sqlite::Options::default()
    };
    Ok(Arc::new(Sqlite::open(place.url.expose_secret(), options)?))
}

/// How long a call waits for a connection: a person waits as well, and a relay asks again.
const CONNECTING: Duration = Duration::from_secs(5);

/// What drivers log of failures that are told as errors anyway.
pub(crate) const REPEATED: &str = "lapin=off";

async fn postgres(place: DatabasePlace) -> Result<Arc<dyn Database>, StoreError> {
    let default = posthaste_postgres::Options::default();
    let told = place.options;
    let options = posthaste_postgres::Options {
        schema: told.schema.unwrap_or(default.schema),
        payload_limit: place.payload_limit,
        connections: told.connections.unwrap_or(default.connections),
        lock_timeout: told.lock_timeout.unwrap_or(default.lock_timeout),
        listen: told.listen.unwrap_or(default.listen),
        acquire_timeout: CONNECTING,
        ..default
    };
    Ok(Arc::new(Postgres::open(place.url.expose_secret(), options)?))
}

async fn rabbitmq(place: BrokerPlace) -> Result<OpenBroker, BrokerError> {
    let mut options = RabbitMqOptions::default();
    let told = place.options;
    options.prefix = told.prefix.unwrap_or_default();
    options.declare = told.declare.unwrap_or(options.declare);
    options.ca_file = told.ca_file;
    if let Some(window) = told.window {
        options.window = usize::try_from(window).unwrap_or(usize::MAX);
    }
    options.publish_within = told.publish_timeout.unwrap_or(options.publish_within);
    options.delivery_limit = told.delivery_limit.unwrap_or(options.delivery_limit);
    let rabbit = RabbitMq::open(place.url.expose_secret(), options)?;
    let closing = rabbit.clone();
    let close: Closer = Arc::new(move || {
        let rabbit = closing.clone();
        Box::pin(async move { rabbit.close().await })
    });
    // A broker does not tell what its queues are called, so the settings have to.
    let dead_letters: Option<Arc<dyn DeadLetters>> = match told.subscriptions.as_slice() {
        [] => None,
        named => Some(Arc::new(rabbit.dead_letters(named)?)),
    };
    Ok(OpenBroker { broker: Arc::new(rabbit), dead_letters, close: Some(close) })
}

async fn bus(place: BrokerPlace) -> Result<OpenBroker, BrokerError> {
    // Opening claims and may recover a file, which would hold up other work on this thread.
    let open = move || Bus::open(place.url.expose_secret(), BusOptions::default());
    let bus = tokio::task::spawn_blocking(open)
        .await
        .map_err(|error| BrokerError::failed(format!("opening the bus failed: {error}")))??;
    let closing = bus.clone();
    let close: Closer = Arc::new(move || {
        let bus = closing.clone();
        Box::pin(async move { bus.close().await })
    });
    Ok(OpenBroker {
        broker: Arc::new(bus.clone()),
        dead_letters: Some(Arc::new(bus)),
        close: Some(close),
    })
}

fn known<O>(backends: &BTreeMap<String, Backend<O>>) -> Known {
    backends.iter().map(|(scheme, backend)| (scheme.clone(), backend.options)).collect()
}

fn unknown<'a>(what: &str, scheme: &str, known: impl Iterator<Item = &'a String>) -> Failure {
    let known: Vec<String> = known.map(|scheme| format!("{scheme}:")).collect();
    Failure::usage(format!("unknown {what} scheme '{scheme}:'; known here: {}", known.join(", ")))
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.schemes(), f)
    }
}

#[cfg(test)]
mod tests {
    use posthaste::memory::{MemoryBroker, MemoryDatabase};

    use super::*;

    async fn acme(place: BrokerPlace) -> Result<OpenBroker, BrokerError> {
        assert_eq!((place.url.expose_secret(), place.name.as_str()), ("acme://h", "default"));
        let broker = Arc::new(MemoryBroker::new());
        Ok(OpenBroker { broker, dead_letters: None, close: None })
    }

    #[test]
    fn a_backend_from_elsewhere_stands_beside_ours() {
        let registry = Registry::default().broker("Acme", acme).database("mem", |_| async {
            Ok::<Arc<dyn Database>, StoreError>(Arc::new(MemoryDatabase::new()))
        });
        let schemes = registry.schemes();
        let brokers: Vec<&String> = schemes.brokers.keys().collect();
        assert_eq!(brokers, ["acme", "amqp", "amqps", "bus"]);
        assert!(schemes.databases.contains_key("mem"), "{schemes:?}");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let address = Address::new("acme://h");
            let place = BrokerPlace {
                url: address.secret(),
                name: "default".to_owned(),
                options: BrokerOptions::default(),
            };
            let opened = registry.open_broker(&address, place.clone()).await;
            opened.unwrap().unwrap().close().await;
            let unknown = registry.open_broker(&Address::new("kafka://h"), place).await;
            let Err(Failure::Usage { message, .. }) = unknown else { panic!("it was opened") };
            assert_eq!(
                message,
                "unknown broker scheme 'kafka:'; known here: acme:, amqp:, amqps:, bus:"
            );
        });
    }
}
