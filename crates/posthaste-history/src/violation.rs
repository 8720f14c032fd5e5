//! What can be wrong with a history, each with the names of those concerned.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that must not be. It displays as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "violation")]
#[non_exhaustive]
pub enum Violation {
    /// Its commit was answered with success, and it is not there.
    Vanished {
        /// The message.
        id: String,
    },
    /// A state change is there without all of the messages that it stated.
    Torn {
        /// The state change.
        transaction: String,
        /// Messages that it stated.
        stated: u64,
        /// Messages of it that are there.
        found: u64,
    },
    /// It was committed and never arrived.
    NeverArrived {
        /// The message.
        id: String,
        /// Where it should have arrived; `None` if nobody was to receive its topic.
        consumer: Option<String>,
    },
    /// It arrived and never took effect.
    NoEffect {
        /// The message.
        id: String,
        /// Where it should have.
        consumer: String,
    },
    /// It is there, arrived or took effect although its transaction was rolled back.
    RolledBack {
        /// The message.
        id: String,
    },
    /// It arrived or took effect although it was never committed, or was never sent there.
    Invented {
        /// The message.
        id: String,
        /// Where.
        consumer: String,
    },
    /// It is there without the state change that it belongs to.
    Orphaned {
        /// The message.
        id: String,
        /// The state change that is missing.
        transaction: String,
    },
    /// Two messages of one identity were committed.
    StatedTwice {
        /// The identity.
        id: String,
    },
    /// It is not what was committed under its identity.
    Altered {
        /// The message.
        id: String,
        /// Where it arrived or took effect.
        consumer: String,
    },
    /// It arrived after one that was stated when it had been committed already.
    Overtaken {
        /// The message that came too late.
        id: String,
        /// The one that came too early.
        by: String,
        /// Their topic.
        topic: String,
        /// Their key.
        key: String,
        /// Where.
        consumer: String,
    },
    /// It took effect more than once.
    DoubleEffect {
        /// The message.
        id: String,
        /// Where.
        consumer: String,
        /// How often.
        times: u64,
    },
    /// A sum does not fit the effects that it was changed with.
    WrongSum {
        /// Whose.
        consumer: String,
        /// What the effects add up to.
        effects: i64,
        /// What the sum says.
        says: i64,
    },
}

/// The count of a [`Report`](crate::Report) that a violation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Committed and not there, not delivered or without effect.
    Lost,
    /// Not committed, or not as it was committed.
    Phantom,
    /// Out of order.
    Order,
    /// Took effect more than once.
    DoubleEffect,
}

impl Violation {
    /// The count that it belongs to.
    pub fn count(&self) -> Count {
        match self {
            Self::Vanished { .. }
            | Self::Torn { .. }
            | Self::NeverArrived { .. }
            | Self::NoEffect { .. } => Count::Lost,
            Self::RolledBack { .. }
            | Self::Invented { .. }
            | Self::Orphaned { .. }
            | Self::StatedTwice { .. }
            | Self::Altered { .. } => Count::Phantom,
            Self::Overtaken { .. } => Count::Order,
            Self::DoubleEffect { .. } | Self::WrongSum { .. } => Count::DoubleEffect,
        }
    }

    /// What is counted: the message, or whatever else is concerned. Violations of one count and
    /// one subject are counted once.
    pub(crate) fn subject(&self) -> &str {
        match self {
            Self::Vanished { id }
            | Self::NeverArrived { id, .. }
            | Self::NoEffect { id, .. }
            | Self::RolledBack { id }
            | Self::Invented { id, .. }
            | Self::Orphaned { id, .. }
            | Self::StatedTwice { id }
            | Self::Altered { id, .. }
            | Self::Overtaken { id, .. }
            | Self::DoubleEffect { id, .. } => id,
            Self::Torn { transaction, .. } => transaction,
            Self::WrongSum { consumer, .. } => consumer,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vanished { id } => {
                write!(f, "message {id} was acknowledged as committed and is not there")
            }
            Self::Torn { transaction, stated, found } => write!(
                f,
                "transaction {transaction} stated {stated} messages, and {found} of them are there"
            ),
            Self::NeverArrived { id, consumer: Some(consumer) } => {
                write!(f, "message {id} was committed and never arrived at {consumer}")
            }
            Self::NeverArrived { id, consumer: None } => {
                write!(f, "message {id} was committed and nobody was there to receive its topic")
            }
            Self::NoEffect { id, consumer } => {
                write!(f, "message {id} arrived at {consumer} and never took effect")
            }
            Self::RolledBack { id } => {
                write!(f, "message {id} exists although its transaction was rolled back")
            }
            Self::Invented { id, consumer } => {
                write!(f, "message {id} arrived at {consumer} and was never committed for it")
            }
            Self::Orphaned { id, transaction } => {
                write!(f, "message {id} is there without its transaction {transaction}")
            }
            Self::StatedTwice { id } => write!(f, "two committed messages have the id {id}"),
            Self::Altered { id, consumer } => {
                write!(f, "message {id} at {consumer} is not what was committed")
            }
            Self::Overtaken { id, by, topic, key, consumer } => write!(
                f,
                "message {id} of key {key} on {topic} was overtaken by the later {by} at {consumer}"
            ),
            Self::DoubleEffect { id, consumer, times } => {
                write!(f, "message {id} took effect {times} times at {consumer}")
            }
            Self::WrongSum { consumer, effects, says } => {
                write!(f, "the effects of {consumer} add up to {effects}, but its sum says {says}")
            }
        }
    }
}
