//! What a client of the gateway sees.

use serde::{Deserialize, Serialize};

use super::hex;

/// A client asks for a message to be accepted; noted before it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Names the request; unique in a run.
    pub request: String,
    /// What makes a repetition known as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// [Digest](crate::Digest) of what is asked.
    #[serde(with = "hex")]
    pub digest: u64,
}

/// What the gateway answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The request.
    pub request: String,
    /// The status of HTTP.
    pub status: u16,
    /// The message that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether it says when to come again.
    #[serde(default)]
    pub retry_after: bool,
}
