//! What an operator sees of the bus.

use serde::{Deserialize, Serialize};

/// Figures of one subscription or queue at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriptionStatus {
    /// The topic or queue.
    pub address: String,
    /// The name of the subscription; empty for a queue, which has but one.
    pub name: String,
    /// Whether messages of one key are delivered one at a time; `None` until somebody has opened
    /// the queue and so decided it.
    pub ordered: Option<bool>,
    /// Consumers that are attached.
    pub consumers: u64,
    /// Messages that are to be delivered: ready, waiting for a retry or behind one of their key.
    pub active: u64,
    /// Messages that a consumer holds under a lock.
    pub locked: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deferred messages.
    pub deferred: u64,
}

/// A topic or a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Address {
    /// Its name.
    pub name: String,
    /// Whether it was declared a queue.
    pub is_queue: bool,
    /// Messages that wait for a first subscription.
    pub held: u64,
}
