//! Messages for the laws to work with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use posthaste_core::{Headers, Message, MessageId, Payload, Timestamp};

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// The wall clock of this machine in whole milliseconds, as a writer states it.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// An id that nothing else in this process has.
pub fn id() -> MessageId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    MessageId::v7(now(), random)
}

/// A small message without a key.
pub fn message(topic: &str) -> Message {
    Message::new(id(), topic, "sample.stated", "{}", now())
}

/// A small message with a key and a payload of its own.
pub fn keyed(topic: &str, key: &str, payload: &str) -> Message {
    let mut message = message(topic);
    message.key = Some(key.to_owned());
    message.payload = payload.into();
    message
}

/// Messages at the edges of what a message may be: each must arrive byte for byte.
pub fn edges(topic: &str) -> Vec<Message> {
    let with = |change: &dyn Fn(&mut Message)| {
        let mut edge = message(topic);
        change(&mut edge);
        edge
    };
    vec![
        with(&|_| {}),
        with(&|m| m.payload = Payload::text("")),
        with(&|m| m.payload = Payload::bytes(Vec::new())),
        with(&|m| m.payload = Payload::bytes(vec![0, 0xff, 0xfe, 0, b'\n', 0x80])),
        with(&|m| m.payload = Payload::bytes((0..=u8::MAX).collect::<Vec<u8>>())),
        with(&|m| m.payload = Payload::text("text with a \0 inside and 'quotes' \"too\" \\ %s")),
        with(&|m| m.payload = Payload::text("Grüße, 世界, 👩‍🚀, e\u{301}, \u{feff}")),
        with(&|m| m.payload = Payload::text("x".repeat(1024 * 1024))),
        with(&|m| m.payload = Payload::bytes(vec![0xab; 1024 * 1024])),
        with(&|m| m.key = Some("k".repeat(512))),
        with(&|m| m.key = Some("ключ with spaces 'and' \"quotes\"".into())),
        with(&|m| m.kind = "K".repeat(200)),
        with(&|m| m.content_type = Some("application/json; charset=utf-8".into())),
        with(&|m| m.headers = Headers::from_iter([("trace-id", "ü 世界 \t \"x\" \\"), ("e", "")])),
        with(&|m| m.headers = (0..64).map(|n| (format!("header-{n}"), "v".repeat(400))).collect()),
    ]
}

/// Asserts that what arrived is what was stated, in everything a consumer sees.
///
/// # Panics
/// If it is not.
pub fn assert_same(stated: &Message, arrived: &Message) {
    assert_eq!(arrived.id, stated.id, "the id");
    assert_eq!(arrived.topic, stated.topic, "the topic of {}", stated.id);
    assert_eq!(arrived.kind, stated.kind, "the kind of {}", stated.id);
    assert_eq!(arrived.key, stated.key, "the key of {}", stated.id);
    assert_eq!(arrived.headers, stated.headers, "the headers of {}", stated.id);
    assert_eq!(arrived.content_type, stated.content_type, "the content type of {}", stated.id);
    let equal = arrived.payload.as_bytes() == stated.payload.as_bytes();
    let (got, was) = (&arrived.payload, &stated.payload);
    assert!(equal, "the payload of {} arrived as {got:?} and was {was:?}", stated.id);
}

/// Asserts that a payload that was stated as text is text still, and one of bytes is not. Text that
/// holds a NUL, which not every database can keep in a column of text, may come back as bytes.
///
/// # Panics
/// If it is not so.
pub fn assert_same_form(stated: &Payload, arrived: &Payload) {
    let may_differ = stated.is_text() && stated.as_bytes().contains(&0);
    let same = stated.is_text() == arrived.is_text();
    assert!(same || may_differ, "{stated:?} came back as {arrived:?}");
}
