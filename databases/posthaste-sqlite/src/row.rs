//! A row of the outbox as it was written, and the message that it is, or why it is none.
//!
//! Every column of text is read as bytes, so that a row written past the checks of the table is
//! an answer and never an error.

use posthaste_core::outbox::Malformed;
use posthaste_core::{Headers, Limits, Message, MessageId, Payload, Timestamp, limits};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// The columns of a message, from a table called `m`.
macro_rules! message_columns {
    () => {
        "cast(m.id as blob) as id, cast(m.topic as blob) as topic, cast(m.kind as blob) as kind, \
         cast(m.key as blob) as key, cast(m.content_type as blob) as content_type, \
         cast(m.headers as blob) as headers, typeof(m.payload) as payload_type, \
         cast(m.payload as blob) as payload, typeof(m.stated_at) as stated_at_type, \
         cast(m.stated_at as integer) as stated_at, typeof(m.due_at) as due_at_type, \
         cast(m.due_at as integer) as due_at"
    };
}
pub(crate) use message_columns;

/// The columns of a message as written.
pub(crate) struct Written {
    pub(crate) id: Option<Vec<u8>>,
    pub(crate) topic: Option<Vec<u8>>,
    pub(crate) kind: Option<Vec<u8>>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) content_type: Option<Vec<u8>>,
    pub(crate) headers: Option<Vec<u8>>,
    pub(crate) payload_type: String,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) stated_at: (String, Option<i64>),
    pub(crate) due_at: (String, Option<i64>),
}

impl Written {
    /// From a row that was selected with `message_columns!`.
    pub(crate) fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            topic: row.try_get("topic")?,
            kind: row.try_get("kind")?,
            key: row.try_get("key")?,
            content_type: row.try_get("content_type")?,
            headers: row.try_get("headers")?,
            payload_type: row.try_get("payload_type")?,
            payload: row.try_get("payload")?,
            stated_at: (row.try_get("stated_at_type")?, row.try_get("stated_at")?),
            due_at: (row.try_get("due_at_type")?, row.try_get("due_at")?),
        })
    }

    /// The body as it would be delivered.
    pub(crate) fn take_payload(&mut self) -> Payload {
        let bytes = self.payload.take().unwrap_or_default();
        if self.payload_type == "text" {
            Payload::from_text_column(bytes)
        } else {
            Payload::bytes(bytes)
        }
    }

    /// The message.
    pub(crate) fn into_message(mut self) -> Result<Message, Malformed> {
        if !matches!(self.payload_type.as_str(), "text" | "blob") {
            let what = &self.payload_type;
            return Err(malformed(format!("payload is {what}; it must be text or a blob")));
        }
        let payload = self.take_payload();
        let id: MessageId =
            text("id", self.id)?.parse().map_err(|error| malformed(format!("id: {error}")))?;
        let headers = text("headers", self.headers)?;
        let headers: Headers = serde_json::from_str(&headers).map_err(|error| {
            malformed(format!("headers are not a JSON object of strings: {error}"))
        })?;
        let optional =
            |name, bytes: Option<Vec<u8>>| bytes.map(|b| text(name, Some(b))).transpose();
        let stated_at = time("stated_at", self.stated_at)?
            .ok_or_else(|| malformed("stated_at is missing".to_owned()))?;
        let message = Message {
            id,
            topic: text("topic", self.topic)?,
            kind: text("kind", self.kind)?,
            key: optional("key", self.key)?,
            headers,
            payload,
            content_type: optional("content_type", self.content_type)?,
            stated_at,
            due_at: time("due_at", self.due_at)?,
        };
        Limits::with_payload(limits::PAYLOAD_BYTES_MOST)
            .check(&message)
            .map_err(|invalid| malformed(invalid.to_string()))?;
        Ok(message)
    }
}

fn malformed(detail: String) -> Malformed {
    Malformed { detail }
}

fn text(name: &str, bytes: Option<Vec<u8>>) -> Result<String, Malformed> {
    let bytes = bytes.ok_or_else(|| malformed(format!("{name} is missing")))?;
    String::from_utf8(bytes).map_err(|_| malformed(format!("{name} is not UTF-8")))
}

fn time(name: &str, written: (String, Option<i64>)) -> Result<Option<Timestamp>, Malformed> {
    match (written.0.as_str(), written.1) {
        ("null", _) => Ok(None),
        ("integer", Some(millis)) => Ok(Some(Timestamp::from_millis(millis))),
        (other, _) => Err(malformed(format!("{name} is {other}; it must be an integer"))),
    }
}

/// Text for people from a column that may hold anything.
pub(crate) fn shown(bytes: Option<&Vec<u8>>) -> String {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}
