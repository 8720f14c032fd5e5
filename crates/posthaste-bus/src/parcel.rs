//! A message as the bus carries and keeps it: the same value in a request, on the wire and in the
//! file, so that a body is never copied between representations.

use bytes::Bytes;
use posthaste_core::{Headers, Message, MessageId, Payload, Timestamp};
use serde::{Deserialize, Serialize};

/// A message without the parts that concern the outbox only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    pub(crate) id: MessageId,
    pub(crate) address: String,
    pub(crate) kind: String,
    pub(crate) key: Option<String>,
    pub(crate) headers: Headers,
    pub(crate) content_type: Option<String>,
    pub(crate) stated_at: Timestamp,
    pub(crate) is_text: bool,
    pub(crate) payload: Bytes,
}

impl Parcel {
    /// About how many bytes this takes in memory and on the wire.
    pub(crate) fn size(&self) -> usize {
        const FIXED: usize = 128;
        let names = self.address.len() + self.kind.len() + self.key.as_ref().map_or(0, String::len);
        FIXED + names + self.headers.size() + self.payload.len()
    }
}

impl From<Message> for Parcel {
    fn from(message: Message) -> Self {
        Self {
            id: message.id,
            address: message.topic,
            kind: message.kind,
            key: message.key,
            headers: message.headers,
            content_type: message.content_type,
            stated_at: message.stated_at,
            is_text: message.payload.is_text(),
            payload: message.payload.as_bytes().clone(),
        }
    }
}

impl From<Parcel> for Message {
    fn from(parcel: Parcel) -> Self {
        let payload = body(parcel.payload, parcel.is_text);
        Self {
            key: parcel.key,
            headers: parcel.headers,
            content_type: parcel.content_type,
            ..Self::new(parcel.id, parcel.address, parcel.kind, payload, parcel.stated_at)
        }
    }
}

/// The payload with the note whether it was stated as text.
pub(crate) fn body(bytes: Bytes, is_text: bool) -> Payload {
    if is_text { Payload::from_text_column(bytes) } else { Payload::bytes(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let id = MessageId::from_bytes([7; 16]);
        let at = Timestamp::from_micros(12_345);
        for payload in [Payload::text("ü"), Payload::bytes(vec![0, 0xff])] {
            let mut message = Message::new(id, "orders", "order.placed", payload, at);
            message.key = Some("42".into());
            message.headers.insert("trace-id", "a b");
            message.content_type = Some("text/plain".into());
            assert_eq!(Message::from(Parcel::from(message.clone())), message);
        }
    }
}
