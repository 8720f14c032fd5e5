//! What consumers see.

use serde::{Deserialize, Serialize};

use super::hex;

/// A consumer, what it is to receive and what it was set to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerStarted {
    /// Its name.
    pub consumer: String,
    /// Every message of these topics is for it.
    pub topics: Vec<String>,
    /// How long its inbox remembers a message at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// Shortest wait before a message that failed is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<u64>,
    /// After so many attempts a message is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How long a stop may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<u64>,
}

/// A message arrived from the broker, and nobody has seen it yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// At whom.
    pub consumer: String,
    /// Which message.
    pub id: String,
    /// [Digest](crate::Digest) of what arrived.
    #[serde(with = "hex")]
    pub digest: u64,
    /// Which delivery of it the broker says it is, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// A moment of the database's clock that is no earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_time: Option<u64>,
}

/// A handler was entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handling {
    /// Whose.
    pub consumer: String,
    /// With which message.
    pub id: String,
    /// Which attempt it is, as the database counts them, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// Something was done because of a message; once for each time that it was done, noted when it
/// was committed or read from the database at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// By whom.
    pub consumer: String,
    /// Because of which message.
    pub id: String,
    /// [Digest](crate::Digest) of the message as it was handled.
    #[serde(with = "hex")]
    pub digest: u64,
}

/// A delivery was settled with the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// By whom.
    pub consumer: String,
    /// Which message.
    pub id: String,
    /// How.
    pub answer: Answer,
}

/// How a delivery can be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done, now or before.
    Completed,
    /// It is to come again, because it failed.
    Retried,
    /// It is to come again, and nothing is wrong with it.
    Released,
    /// It was given up and is kept among the dead letters.
    DeadLettered,
    /// It was refused, because nobody can tell any more whether it was done before.
    Refused,
}
