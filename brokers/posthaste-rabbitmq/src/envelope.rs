//! A message as AMQP carries it, and back. Pure: no connection, no clock but the one it is given.
//!
//! Everything a consumer sees comes back as it was stated: the key, the exact time and the due time
//! travel in headers of our own (`posthaste-…`), every other header as a long string. What others
//! publish is read as far as it can be.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use posthaste_core::{Headers, Message, MessageId, Payload, Timestamp};

/// Header with the key.
pub(crate) const KEY: &str = "posthaste-key";
/// Header with the time it was stated, in microseconds since 1970.
pub(crate) const STATED_AT: &str = "posthaste-stated-at";
/// Header with the time it was due, in microseconds since 1970.
pub(crate) const DUE_AT: &str = "posthaste-due-at";
/// Headers of a dead letter that a consumer gave up.
pub(crate) const DEAD_REASON: &str = "posthaste-dead-reason";
pub(crate) const DEAD_DETAIL: &str = "posthaste-dead-detail";
pub(crate) const DEAD_AT: &str = "posthaste-dead-at";
pub(crate) const DEAD_ATTEMPTS: &str = "posthaste-dead-attempts";
/// Header in which quorum queues count.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// Beginning of the headers that are ours.
const OURS: &str = "posthaste-";
/// Most bytes of a short string.
pub(crate) const SHORT: usize = 255;

/// What arrived is not a message of ours: it has no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// A short string, or the reason why it is none.
pub(crate) fn short(text: &str) -> Result<ShortString, String> {
    ShortString::try_new(text).map_err(|_| {
        format!("'{}…' has {} bytes; names in AMQP have at most {SHORT}", head(text), text.len())
    })
}

fn head(text: &str) -> String {
    text.chars().take(40).collect::<String>().escape_debug().to_string()
}

/// What is sent beside the payload. The message keeps the limits of the contract.
pub(crate) fn properties(message: &Message) -> Result<BasicProperties, String> {
    let mut headers = FieldTable::default();
    for (name, value) in message.headers.iter() {
        headers.insert(short(name)?, text(value));
    }
    if let Some(key) = &message.key {
        headers.insert(short(KEY)?, text(key));
    }
    headers.insert(short(STATED_AT)?, AMQPValue::LongLongInt(message.stated_at.as_micros()));
    if let Some(due_at) = message.due_at {
        headers.insert(short(DUE_AT)?, AMQPValue::LongLongInt(due_at.as_micros()));
    }
    let seconds = u64::try_from(message.stated_at.as_millis().div_euclid(1000)).unwrap_or(0);
    let properties = BasicProperties::default()
        .with_message_id(short(&message.id.to_string())?)
        .with_type(short(&message.kind)?)
        .with_delivery_mode(2)
        .with_timestamp(seconds)
        .with_headers(headers);
    match &message.content_type {
        Some(content_type) => Ok(properties.with_content_type(short(content_type)?)),
        None => Ok(properties),
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// Reads what arrived on a subscription of `topic`.
pub(crate) fn message(
    topic: &str,
    routing_key: &str,
    properties: &BasicProperties,
    payload: Payload,
    now: Timestamp,
) -> Result<Message, Malformed> {
    let id: MessageId = match properties.message_id() {
        None => return Err(Malformed("it has no message_id".to_owned())),
        Some(id) => id.as_str().parse().map_err(|_| {
            Malformed(format!("its message_id '{}' is not a UUID", head(id.as_str())))
        })?,
    };
    let kind = match properties.kind() {
        Some(kind) if !kind.as_str().is_empty() => kind.as_str(),
        _ => routing_key,
    };
    let seconds = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
    let stated_at = micros(properties, STATED_AT)
        .or_else(|| seconds.map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000))));
    Ok(Message {
        id,
        topic: topic.to_owned(),
        kind: kind.to_owned(),
        key: header(properties, KEY).filter(|key| !key.is_empty()),
        headers: headers(properties),
        payload,
        content_type: properties
            .content_type()
            .as_ref()
            .map(|it| it.as_str().to_owned())
            .filter(|it| !it.is_empty()),
        stated_at: stated_at.unwrap_or(now),
        due_at: micros(properties, DUE_AT),
    })
}

/// The payload of what arrived: text, if it is UTF-8.
pub(crate) fn payload(bytes: Vec<u8>) -> Payload {
    Payload::from_text_column(bytes)
}

/// The headers that the publisher set, as text.
pub(crate) fn headers(properties: &BasicProperties) -> Headers {
    let Some(table) = properties.headers() else { return Headers::new() };
    let theirs = |name: &str| !name.starts_with(OURS) && !is_brokers(name);
    table
        .inner()
        .iter()
        .filter(|(name, _)| theirs(name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), shown(value)))
        .collect()
}

/// Whether the broker sets a header of this name by itself.
fn is_brokers(name: &str) -> bool {
    matches!(name, DELIVERY_COUNT | "x-acquired-count" | "x-death")
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// One header as text, if it is there.
pub(crate) fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    properties.headers().as_ref()?.inner().get(name).map(shown)
}

/// A point in time in a header.
pub(crate) fn micros(properties: &BasicProperties, name: &str) -> Option<Timestamp> {
    header(properties, name)?.parse().ok().map(Timestamp::from_micros)
}

/// When the broker itself gave it up last.
pub(crate) fn died_at(properties: &BasicProperties) -> Option<Timestamp> {
    let deaths = properties.headers().as_ref()?.inner().get("x-death")?;
    let AMQPValue::FieldArray(deaths) = deaths else { return None };
    let AMQPValue::FieldTable(death) = deaths.as_slice().first()? else { return None };
    let AMQPValue::Timestamp(seconds) = death.inner().get("time")? else { return None };
    let seconds = i64::try_from(*seconds).ok()?;
    Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
}

/// How many deliveries of it ended unsettled, as far as the broker says.
pub(crate) fn earlier_deliveries(properties: &BasicProperties, redelivered: bool) -> u32 {
    let counted = header(properties, DELIVERY_COUNT).and_then(|count| count.parse().ok());
    counted.unwrap_or(0).max(u32::from(redelivered))
}

/// The same message for the queue of dead letters, with the reason.
pub(crate) fn dead(
    properties: &BasicProperties,
    reason: &str,
    detail: &str,
    attempts: u32,
    at: Timestamp,
) -> BasicProperties {
    let mut headers = stripped(properties);
    let mut set = |name: &str, value: AMQPValue| {
        headers.insert(ShortString::from(name), value);
    };
    set(DEAD_REASON, text(&bounded(reason, 100)));
    set(DEAD_DETAIL, text(&bounded(detail, 4000)));
    set(DEAD_AT, AMQPValue::LongLongInt(at.as_micros()));
    set(DEAD_ATTEMPTS, AMQPValue::LongLongInt(attempts.into()));
    properties.clone().with_delivery_mode(2).with_headers(headers)
}

/// The same message as it was before it became a dead letter.
pub(crate) fn revived(properties: &BasicProperties) -> BasicProperties {
    properties.clone().with_delivery_mode(2).with_headers(stripped(properties))
}

/// Its headers without what a death added.
fn stripped(properties: &BasicProperties) -> FieldTable {
    let Some(table) = properties.headers() else { return FieldTable::default() };
    let kept = table.inner().iter().filter(|(name, _)| {
        !is_brokers(name.as_str()) && !name.as_str().starts_with("posthaste-dead-")
    });
    let kept: std::collections::BTreeMap<_, _> =
        kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    FieldTable::from(kept)
}

fn bounded(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// A value of any type as text.
pub(crate) fn shown(value: &AMQPValue) -> String {
    match json(value) {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn json(value: &AMQPValue) -> serde_json::Value {
    match value {
        AMQPValue::Boolean(it) => (*it).into(),
        AMQPValue::ShortShortInt(it) => (*it).into(),
        AMQPValue::ShortShortUInt(it) => (*it).into(),
        AMQPValue::ShortInt(it) => (*it).into(),
        AMQPValue::ShortUInt(it) => (*it).into(),
        AMQPValue::LongInt(it) => (*it).into(),
        AMQPValue::LongUInt(it) => (*it).into(),
        AMQPValue::LongLongInt(it) => (*it).into(),
        AMQPValue::Timestamp(it) => (*it).into(),
        AMQPValue::Float(it) => (*it).into(),
        AMQPValue::Double(it) => (*it).into(),
        AMQPValue::DecimalValue(it) => decimal(it.scale, it.value).into(),
        AMQPValue::ShortString(it) => it.as_str().into(),
        AMQPValue::LongString(it) => String::from_utf8_lossy(it.as_bytes()).into(),
        AMQPValue::ByteArray(it) => String::from_utf8_lossy(it.as_slice()).into(),
        AMQPValue::FieldArray(it) => it.as_slice().iter().map(json).collect(),
        AMQPValue::FieldTable(it) => it
            .inner()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), json(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        AMQPValue::Void => serde_json::Value::Null,
    }
}

fn decimal(scale: u8, value: u32) -> String {
    let digits = format!("{value:0>width$}", width = usize::from(scale) + 1);
    let (whole, rest) = digits.split_at(digits.len() - usize::from(scale));
    if rest.is_empty() { whole.to_owned() } else { format!("{whole}.{rest}") }
}

#[cfg(test)]
mod tests;
