//! How messages and dead letters look as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_core::dead_letter::{DeadLetter, Failure};
use posthaste_core::{Delivery, Headers, Payload};
use serde_json::{Map, Value, json};

use crate::calendar;

/// An arriving message: `id, topic, kind, key, headers, payload` and what else is known of it.
pub(crate) fn delivery(delivery: &Delivery) -> Value {
    let message = &delivery.message;
    let mut object = Map::new();
    object.insert("id".into(), message.id.to_string().into());
    object.insert("topic".into(), message.topic.clone().into());
    object.insert("kind".into(), message.kind.clone().into());
    object.insert("key".into(), message.key.clone().into());
    object.insert("headers".into(), headers(&message.headers));
    put_payload(&mut object, &message.payload);
    if let Some(content_type) = &message.content_type {
        object.insert("content_type".into(), content_type.clone().into());
    }
    object.insert("stated_at".into(), calendar::written(message.stated_at).into());
    object.insert("attempt".into(), delivery.attempt.into());
    Value::Object(object)
}

/// A dead letter as it is listed: without its payload and history.
pub(crate) fn dead_letter(dead: &DeadLetter) -> Map<String, Value> {
    let object = json!({
        "reference": dead.reference,
        "origin": dead.origin,
        "id": dead.id,
        "topic": dead.topic,
        "kind": dead.kind,
        "key": dead.key,
        "reason": dead.reason,
        "detail": dead.detail,
        "attempts": dead.attempts,
        "parked": dead.parked,
        "reposted": dead.reposted,
        "stated_at": dead.stated_at.map(calendar::written),
        "first_failed_at": dead.first_failed_at.map(calendar::written),
        "dead_at": calendar::written(dead.dead_at),
    });
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// A dead letter with everything.
pub(crate) fn whole_dead_letter(dead: &DeadLetter) -> Value {
    let mut object = dead_letter(dead);
    // Headers that are not what they should be are shown as the text that they are.
    let headers = serde_json::from_str(&dead.headers).ok().filter(Value::is_object);
    object.insert("headers".into(), headers.unwrap_or_else(|| dead.headers.clone().into()));
    object.insert("content_type".into(), dead.content_type.clone().into());
    object.insert("history".into(), dead.history.iter().map(failure).collect());
    put_payload(&mut object, &dead.payload);
    Value::Object(object)
}

fn failure(failure: &Failure) -> Value {
    json!({
        "at": calendar::written(failure.at),
        "attempt": failure.attempt,
        "detail": failure.detail,
    })
}

fn headers(headers: &Headers) -> Value {
    headers.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

/// As text where it is UTF-8, however it was stated; else in base64, with a note.
fn put_payload(object: &mut Map<String, Value>, payload: &Payload) {
    match std::str::from_utf8(payload.as_bytes()) {
        Ok(text) => {
            object.insert("payload".into(), text.into());
        }
        Err(_) => {
            object.insert("payload".into(), STANDARD.encode(payload.as_bytes()).into());
            object.insert("payload_encoding".into(), "base64".into());
        }
    }
}

/// For people: the text of a payload, or how many bytes it has.
pub(crate) fn readable(payload: &Payload) -> String {
    match std::str::from_utf8(payload.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("<{} bytes that are not text>", payload.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_text_where_it_is_utf_8_and_base64_where_it_is_not() {
        let shape = |payload: Payload| {
            let mut object = Map::new();
            put_payload(&mut object, &payload);
            Value::Object(object)
        };
        assert_eq!(shape(Payload::bytes("ä\0".as_bytes().to_vec())), json!({"payload": "ä\0"}));
        assert_eq!(
            shape(Payload::bytes(vec![0xff, 0x00])),
            json!({"payload": "/wA=", "payload_encoding": "base64"})
        );
    }
}
