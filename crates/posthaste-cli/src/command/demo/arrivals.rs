//! What arrives at a consumer, noted before anybody sees it, and what of it must be as it was
//! stated.

use std::io;

use posthaste_core::{Delivery, Headers, Message};
use posthaste_history::event::Delivered;
use posthaste_history::{Digest, Event, Journal};

/// Notes deliveries, in the order of arrival. One of which the note was left unfinished is an
/// arrival that nobody has seen, and the message comes again.
pub(super) fn note(journal: &Journal, consumer: &str, deliveries: &[Delivery]) -> io::Result<()> {
    journal.note_all(deliveries.iter().map(|delivery| arrival(consumer, &delivery.message)))
}

fn arrival(consumer: &str, message: &Message) -> Event {
    let (consumer, id) = (consumer.to_owned(), message.id.to_string());
    let (attempt, database_time) = (None, None);
    Delivered { consumer, id, digest: digest_of(message), attempt, database_time }.into()
}

/// Everything of a message that has to arrive as it was stated, besides its id.
pub(super) struct Content<'m> {
    pub(super) topic: &'m str,
    pub(super) kind: &'m str,
    pub(super) key: Option<&'m str>,
    pub(super) content_type: Option<&'m str>,
    pub(super) headers: &'m Headers,
    pub(super) payload: &'m [u8],
}

impl Content<'_> {
    /// Its digest.
    pub(super) fn digest(&self) -> u64 {
        let start = Digest::new()
            .field(self.topic.as_bytes())
            .field(self.kind.as_bytes())
            .optional(self.key.map(str::as_bytes))
            .optional(self.content_type.map(str::as_bytes))
            .field(self.payload);
        let with_headers = self.headers.iter().fold(start, |digest, (name, value)| {
            digest.field(name.as_bytes()).field(value.as_bytes())
        });
        with_headers.finish()
    }
}

/// The digest of a message as it arrived.
pub(super) fn digest_of(message: &Message) -> u64 {
    let content = Content {
        topic: &message.topic,
        kind: &message.kind,
        key: message.key.as_deref(),
        content_type: message.content_type.as_deref(),
        headers: &message.headers,
        payload: message.payload.as_bytes(),
    };
    content.digest()
}
