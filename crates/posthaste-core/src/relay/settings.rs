//! How a relay behaves: numbers and policies, chosen once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::Promises;
use crate::judge::OnDead;
use crate::retry::RetryPolicy;

/// How a relay behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which destination of the outbox this relay serves: names checkpoint, side table and lease.
    pub destination: String,
    /// Most entries in memory.
    pub window_messages: usize,
    /// Bytes of entries in memory above which nothing more is read.
    pub window_bytes: usize,
    /// Most entries of one read.
    pub read_messages: usize,
    /// Most messages of one publish call; the broker may allow fewer.
    pub flight_messages: usize,
    /// Most publish calls at once.
    pub flights: usize,
    /// What happens to failures, unless the topic has its own policy.
    pub policy: TopicPolicy,
    /// Topics with a policy of their own.
    pub topics: BTreeMap<String, TopicPolicy>,
    /// Waits between attempts to reach a broker that is away; its limit is not used.
    pub broker_backoff: RetryPolicy,
    /// Waits between attempts to reach a database that is away; its limit is not used.
    pub database_backoff: RetryPolicy,
    /// How long a lease runs without renewal: how long a standby waits for a dead leader.
    pub lease_ttl: Duration,
    /// Longest time between two looks at the outbox when nothing signals a change.
    pub poll: Duration,
    /// How long a stop may take to bring home what is in flight.
    pub grace: Duration,
    /// How often entries that are long sent are removed.
    pub prune_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let quick = |longest| RetryPolicy {
            limit: u32::MAX,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(longest),
        };
        Self {
            destination: "default".to_owned(),
            window_messages: 2048,
            window_bytes: 16 * 1024 * 1024,
            read_messages: 512,
            flight_messages: 256,
            flights: 4,
            policy: TopicPolicy::default(),
            topics: BTreeMap::new(),
            broker_backoff: quick(5),
            database_backoff: quick(1),
            lease_ttl: Duration::from_secs(5),
            poll: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            prune_every: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// The policy for a topic.
    pub fn policy_of(&self, topic: &str) -> TopicPolicy {
        self.topics.get(topic).copied().unwrap_or(self.policy)
    }

    /// The name of the lease: destination and lane.
    pub fn lease_name(&self) -> String {
        format!("relay/{}/0", self.destination)
    }
}

/// What happens to failures of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicPolicy {
    /// How often and how long apart a message is tried.
    pub retry: RetryPolicy,
    /// What happens to a key when one of its messages is given up.
    pub on_dead: OnDead,
}

/// What the relay needs to know of its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// See [`Promises::prefix_per_key`].
    pub prefix_per_key: bool,
    /// See [`Promises::max_batch`].
    pub max_batch: usize,
}

impl From<Promises> for Facts {
    fn from(promises: Promises) -> Self {
        Self { prefix_per_key: promises.prefix_per_key, max_batch: promises.max_batch.max(1) }
    }
}
