//! How a relay behaves.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste_core::Lane;
use posthaste_core::judge::{OnUnroutable, TopicPolicy};
use posthaste_core::outbox::Pace;
use posthaste_core::relay::Settings;

/// How a relay behaves. The defaults suit a laptop and a small production alike.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Names checkpoint, side table and lease; one per broker that the outbox is relayed to.
    pub destination: String,
    /// Into how many lanes the destination is to be divided, so that several relays share its keys;
    /// `None` leaves it as it is. A database with one writer has one lane.
    pub lanes: Option<u16>,
    /// Who this relay is in the lease table, for people; made unique by the relay itself.
    pub owner: String,
    /// Most entries in memory.
    pub window_messages: usize,
    /// Bytes of entries in memory above which nothing more is read.
    pub window_bytes: usize,
    /// What happens to failures, unless the topic has its own policy.
    pub policy: TopicPolicy,
    /// Topics with a policy of their own.
    pub topics: BTreeMap<String, TopicPolicy>,
    /// How long the lease runs without renewal: how long a standby waits for a dead leader.
    pub lease_ttl: Duration,
    /// Longest time between two looks at the outbox when nothing signals a change; `None` for what
    /// the database recommends.
    pub poll: Option<Duration>,
    /// How long a stop may take to bring home what is in flight.
    pub grace: Duration,
    /// How long sent entries stay in the outbox, for people to look at.
    pub keep_sent: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            destination: settings.lane.destination,
            lanes: None,
            owner: format!("pid {}", std::process::id()),
            window_messages: settings.window_messages,
            window_bytes: settings.window_bytes,
            policy: settings.policy,
            topics: settings.topics,
            lease_ttl: settings.lease_ttl,
            poll: None,
            grace: settings.grace,
            keep_sent: Duration::from_hours(7 * 24),
        }
    }
}

impl RelayOptions {
    /// For one lane; what is in memory is shared out among all that this process may lead.
    pub(super) fn settings(&self, pace: Pace, lane: Lane) -> Settings {
        Settings {
            window_messages: (self.window_messages / usize::from(lane.of.max(1))).max(1),
            window_bytes: (self.window_bytes / usize::from(lane.of.max(1))).max(1),
            lane,
            policy: self.policy,
            topics: self.topics.clone(),
            // Zero would mean to do nothing but look, or to never hold a lease.
            lease_ttl: self.lease_ttl(),
            pace: self.pace(pace),
            grace: self.grace,
            ..Settings::default()
        }
    }

    pub(super) fn lease_ttl(&self) -> Duration {
        self.lease_ttl.max(Duration::from_millis(100))
    }

    /// What becomes of messages of a topic that nobody is bound to.
    pub(super) fn unroutable(&self, topic: &str) -> OnUnroutable {
        self.topics.get(topic).unwrap_or(&self.policy).unroutable
    }

    /// The database's pace within the longest time that was asked for.
    fn pace(&self, pace: Pace) -> Pace {
        let longest = self.poll.map_or(pace.longest, |poll| poll.max(Duration::from_millis(10)));
        Pace { shortest: pace.shortest.min(longest), longest }
    }
}
