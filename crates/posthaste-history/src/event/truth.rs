//! What is there when all has come to rest, read from databases and brokers.

use serde::{Deserialize, Serialize};

use super::hex;

/// A state change that was committed together with messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Names it.
    pub id: String,
    /// How many messages it stated.
    pub messages: u64,
}

/// A message that is, or was, in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its identity.
    pub id: String,
    /// Where it was to go.
    pub topic: String,
    /// What stays in order with it; missing for a message without order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// [Digest](crate::Digest) of all that has to arrive unchanged.
    #[serde(with = "hex")]
    pub digest: u64,
    /// Where it stands in the outbox or the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The state change it belongs to; missing if it was stated without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// When stating it began, on any clock on which all messages of one topic and key agree: in
    /// place of what the writer noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<u64>,
    /// When its commit had returned, on the same clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
    /// Not to be delivered before this moment of the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// The request at the gateway that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A sum that a consumer keeps beside its effects, changed in the same transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Whose.
    pub consumer: String,
    /// What its effects add up to.
    pub effects: i64,
    /// What it says.
    pub says: i64,
}

/// A dead letter that still stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Which message.
    pub id: String,
    /// By whom it was given up; missing if it was never sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
}

/// A message that still waits somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Which message.
    pub id: String,
    /// Where, in a word or two.
    pub place: String,
}

/// Something that is left where nothing should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// What is left where, as a sentence.
    pub what: String,
}

/// All has come to rest: no writer at work, nothing on its way. All rows, effects, dead letters and
/// leftovers have been told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {}
