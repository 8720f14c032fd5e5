//! Assertions on what was stated or sent, with messages that show what was there instead.

use std::fmt::Write as _;

use posthaste_core::Message;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::event::Event;
use crate::memory::{MemoryBroker, MemoryDatabase};

/// Something that knows which messages went through it: the outbox of a memory database holds
/// those that were committed, a memory broker those that it accepted.
pub trait Published {
    /// The messages, oldest first.
    fn published_messages(&self) -> Vec<Message>;
}

impl Published for MemoryDatabase {
    fn published_messages(&self) -> Vec<Message> {
        self.messages()
    }
}

impl Published for MemoryBroker {
    fn published_messages(&self) -> Vec<Message> {
        self.published_anywhere()
    }
}

/// The events of one type, oldest first.
///
/// # Panics
/// If a message of the type's topic and kind cannot be read as one.
#[track_caller]
pub fn published<E: Event + DeserializeOwned>(source: &impl Published) -> Vec<E> {
    let messages = source.published_messages();
    let events = of_type::<E>(&messages).into_iter().map(|message| {
        serde_json::from_slice(message.payload.as_bytes()).unwrap_or_else(|error| {
            panic!("{} was published as {} and is not one: {error}", message.id, E::KIND)
        })
    });
    events.collect()
}

/// Asserts that this event was published at least once, with its topic, kind and key.
///
/// # Panics
/// If it was not; the panic shows what was.
#[track_caller]
pub fn assert_published<E: Event>(source: &impl Published, event: &E) {
    let messages = source.published_messages();
    let copies = messages.iter().filter(|message| is(message, event)).count();
    assert!(copies > 0, "{} was not published; {}", shown(event), list(&messages));
}

/// Asserts that this event was published exactly once.
///
/// # Panics
/// If it was not; the panic shows what was.
#[track_caller]
pub fn assert_published_once<E: Event>(source: &impl Published, event: &E) {
    let messages = source.published_messages();
    let copies = messages.iter().filter(|message| is(message, event)).count();
    assert!(copies == 1, "{} was published {copies} times; {}", shown(event), list(&messages));
}

/// Asserts that the events of this type are these, in this order.
///
/// # Panics
/// If they are not; the panic shows what was published.
#[track_caller]
pub fn assert_published_in_order<E: Event>(source: &impl Published, events: &[E]) {
    let messages = source.published_messages();
    let of_type = of_type::<E>(&messages);
    let equal = of_type.len() == events.len()
        && of_type.iter().zip(events).all(|(message, event)| is(message, event));
    let expected: Vec<_> = events.iter().map(shown).collect();
    assert!(equal, "expected in this order: {}; {}", expected.join(", "), list(&messages));
}

/// Asserts that no event of this type was published.
///
/// # Panics
/// If one was; the panic shows what was published.
#[track_caller]
pub fn assert_not_published<E: Event>(source: &impl Published) {
    let messages = source.published_messages();
    let count = of_type::<E>(&messages).len();
    assert!(count == 0, "{} was published {count} times; {}", E::KIND, list(&messages));
}

/// Asserts that nothing was published at all.
///
/// # Panics
/// If something was; the panic shows what.
#[track_caller]
pub fn assert_nothing_published(source: &impl Published) {
    let messages = source.published_messages();
    assert!(messages.is_empty(), "nothing was to be published; {}", list(&messages));
}

fn of_type<E: Event>(messages: &[Message]) -> Vec<&Message> {
    let same = |message: &&Message| message.topic == E::TOPIC && message.kind == E::KIND;
    messages.iter().filter(same).collect()
}

/// Whether the message is this event. Payloads are compared as JSON, because the order of fields
/// means nothing.
fn is<E: Event>(message: &Message, event: &E) -> bool {
    message.topic == E::TOPIC
        && message.kind == E::KIND
        && message.key == event.key()
        && serde_json::from_slice::<Value>(message.payload.as_bytes()).ok() == json(event)
}

fn json<E: Event>(event: &E) -> Option<Value> {
    serde_json::to_value(event).ok()
}

fn shown<E: Event>(event: &E) -> String {
    let body = json(event).map_or_else(|| "(not JSON)".to_owned(), |body| body.to_string());
    line(E::TOPIC, E::KIND, event.key().as_deref(), &body)
}

fn line(topic: &str, kind: &str, key: Option<&str>, body: &str) -> String {
    let key = key.map(|key| format!(" [{key}]")).unwrap_or_default();
    format!("{topic}/{kind}{key} {body}")
}

/// What was published, at most the last twenty.
fn list(messages: &[Message]) -> String {
    const SHOWN: usize = 20;
    if messages.is_empty() {
        return "nothing was".to_owned();
    }
    let mut text = format!("what was ({}):", messages.len());
    let hidden = messages.len().saturating_sub(SHOWN);
    if hidden > 0 {
        let _infallible = write!(text, "\n  … {hidden} before these");
    }
    for message in &messages[hidden..] {
        let body = String::from_utf8_lossy(message.payload.as_bytes());
        let body: String = body.chars().take(200).collect();
        let line = line(&message.topic, &message.kind, message.key.as_deref(), &body);
        let _infallible = write!(text, "\n  {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_core::{MessageId, Timestamp};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Placed {
        order: u64,
    }

    impl Event for Placed {
        const TOPIC: &'static str = "orders";
        const KIND: &'static str = "order.placed";

        fn key(&self) -> Option<String> {
            Some(self.order.to_string())
        }
    }

    struct Fixed(Vec<Message>);

    impl Published for Fixed {
        fn published_messages(&self) -> Vec<Message> {
            self.0.clone()
        }
    }

    fn message(kind: &str, key: &str, body: &str) -> Message {
        let at = Timestamp::from_millis(1);
        let mut message = Message::new(MessageId::v7(at, [0; 10]), "orders", kind, body, at);
        message.key = Some(key.to_owned());
        message
    }

    fn panic_of(assertion: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let panic = std::panic::catch_unwind(assertion).expect_err("it was to panic");
        panic.downcast_ref::<String>().cloned().expect("a panic with a formatted message")
    }

    #[test]
    fn what_was_published_passes() {
        let source = Fixed(vec![
            message("order.placed", "7", r#"{"order": 7}"#),
            message("order.placed", "8", r#"{"order":8}"#),
            message("order.cancelled", "7", "{}"),
        ]);
        assert_published(&source, &Placed { order: 7 });
        assert_published_once(&source, &Placed { order: 8 });
        assert_published_in_order(&source, &[Placed { order: 7 }, Placed { order: 8 }]);
        assert_eq!(published::<Placed>(&source), [Placed { order: 7 }, Placed { order: 8 }]);
        assert_nothing_published(&Fixed(Vec::new()));
    }

    #[test]
    fn what_was_not_published_fails_and_shows_what_was() {
        let source = || {
            let copy = message("order.placed", "7", r#"{"order":7}"#);
            Fixed(vec![copy.clone(), copy, message("order.placed", "wrong key", r#"{"order":9}"#)])
        };
        let text = panic_of(|| assert_published(&source(), &Placed { order: 8 }));
        assert!(text.contains(r#"orders/order.placed [8] {"order":8} was not"#), "{text}");
        assert!(text.contains(r#"orders/order.placed [7] {"order":7}"#), "{text}");
        panic_of(|| assert_published(&source(), &Placed { order: 9 }));
        let text = panic_of(|| assert_published_once(&source(), &Placed { order: 7 }));
        assert!(text.contains("published 2 times"), "{text}");
        panic_of(|| assert_published_in_order(&source(), &[Placed { order: 7 }]));
        panic_of(|| assert_not_published::<Placed>(&source()));
        panic_of(|| assert_nothing_published(&source()));
        panic_of(|| assert_published(&Fixed(Vec::new()), &Placed { order: 7 }));
    }
}
