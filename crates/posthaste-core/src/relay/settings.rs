//! How a relay behaves: numbers and policies, chosen once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::Promises;
use crate::judge::TopicPolicy;
use crate::lane::Lane;
use crate::outbox::Pace;
use crate::retry::RetryPolicy;

/// How a relay behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which lane of which destination this relay serves: names checkpoint, side table and lease.
    pub lane: Lane,
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
    /// How often to look at the outbox when nothing signals a change.
    pub pace: Pace,
    /// Longest time until a checkpoint that moved past nothing to send is stored.
    pub store_checkpoint_every: Duration,
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
            lane: Lane::whole("default"),
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
            pace: Pace { shortest: Duration::from_secs(5), longest: Duration::from_secs(5) },
            store_checkpoint_every: Duration::from_secs(10),
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
