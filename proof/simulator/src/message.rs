//! Messages of a world: each has a number, and everything else follows from how it was stated.

use posthaste_core::{Message, MessageId, Timestamp};
use posthaste_history::Digest;

use crate::scenario::{KINDS, TOPICS};
use crate::script::Stated;

/// Marks the id of a message that was sent again under another identity.
const CHANGED: u8 = 0xff;

/// The id of a message.
pub(crate) fn id_of(number: u32) -> MessageId {
    let mut id = [0; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    MessageId::from_bytes(id)
}

/// The number of a message; `None` for an identity that nobody has stated.
pub(crate) fn number_of(id: MessageId) -> Option<u32> {
    let bytes = id.as_bytes();
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[12..]);
    bytes[..12].iter().all(|byte| *byte == 0).then(|| u32::from_be_bytes(number))
}

/// Numbers of messages, for notes.
pub(crate) fn numbers<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Vec<u32> {
    messages.into_iter().filter_map(|message| number_of(message.id)).collect()
}

/// Another identity for a message, as no sender may make one up.
pub(crate) fn changed(id: MessageId) -> MessageId {
    let mut bytes = *id.as_bytes();
    bytes[0] = CHANGED;
    MessageId::from_bytes(bytes)
}

/// A message as it is stated at a time of the database's calendar.
pub(crate) fn make(stated: &Stated, now: Timestamp) -> Message {
    let number = stated.number;
    let (topic, kind) = (TOPICS[stated.topic], KINDS[stated.kind]);
    let mut message = Message::new(id_of(number), topic, kind, number.to_string(), now);
    message.key = (stated.key > 0).then(|| format!("k{}", stated.key));
    let wait = std::time::Duration::from_millis(stated.due_in);
    message.due_at = (stated.due_in > 0).then(|| now.plus(wait));
    message
}

/// What has to arrive unchanged.
pub(crate) fn digest(message: &Message) -> u64 {
    Digest::new()
        .field(message.topic.as_bytes())
        .field(message.kind.as_bytes())
        .optional(message.key.as_deref().map(str::as_bytes))
        .field(message.payload.as_bytes())
        .finish()
}
