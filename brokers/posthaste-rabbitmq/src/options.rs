//! How a client behaves towards the broker. Everything here has a default that is safe.

use std::path::PathBuf;
use std::time::Duration;

use posthaste_core::limits::PAYLOAD_BYTES_MOST;

/// Kind of the queues that are declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    /// Replicated, on disk before it is confirmed, counts deliveries.
    #[default]
    Quorum,
    /// For brokers without quorum queues: no delivery limit of the broker, and dead letters of the
    /// broker's own are not safe.
    Classic,
}

impl QueueType {
    /// The broker's word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// How a client of a RabbitMQ broker behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RabbitMqOptions {
    /// Put before the name of every exchange and queue; empty by default.
    pub prefix: String,
    /// Whether exchanges, queues and bindings are declared when they are first used (the default);
    /// otherwise they must be there, and what is missing is named.
    pub declare: bool,
    /// Kind of the queues that are declared.
    pub queue_type: QueueType,
    /// Deliveries of one message before the broker itself makes it a dead letter: a backstop above
    /// the consumer's own limit. 100 by default.
    pub delivery_limit: u32,
    /// Most messages that are sent and not confirmed; 1024 by default.
    pub window: usize,
    /// Most bytes of messages that are sent and not confirmed; 32 MiB by default. A larger message
    /// goes alone.
    pub window_bytes: usize,
    /// Most bytes of a payload; 16 MiB by default, which RabbitMQ 4 accepts unless it was told
    /// otherwise (`max_message_size`).
    pub max_payload: usize,
    /// How long one call of publish may take; 30 s by default.
    pub publish_within: Duration,
    /// How long connecting may take; 10 s by default.
    pub connect_within: Duration,
    /// How often both sides show that they are alive; a broker that is silent for twice as long is
    /// lost. 10 s by default, from 1 s to an hour.
    pub heartbeat: Duration,
    /// A file of certificates (PEM) that a broker's certificate must go back to; the system's are
    /// not trusted then. Only for `amqps://`.
    pub ca_file: Option<PathBuf>,
}

impl Default for RabbitMqOptions {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            declare: true,
            queue_type: QueueType::default(),
            delivery_limit: 100,
            window: 1024,
            window_bytes: 32 * 1024 * 1024,
            max_payload: 16 * 1024 * 1024,
            publish_within: Duration::from_secs(30),
            connect_within: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            ca_file: None,
        }
    }
}

impl RabbitMqOptions {
    /// The same options with everything inside its bounds.
    pub(crate) fn bounded(mut self) -> Self {
        let instant = Duration::from_millis(1);
        self.window = self.window.clamp(1, 65_535);
        self.window_bytes = self.window_bytes.clamp(64 * 1024, 1024 * 1024 * 1024);
        self.max_payload = self.max_payload.min(PAYLOAD_BYTES_MOST);
        self.publish_within = self.publish_within.max(instant);
        self.connect_within = self.connect_within.max(instant);
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(3600));
        self.heartbeat = self.heartbeat.clamp(least, most);
        self.delivery_limit = self.delivery_limit.max(1);
        self
    }

    /// The exchange of a topic.
    pub(crate) fn exchange(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The queue of a subscription.
    pub(crate) fn queue(&self, topic: &str, name: &str) -> String {
        format!("{}{topic}.{name}", self.prefix)
    }

    /// The queue of its dead letters.
    pub(crate) fn dead_queue(&self, topic: &str, name: &str) -> String {
        format!("{}.dead", self.queue(topic, name))
    }
}
