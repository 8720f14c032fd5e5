//! What writers see.

use serde::{Deserialize, Serialize};

use super::hex;

/// Noted before a transaction states its first message, so that `at` is no later than that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stating {
    /// The state change that the messages belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// The messages, in the order in which they will be stated.
    pub messages: Vec<Stated>,
}

/// A message that is stated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// Its identity.
    pub id: String,
    /// Where it is to go.
    pub topic: String,
    /// What stays in order with it; missing for a message without order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// [Digest](crate::Digest) of all that has to arrive unchanged.
    #[serde(with = "hex")]
    pub digest: u64,
    /// Not to be delivered before this moment of the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
}

/// Noted when a writer knows how its transaction ended, so that `at` is no earlier than that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The state change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// The messages that it stated.
    pub ids: Vec<String>,
    /// What the writer knows.
    pub answer: CommitAnswer,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitAnswer {
    /// The database said that it is committed.
    Committed,
    /// It was rolled back.
    RolledBack,
    /// No answer came: the rows at the end will tell.
    Unknown,
}
