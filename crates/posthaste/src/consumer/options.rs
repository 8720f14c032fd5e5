//! How a consumer behaves.

use std::time::Duration;

use posthaste_core::RetryPolicy;
use posthaste_core::consumer::Settings;
use posthaste_core::inbox::InboxWindow;

/// How a consumer behaves. The defaults suit most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Most deliveries that are handled in one transaction.
    pub batch: usize,
    /// How long a batch waits for more deliveries than there are. Zero takes what is there: while
    /// one batch runs the next one gathers by itself.
    pub linger: Duration,
    /// Batches at once. More than one only pays on a database with concurrent writers.
    pub concurrency: usize,
    /// Most deliveries in hand.
    pub prefetch: usize,
    /// How often and how long apart a message is tried before it becomes a dead letter.
    pub retry: RetryPolicy,
    /// How long a handler may take for one message.
    pub handler_timeout: Duration,
    /// How long the inbox remembers.
    pub window: InboxWindow,
    /// How often the inbox is tidied and reposted dead letters are looked for.
    pub upkeep: Duration,
    /// How long a stop waits for the batches under way.
    pub grace: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            batch: settings.batch,
            linger: settings.linger,
            concurrency: settings.concurrency,
            prefetch: 256,
            retry: RetryPolicy::default(),
            handler_timeout: Duration::from_secs(30),
            window: InboxWindow::default(),
            upkeep: Duration::from_secs(2),
            grace: Duration::from_secs(30),
        }
    }
}

impl ConsumerOptions {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            batch: self.batch.max(1),
            linger: self.linger,
            concurrency: self.concurrency.max(1),
            ..Settings::default()
        }
    }
}
