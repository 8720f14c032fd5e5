//! A row of the outbox as it was written, and the message that it is, or why it is none.
//!
//! The checks of the table see to it that every row is a message. Somebody may have taken them
//! away, so a row that is none is an answer here and never an error.

use posthaste_core::outbox::Malformed;
use posthaste_core::{Headers, Limits, Message, MessageId, Payload, Timestamp, limits};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::time::At;

/// The columns of a message as written.
pub(crate) struct Written {
    pub(crate) id: Option<Uuid>,
    pub(crate) topic: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) headers: Option<String>,
    pub(crate) payload: Option<String>,
    pub(crate) payload_bytes: Option<Vec<u8>>,
    pub(crate) stated_at: Option<Timestamp>,
    pub(crate) due_at: Option<Timestamp>,
}

impl Written {
    /// From a row with these columns, the headers as text.
    pub(crate) fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let time = |name: &str| row.try_get::<Option<At>, _>(name).map(|at| at.map(|at| at.0));
        Ok(Self {
            id: row.try_get("id")?,
            topic: row.try_get("topic")?,
            kind: row.try_get("kind")?,
            key: row.try_get("key")?,
            content_type: row.try_get("content_type")?,
            headers: row.try_get("headers")?,
            payload: row.try_get("payload")?,
            payload_bytes: row.try_get("payload_bytes")?,
            stated_at: time("stated_at")?,
            due_at: time("due_at")?,
        })
    }

    /// The body as it would be delivered; empty if there is none.
    pub(crate) fn take_payload(&mut self) -> Payload {
        match (self.payload.take(), self.payload_bytes.take()) {
            (Some(text), _) => Payload::text(text),
            (None, bytes) => Payload::bytes(bytes.unwrap_or_default()),
        }
    }

    /// The message.
    pub(crate) fn into_message(mut self) -> Result<Message, Malformed> {
        match (&self.payload, &self.payload_bytes) {
            (None, None) => return Err(malformed("payload and payload_bytes are both missing")),
            (Some(_), Some(_)) => {
                return Err(malformed("payload and payload_bytes are both given"));
            }
            _ => {}
        }
        let payload = self.take_payload();
        let headers: Headers =
            serde_json::from_str(&given("headers", self.headers)?).map_err(|error| {
                malformed(format!("headers are not a JSON object of strings: {error}"))
            })?;
        let message = Message {
            id: MessageId::from_bytes(*given("id", self.id)?.as_bytes()),
            topic: given("topic", self.topic)?,
            kind: given("kind", self.kind)?,
            key: self.key,
            headers,
            payload,
            content_type: self.content_type,
            stated_at: given("stated_at", self.stated_at)?,
            due_at: self.due_at,
        };
        Limits::with_payload(limits::PAYLOAD_BYTES_MOST)
            .check(&message)
            .map_err(|invalid| malformed(invalid.to_string()))?;
        Ok(message)
    }
}

fn malformed(detail: impl Into<String>) -> Malformed {
    Malformed { detail: detail.into() }
}

fn given<T>(name: &str, value: Option<T>) -> Result<T, Malformed> {
    value.ok_or_else(|| malformed(format!("{name} is missing")))
}
