//! What is sent is what arrives, and what others send is read.

use lapin::types::{DecimalValue, FieldArray};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(77);

fn stated() -> Message {
    let id = MessageId::v7(Timestamp::from_millis(1_700_000_000_000), [3; 10]);
    let at = Timestamp::from_micros(1_700_000_000_123_456);
    let mut message = Message::new(id, "orders", "order.placed", "{}", at);
    message.key = Some("ключ 'and' more".into());
    message.headers = Headers::from_iter([("trace-id", "ü \t \"x\""), ("e", "")]);
    message.content_type = Some("application/json".into());
    message.due_at = Some(Timestamp::from_micros(5));
    message
}

fn foreign(headers: &[(&str, AMQPValue)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    let id = "01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d";
    BasicProperties::default().with_message_id(id.into()).with_headers(table)
}

fn read(properties: &BasicProperties) -> Result<Message, Malformed> {
    message("orders", "routing.key", properties, Payload::bytes("x"), NOW)
}

#[test]
fn a_message_comes_back_as_it_was_stated() {
    let stated = stated();
    let properties = properties(&stated).expect("it fits");
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(properties.timestamp(), &Some(1_700_000_000));
    let sent = payload(stated.payload.as_bytes().to_vec());
    let arrived = message("orders", "ignored", &properties, sent, NOW).expect("ours");
    assert_eq!(arrived, stated);
}

#[test]
fn what_others_send_is_read_as_far_as_it_can_be() {
    let mut inner = FieldTable::default();
    inner.insert("a".into(), AMQPValue::LongInt(1));
    let array = FieldArray::from(vec![AMQPValue::Boolean(true), AMQPValue::Void]);
    let properties = foreign(&[
        ("number", AMQPValue::LongLongInt(-5)),
        ("yes", AMQPValue::Boolean(true)),
        ("table", AMQPValue::FieldTable(inner)),
        ("array", AMQPValue::FieldArray(array)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 5 })),
        ("nothing", AMQPValue::Void),
        ("posthaste-other", AMQPValue::Boolean(true)),
        ("x-delivery-count", AMQPValue::LongLongInt(3)),
    ]);
    let arrived = read(&properties).expect("it has an id");
    let headers: Vec<_> = arrived.headers.iter().collect();
    assert_eq!(
        headers,
        [
            ("array", "[true,null]"),
            ("decimal", "0.05"),
            ("nothing", ""),
            ("number", "-5"),
            ("table", "{\"a\":1}"),
            ("yes", "true"),
        ]
    );
    assert_eq!(arrived.kind, "routing.key", "without a type");
    assert_eq!((arrived.key, arrived.stated_at), (None, NOW));
    assert_eq!(earlier_deliveries(&properties, false), 3);
    assert_eq!(earlier_deliveries(&foreign(&[]), true), 1);
    assert_eq!(earlier_deliveries(&foreign(&[]), false), 0);
}

#[test]
fn without_an_identity_it_is_not_a_message() {
    let none = BasicProperties::default();
    assert!(read(&none).unwrap_err().to_string().contains("no message_id"));
    let other = none.with_message_id("order-17".into());
    assert!(read(&other).unwrap_err().to_string().contains("'order-17'"));
}

#[test]
fn death_is_written_down_and_taken_away_again() {
    let alive = properties(&stated()).expect("it fits");
    let dead = dead(&alive, "rejected", "it makes no sense", 4, NOW);
    assert_eq!(header(&dead, DEAD_REASON).as_deref(), Some("rejected"));
    assert_eq!(header(&dead, DEAD_DETAIL).as_deref(), Some("it makes no sense"));
    assert_eq!(header(&dead, DEAD_ATTEMPTS).as_deref(), Some("4"));
    assert_eq!(micros(&dead, DEAD_AT), Some(NOW));
    assert_eq!(read(&dead), read(&alive), "the message itself is unchanged");
    assert_eq!(revived(&dead), alive);
}

#[test]
fn a_name_that_is_too_long_is_said_so() {
    let error = short(&"k".repeat(256)).unwrap_err();
    assert!(error.contains("256") && error.len() < 200, "{error}");
}
