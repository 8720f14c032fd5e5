//! The relay: outbox to broker, until it is told to stop.
//!
//! All decisions are made by [`posthaste_core::relay`] for a lane and by [`posthaste_core::lane`]
//! for the lanes of a destination; this folder carries them out.

mod hands;
mod options;
mod shell;
mod team;
pub(crate) mod unbound;

use std::future::Future;
use std::sync::Arc;

use posthaste_core::{Broker, Database};

use crate::progress::Progress;

pub(crate) use hands::story;
pub use options::RelayOptions;
pub use posthaste_core::judge::{OnDead, OnUnroutable, TopicPolicy};

/// Carries messages from an outbox to a broker. Any number may run on one database: one leads, the
/// others stand by and take over.
pub struct Relay {
    database: Arc<dyn Database>,
    broker: Arc<dyn Broker>,
    options: RelayOptions,
    progress: Arc<Progress>,
}

impl Relay {
    /// A relay from this database to this broker, with default options.
    pub fn new(database: Arc<dyn Database>, broker: Arc<dyn Broker>) -> Self {
        let progress = Arc::new(Progress::default());
        Self { database, broker, options: RelayOptions::default(), progress }
    }

    /// The same with these options.
    #[must_use]
    pub fn options(mut self, options: RelayOptions) -> Self {
        self.options = options;
        self
    }

    /// Live figures of this relay.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Relays until `stop` is ready; then what was taken is settled, the lease is given back, and
    /// this returns. It waits for a database or a broker that is away and never gives up on them.
    ///
    /// Dropping the returned future stops at once, as a crash would: nothing is lost, what was in
    /// flight may be sent again.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) {
        team::Team::new(self.database, self.broker, self.options, self.progress).run(stop).await;
    }
}
