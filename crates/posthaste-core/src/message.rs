//! The message: what a service states and a consumer receives, unchanged in between.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Headers, Payload, Timestamp};

/// The identity of a message; the same on every delivery of it. A UUID of version 7 where we make
/// it; any UUID is accepted from other writers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

impl MessageId {
    /// A time-ordered id (RFC 9562, version 7) from a time and 80 random bits given by the caller.
    pub fn v7(at: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(at.as_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// From the sixteen bytes of a UUID.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The sixteen bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        Uuid::try_parse(text).map(Self).map_err(|_| NotAnId)
    }
}

/// The text is not a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message id is a UUID, like 01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d")]
pub struct NotAnId;

/// Lower case with hyphens, the form used in tables and on the wire.
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A message: immutable once stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Identity; the inbox knows messages by it.
    pub id: MessageId,
    /// Address: where it goes.
    pub topic: String,
    /// What it is, for the consumer to choose a handler by.
    pub kind: String,
    /// What it is about. Messages of one topic and key stay in order; without a key there is none.
    pub key: Option<String>,
    /// Names and values that travel along.
    pub headers: Headers,
    /// The body.
    pub payload: Payload,
    /// Media type of the body, where stated.
    pub content_type: Option<String>,
    /// When it was stated, by the clock of whoever stated it. For people; nothing is decided by it.
    pub stated_at: Timestamp,
    /// Not to be sent before this, by the clock of the outbox's database.
    pub due_at: Option<Timestamp>,
}

impl Message {
    /// A message without key, headers, content type and due time.
    pub fn new(
        id: MessageId,
        topic: impl Into<String>,
        kind: impl Into<String>,
        payload: impl Into<Payload>,
        stated_at: Timestamp,
    ) -> Self {
        Self {
            id,
            topic: topic.into(),
            kind: kind.into(),
            key: None,
            headers: Headers::new(),
            payload: payload.into(),
            content_type: None,
            stated_at,
            due_at: None,
        }
    }

    /// About how many bytes this takes in memory and on a wire: what windows are counted in.
    pub fn size(&self) -> usize {
        const FIXED: usize = 128;
        let names = self.topic.len() + self.kind.len() + self.key.as_ref().map_or(0, String::len);
        FIXED + names + self.headers.size() + self.payload.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_ordered_by_time() {
        let early = MessageId::v7(Timestamp::from_millis(1_700_000_000_000), [0xff; 10]);
        let late = MessageId::v7(Timestamp::from_millis(1_700_000_000_001), [0x00; 10]);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().as_bytes()[14], b'7');
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!("nonsense".parse::<MessageId>(), Err(NotAnId));
    }
}
