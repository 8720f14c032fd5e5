//! Messages as the columns of one insert: a constant statement, whatever their number.

use std::collections::HashSet;

use posthaste_core::{Limits, Message, StoreError, Timestamp};
use uuid::Uuid;

use crate::time::At;

/// Parameters: the columns, one array each. The numbers are given in the order of the arrays.
pub(crate) const INSERT: &str = "insert into posthaste.outbox \
       (id, topic, kind, key, content_type, stated_at, due_at, headers, payload, payload_bytes) \
     select m.id, m.topic, m.kind, m.key, m.content_type, m.stated_at, m.due_at, \
       m.headers::pg_catalog.jsonb, m.payload, m.payload_bytes \
     from unnest($1::pg_catalog.uuid[], $2::pg_catalog.text[], $3::pg_catalog.text[], \
       $4::pg_catalog.text[], $5::pg_catalog.text[], $6::pg_catalog.timestamptz[], \
       $7::pg_catalog.timestamptz[], $8::pg_catalog.text[], $9::pg_catalog.text[], \
       $10::pg_catalog.bytea[]) with ordinality \
       as m (id, topic, kind, key, content_type, stated_at, due_at, headers, payload, \
         payload_bytes, place) \
     order by m.place";

/// Most messages of one statement, and their bytes: the server takes 1 GiB in one value.
const MOST_ROWS: usize = 10_000;
const MOST_BYTES: usize = 128 * 1024 * 1024;

/// 0001-01-01 and 5138-01-01, between which the table takes times, in microseconds.
const FIRST: Timestamp = Timestamp::from_micros(-62_135_596_800_000_000);
const END: Timestamp = Timestamp::from_micros(99_970_588_800_000_000);

/// One array for each column.
#[derive(Debug, Default)]
pub(crate) struct Columns<'m> {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) topics: Vec<&'m str>,
    pub(crate) kinds: Vec<&'m str>,
    pub(crate) keys: Vec<Option<&'m str>>,
    pub(crate) content_types: Vec<Option<&'m str>>,
    pub(crate) stated_at: Vec<At>,
    pub(crate) due_at: Vec<Option<At>>,
    pub(crate) headers: Vec<String>,
    pub(crate) payloads: Vec<Option<&'m str>>,
    pub(crate) payloads_of_bytes: Vec<Option<&'m [u8]>>,
}

impl<'m> Columns<'m> {
    /// The columns of messages that [`check`] has passed.
    pub(crate) fn of(messages: &'m [Message]) -> Result<Self, StoreError> {
        let mut columns = Self::default();
        for message in messages {
            columns.push(message)?;
        }
        Ok(columns)
    }

    fn push(&mut self, message: &'m Message) -> Result<(), StoreError> {
        let headers = serde_json::to_string(&message.headers).map_err(|error| {
            StoreError::rejected(format!("the headers cannot be written as JSON: {error}"))
        })?;
        // No text of PostgreSQL holds a NUL, so such a payload is written as the bytes that it is.
        let text = message.payload.as_text().filter(|text| !text.contains('\0'));
        self.ids.push(Uuid::from_bytes(*message.id.as_bytes()));
        self.topics.push(&message.topic);
        self.kinds.push(&message.kind);
        self.keys.push(message.key.as_deref());
        self.content_types.push(message.content_type.as_deref());
        self.stated_at.push(At(message.stated_at.clamp(FIRST, last())));
        self.due_at.push(message.due_at.map(|due| At(due.max(FIRST))));
        self.headers.push(headers);
        self.payloads.push(text);
        self.payloads_of_bytes.push(text.is_none().then(|| message.payload.as_bytes().as_ref()));
        Ok(())
    }
}

/// The last time that the table takes.
fn last() -> Timestamp {
    Timestamp::from_micros(END.as_micros() - 1)
}

/// Refuses what the table would refuse, before anything is written, and an id given twice.
pub(crate) fn check(limits: Limits, messages: &[Message]) -> Result<(), StoreError> {
    let mut ids = HashSet::with_capacity(messages.len());
    for message in messages {
        let refuse = |what: String| {
            let id = message.id;
            Err(StoreError::rejected(format!("message {id}: {what}; nothing was written")))
        };
        if let Err(invalid) = limits.check(message) {
            return refuse(invalid.to_string());
        }
        if message.due_at.is_some_and(|due| due >= END) {
            return refuse("due_at is after the year 5137".to_owned());
        }
        if !ids.insert(message.id) {
            return refuse("it is given twice".to_owned());
        }
    }
    Ok(())
}

/// Messages in portions that fit into one statement each.
pub(crate) fn portions(messages: &[Message]) -> Vec<&[Message]> {
    let mut portions = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, message) in messages.iter().enumerate() {
        let full = index - start >= MOST_ROWS || bytes + message.size() > MOST_BYTES;
        if index > start && full {
            portions.push(&messages[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += message.size();
    }
    if start < messages.len() {
        portions.push(&messages[start..]);
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_core::{MessageId, Payload};

    fn message(payload: Payload) -> Message {
        let id = MessageId::v7(Timestamp::from_millis(1), [0; 10]);
        Message::new(id, "orders", "placed", payload, Timestamp::from_millis(1))
    }

    #[test]
    fn portions_hold_everything_in_order_and_stay_within_the_limits() {
        assert!(portions(&[]).is_empty());
        let mut many = vec![message("x".into()); MOST_ROWS + 1];
        many[MOST_ROWS].kind = "last".to_owned();
        let lengths: Vec<_> = portions(&many).iter().map(|portion| portion.len()).collect();
        assert_eq!(lengths, [MOST_ROWS, 1]);
        assert_eq!(portions(&many)[1][0].kind, "last");
        let large = vec![message(Payload::bytes(vec![0; 50 << 20])); 3];
        let lengths: Vec<_> = portions(&large).iter().map(|portion| portion.len()).collect();
        assert_eq!(lengths, [2, 1]);
    }

    #[test]
    fn a_text_with_a_nul_is_written_as_bytes() {
        let messages = [message("a\0b".into()), message("ab".into())];
        let columns = Columns::of(&messages).expect("columns");
        assert_eq!(columns.payloads, [None, Some("ab")]);
        assert_eq!(columns.payloads_of_bytes, [Some(b"a\0b".as_ref()), None]);
    }

    #[test]
    fn an_id_given_twice_and_a_due_time_out_of_reach_are_refused() {
        let one = message("x".into());
        let twice = [one.clone(), one.clone()];
        let refused = check(Limits::default(), &twice).expect_err("twice").to_string();
        assert!(refused.contains("given twice"), "{refused}");
        let mut late = one;
        late.due_at = Some(END);
        assert!(check(Limits::default(), &[late.clone()]).is_err());
        late.due_at = Some(last());
        assert!(check(Limits::default(), &[late]).is_ok());
    }
}
