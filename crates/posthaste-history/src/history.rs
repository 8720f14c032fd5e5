//! The evidence: what was committed, what was rolled back, what arrived and what it did.

use serde::{Deserialize, Serialize};

/// Everything that is known of one run, once it has come to rest: no writer at work, nothing on
/// its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Who was to receive what.
    pub consumers: Vec<Consumer>,
    /// State changes that are there, with the number of messages that each stated.
    pub transactions: Vec<Transaction>,
    /// Messages that are there, in any order.
    pub committed: Vec<Committed>,
    /// Ids of messages whose commit was answered with success: they have to be there.
    pub acknowledged: Vec<String>,
    /// Ids of messages whose transaction was rolled back: they must be nowhere.
    pub rolled_back: Vec<String>,
    /// What arrived, with every repetition, in the order of arrival at each consumer.
    pub deliveries: Vec<Delivered>,
    /// What was done, once for each time that it was done.
    pub effects: Vec<Effect>,
    /// Messages that were given up on and stand where an operator sees them.
    pub dead_letters: Vec<DeadLetter>,
    /// Sums that consumers keep of their effects.
    pub tallies: Vec<Tally>,
}

/// Somebody who is to receive every message of some topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// What it receives.
    pub topics: Vec<String>,
}

/// A state change that was committed together with messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Names it.
    pub id: String,
    /// How many messages it stated.
    pub messages: u64,
}

/// A message that was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Its identity.
    pub id: String,
    /// Where it was to go.
    pub topic: String,
    /// What stays in order with it; `None` for a message without order.
    pub key: Option<String>,
    /// When stating it began. Any clock will do on which all messages of one topic and key agree:
    /// nanoseconds, a sequence, a counter of the application.
    pub stated: u64,
    /// When its commit had returned, on the same clock.
    pub committed: u64,
    /// [Digest](crate::Digest) of all that has to arrive unchanged.
    pub digest: u64,
    /// The state change it belongs to; `None` if it was stated without one.
    pub transaction: Option<String>,
}

/// One arrival of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// At whom.
    pub consumer: String,
    /// Its identity.
    pub id: String,
    /// [Digest](crate::Digest) of what arrived.
    pub digest: u64,
}

/// Something that was done because of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// By whom.
    pub consumer: String,
    /// Because of which message.
    pub id: String,
    /// [Digest](crate::Digest) of the message as it was handled.
    pub digest: u64,
}

/// A message that was given up on and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its identity.
    pub id: String,
    /// By whom; `None` if it was never sent, so that no consumer saw it.
    pub consumer: Option<String>,
}

/// A sum that a consumer keeps beside its effects, changed in the same transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Whose.
    pub consumer: String,
    /// What its effects add up to.
    pub effects: i64,
    /// What it says.
    pub says: i64,
}
