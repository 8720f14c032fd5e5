//! What a backend hands to a law: a fresh store, seen through two handles.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;

use posthaste_core::inbox::{Inbox, InboxUpkeep};
use posthaste_core::transaction::OutboxWriter;
use posthaste_core::{Broker, Database};

/// All seams of one database.
pub trait Store: Database + OutboxWriter + Inbox + InboxUpkeep {}

impl<D: Database + OutboxWriter + Inbox + InboxUpkeep> Store for D {}

/// A fresh database for one law.
pub struct DatabaseCase<D> {
    /// One handle to it.
    pub database: D,
    /// Another handle to the same database, as another process would have it.
    pub second: D,
    kept: Vec<Box<dyn Any + Send>>,
}

impl<D> DatabaseCase<D> {
    /// A case of two handles to one database.
    pub fn new(database: D, second: D) -> Self {
        Self { database, second, kept: Vec::new() }
    }

    /// Keeps something alive as long as the case is: a temporary folder, for example.
    #[must_use]
    pub fn keep(mut self, thing: impl Any + Send) -> Self {
        self.kept.push(Box::new(thing));
        self
    }
}

/// A fresh broker for one law.
pub struct BrokerCase {
    /// One handle to it.
    pub broker: Arc<dyn Broker>,
    /// Another handle to the same broker, as another process would have it.
    pub second: Arc<dyn Broker>,
    /// Whether it returns what no subscription is there for, instead of keeping it or letting it
    /// go.
    pub returns: bool,
    kept: Vec<Box<dyn Any + Send>>,
}

impl BrokerCase {
    /// A case of two handles to one broker.
    pub fn new(broker: Arc<dyn Broker>, second: Arc<dyn Broker>) -> Self {
        Self { broker, second, returns: false, kept: Vec::new() }
    }

    /// The same of a broker that returns what no subscription is there for.
    #[must_use]
    pub fn returning(mut self) -> Self {
        self.returns = true;
        self
    }

    /// Keeps something alive as long as the case is: a temporary folder, for example.
    #[must_use]
    pub fn keep(mut self, thing: impl Any + Send) -> Self {
        self.kept.push(Box::new(thing));
        self
    }
}

/// Takes a broker away from its clients and brings it back, with all that it has on its disk.
#[async_trait]
pub trait Outage: Send + Sync {
    /// From when this returns until [`Outage::back`], nobody reaches the broker.
    async fn away(&self);

    /// Clients can reach it again when this returns; they have to find that out by themselves.
    async fn back(&self);
}

/// A fresh broker that can be away for a while.
pub struct OutageCase {
    /// A handle of a client, which sees the outage.
    pub broker: Arc<dyn Broker>,
    /// What makes the outage.
    pub outage: Arc<dyn Outage>,
    kept: Vec<Box<dyn Any + Send>>,
}

impl OutageCase {
    /// A case of a client's handle and of the outage that it will see.
    pub fn new(broker: Arc<dyn Broker>, outage: Arc<dyn Outage>) -> Self {
        Self { broker, outage, kept: Vec::new() }
    }

    /// Keeps something alive as long as the case is: a temporary folder, for example.
    #[must_use]
    pub fn keep(mut self, thing: impl Any + Send) -> Self {
        self.kept.push(Box::new(thing));
        self
    }
}
