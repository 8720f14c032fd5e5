//! What becomes of messages that nobody can deliver or handle.

use serde::{Deserialize, Serialize};

use super::hex;

/// A message was given up on and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buried {
    /// Which message.
    pub id: String,
    /// By which consumer; missing if it was never sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// [Digest](crate::Digest) of what is kept.
    #[serde(with = "hex")]
    pub digest: u64,
    /// Why.
    pub reason: String,
    /// After how many attempts.
    pub attempts: u32,
    /// Whether later messages of its key wait until an operator has decided.
    #[serde(default)]
    pub parks_key: bool,
}

/// What an operator did, as the record of it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// With which message.
    pub id: String,
    /// With whose dead letter; missing for one that was never sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// What.
    pub act: Act,
    /// Under which id a reposted message goes, if not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_id: Option<String>,
    /// [Digest](crate::Digest) of the message before an edit.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hex::optional")]
    pub before: Option<u64>,
    /// [Digest](crate::Digest) of the message after an edit.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "hex::optional")]
    pub after: Option<u64>,
}

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A dead letter goes on its way again.
    Reposted,
    /// A dead letter is taken away.
    Discarded,
    /// A dead letter is changed.
    Edited,
    /// A message that is not due yet is taken back.
    Cancelled,
}
