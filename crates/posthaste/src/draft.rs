//! A message before it has an identity: what raw publishing starts from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posthaste_core::{Headers, Message, MessageId, Payload, Timestamp};

use crate::event::Event;

/// A raw message to be published: topic, kind and payload, and whatever else is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    topic: String,
    kind: String,
    key: Option<String>,
    headers: Headers,
    payload: Payload,
    content_type: Option<String>,
    due: Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Now,
    At(Timestamp),
    In(Duration),
}

impl Draft {
    /// A draft without key, headers, content type and due time.
    pub fn new(
        topic: impl Into<String>,
        kind: impl Into<String>,
        payload: impl Into<Payload>,
    ) -> Self {
        Self {
            topic: topic.into(),
            kind: kind.into(),
            key: None,
            headers: Headers::new(),
            payload: payload.into(),
            content_type: None,
            due: Due::Now,
        }
    }

    /// A draft of a typed event, as JSON.
    ///
    /// # Errors
    /// If the event cannot be written as JSON.
    pub fn of<E: Event + ?Sized>(event: &E) -> Result<Self, serde_json::Error> {
        let mut draft = Self::new(E::TOPIC, E::KIND, serde_json::to_string(event)?);
        draft.key = event.key();
        draft.headers = event.headers();
        draft.content_type = Some("application/json".to_owned());
        Ok(draft)
    }

    /// Sets the key: messages of one topic and key stay in order.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the media type of the payload.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Not to be sent before this point, by the clock of the database.
    #[must_use]
    pub fn due_at(mut self, at: SystemTime) -> Self {
        self.due = Due::At(timestamp(at));
        self
    }

    /// Not to be sent before this long from when it is stated.
    #[must_use]
    pub fn due_in(mut self, wait: Duration) -> Self {
        self.due = Due::In(wait);
        self
    }

    /// The message, with a new identity and stated now.
    pub fn into_message(self) -> Message {
        let stated_at = timestamp(SystemTime::now());
        let mut random = [0; 10];
        getrandom::fill(&mut random).expect("the operating system gives random bytes");
        let id = MessageId::v7(stated_at, random);
        let mut message = Message::new(id, self.topic, self.kind, self.payload, stated_at);
        message.key = self.key;
        message.headers = self.headers;
        message.content_type = self.content_type;
        message.due_at = match self.due {
            Due::Now => None,
            Due::At(at) => Some(at),
            Due::In(wait) => Some(stated_at.plus(wait)),
        };
        message
    }
}

fn timestamp(at: SystemTime) -> Timestamp {
    let micros = match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)
        }
    };
    Timestamp::from_micros(micros)
}
