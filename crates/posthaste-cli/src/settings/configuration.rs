//! What is to be done: settings that have been checked, and the step that opens what they name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use posthaste::RelayOptions;
use posthaste_core::finding::Finding;
use posthaste_core::{BrokerError, Database, StoreError};

use super::LogFormat;
use super::address::Address;
use super::options::{BrokerOptions, DatabaseOptions};
use crate::failure::Failure;
use crate::registry::{BrokerPlace, DatabasePlace, OpenBroker, Registry};

/// Checked settings.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// Where the outbox is, if that was said.
    pub(crate) database: Option<DatabaseConfiguration>,
    /// The brokers by name; `[broker]` is `default`.
    pub(crate) brokers: BTreeMap<String, BrokerConfiguration>,
    /// How to relay; the destination is the name of the broker.
    pub(crate) relay: RelayOptions,
    /// Where to serve health and metrics, if that was asked for; always a loopback address.
    pub(crate) http: Option<SocketAddr>,
    /// What to log.
    pub(crate) log: LogConfiguration,
    /// What is worth knowing and no mistake.
    pub(crate) notices: Vec<Finding>,
}

/// Where the outbox is.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseConfiguration {
    /// Its URL.
    pub(crate) address: Address,
    /// Most bytes of one payload.
    pub(crate) payload_limit: usize,
    /// What else it is told.
    pub(crate) options: DatabaseOptions,
}

/// A broker.
#[derive(Clone, Debug)]
pub(crate) struct BrokerConfiguration {
    /// Its URL.
    pub(crate) address: Address,
    /// What else it is told.
    pub(crate) options: BrokerOptions,
    /// Whether it was said which subscriptions there are, be it none.
    pub(crate) names_subscriptions: bool,
}

/// What to log, and how.
#[derive(Debug, Default)]
pub(crate) struct LogConfiguration {
    /// Text or JSON; `None` if that was not said.
    pub(crate) format: Option<LogFormat>,
    /// Levels; `None` if that was not said.
    pub(crate) level: Option<String>,
}

impl Configuration {
    /// Opens the database. Nothing in it is changed unless `create` says that it may be made.
    ///
    /// # Errors
    /// [`Failure`] if none is configured or it cannot be opened.
    pub(crate) async fn open_database(
        &self,
        registry: &Registry,
        create: bool,
    ) -> Result<Arc<dyn Database>, Failure> {
        Ok(self.try_open_database(registry, create).await??)
    }

    /// As [`Configuration::open_database`], with the database's own error apart, for callers that
    /// wait for an absent one.
    ///
    /// # Errors
    /// [`Failure`] if none is configured.
    pub(crate) async fn try_open_database(
        &self,
        registry: &Registry,
        create: bool,
    ) -> Result<Result<Arc<dyn Database>, StoreError>, Failure> {
        let Some(database) = &self.database else { return Err(Failure::no_database()) };
        let place = DatabasePlace {
            url: database.address.secret(),
            payload_limit: database.payload_limit,
            create,
            options: database.options.clone(),
        };
        registry.open_database(&database.address, place).await
    }

    /// Opens the broker that `relay.broker` names.
    ///
    /// # Errors
    /// [`Failure`] if none is configured or it cannot be opened.
    pub(crate) async fn open_broker(&self, registry: &Registry) -> Result<OpenBroker, Failure> {
        Ok(self.try_open_broker(registry).await??)
    }

    /// As [`Configuration::open_broker`], with the broker's own error apart, for callers that wait
    /// for an absent one.
    ///
    /// # Errors
    /// [`Failure`] if none is configured.
    pub(crate) async fn try_open_broker(
        &self,
        registry: &Registry,
    ) -> Result<Result<OpenBroker, BrokerError>, Failure> {
        let name = &self.relay.destination;
        let Some(broker) = self.brokers.get(name) else { return Err(Failure::no_broker()) };
        let (url, options) = (broker.address.secret(), broker.options.clone());
        let place = BrokerPlace { url, name: name.clone(), options };
        registry.open_broker(&broker.address, place).await
    }

    /// Whether the broker keeps dead letters in queues of which nobody has said what they are
    /// called: it takes names of subscriptions and was given none, not even an empty list.
    pub(crate) fn leaves_queues_unnamed(&self, registry: &Registry) -> bool {
        let broker = self.brokers.get(&self.relay.destination);
        broker.is_some_and(|broker| {
            !broker.names_subscriptions && registry.broker_takes(&broker.address, "subscriptions")
        })
    }

    /// Whether there is a broker to open.
    pub(crate) fn has_broker(&self) -> bool {
        self.brokers.contains_key(&self.relay.destination)
    }

    /// The destination whose figures are shown.
    pub(crate) fn destination(&self) -> &str {
        &self.relay.destination
    }
}
