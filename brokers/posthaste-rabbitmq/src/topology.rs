//! Exchanges and queues: declared where that is wanted, looked for where it is not.
//!
//! Every look happens on a channel of its own, because the broker closes a channel on which
//! something is missing or refused. What exists with other properties is used as it is, loudly.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{ExchangeKind, Queue};

use crate::connection::Wire;
use crate::envelope::short;
use crate::error::Failure;
use crate::options::{QueueType, RabbitMqOptions};

/// The names of a subscription at the broker.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) exchange: ShortString,
    pub(crate) queue: ShortString,
    pub(crate) dead: ShortString,
}

impl Names {
    pub(crate) fn new(options: &RabbitMqOptions, topic: &str, name: &str) -> Result<Self, Failure> {
        posthaste_core::limits::check_name("topic", topic)
            .map_err(|invalid| Failure::Rejected(invalid.to_string()))?;
        let rejected = |reason: String| Failure::Rejected(reason);
        // The queue is TOPIC.NAME: with a dot in the name it could be another topic's, and `dead`
        // is the end of the names of queues of dead letters.
        if name.is_empty() || name.contains('.') || name == "dead" {
            return Err(Failure::Rejected(format!(
                "a subscription on RabbitMQ cannot be named '{}': choose a name without dots that \
                 is not 'dead'",
                name.escape_debug()
            )));
        }
        Ok(Self {
            exchange: short(&options.exchange(topic)).map_err(rejected)?,
            queue: short(&options.queue(topic, name)).map_err(rejected)?,
            dead: short(&options.dead_queue(topic, name)).map_err(rejected)?,
        })
    }
}

/// Makes sure that an exchange is there. Returns what a person should know of it.
pub(crate) async fn exchange(
    wire: &Wire,
    name: &ShortString,
    declare: bool,
) -> Result<Option<String>, Failure> {
    if !declare {
        return find_exchange(wire, name).await.map(|()| None);
    }
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let channel = wire.channel().await?;
    let what = format!("declare exchange '{name}'");
    let declaring =
        channel.exchange_declare(name.clone(), ExchangeKind::Topic, options, FieldTable::default());
    match wire.ask(&what, declaring).await {
        Ok(()) => Ok(None),
        Err(failure @ (Failure::Different(_) | Failure::Forbidden(_))) => {
            let note = failure.to_string();
            match find_exchange(wire, name).await {
                Ok(()) if matches!(failure, Failure::Forbidden(_)) => Ok(None),
                Ok(()) => Ok(Some(format!("exchange '{name}' is used as it is: {note}"))),
                Err(Failure::Missing(_)) => Err(failure),
                Err(other) => Err(other),
            }
        }
        Err(failure) => Err(failure),
    }
}

async fn find_exchange(wire: &Wire, name: &ShortString) -> Result<(), Failure> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let channel = wire.channel().await?;
    let looking =
        channel.exchange_declare(name.clone(), ExchangeKind::Topic, options, FieldTable::default());
    match wire.ask(&format!("look for exchange '{name}'"), looking).await {
        Err(Failure::Missing(_)) => Err(Failure::Missing(format!(
            "exchange '{name}' does not exist: create it (durable, of type topic)"
        ))),
        found => found,
    }
}

/// Makes sure that a queue is there.
async fn queue(
    wire: &Wire,
    name: &ShortString,
    arguments: FieldTable,
    declare: bool,
) -> Result<Option<String>, Failure> {
    if !declare {
        return find_queue(wire, name).await.map(|_| None);
    }
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let channel = wire.channel().await?;
    let declaring = channel.queue_declare(name.clone(), options, arguments);
    match wire.ask(&format!("declare queue '{name}'"), declaring).await {
        Ok(_) => Ok(None),
        Err(failure @ (Failure::Different(_) | Failure::Forbidden(_))) => {
            match find_queue(wire, name).await {
                Ok(_) if matches!(failure, Failure::Forbidden(_)) => Ok(None),
                Ok(_) => Ok(Some(format!("queue '{name}' is used as it is: {failure}"))),
                Err(Failure::Missing(_)) => Err(failure),
                Err(other) => Err(other),
            }
        }
        Err(failure) => Err(failure),
    }
}

/// Looks for a queue, and for how much is in it.
pub(crate) async fn find_queue(wire: &Wire, name: &ShortString) -> Result<Queue, Failure> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = wire.channel().await?;
    let looking = channel.queue_declare(name.clone(), options, FieldTable::default());
    match wire.ask(&format!("look for queue '{name}'"), looking).await {
        Err(Failure::Missing(_)) => {
            Err(Failure::Missing(format!("queue '{name}' does not exist: create it")))
        }
        found => found,
    }
}

/// Makes sure that everything of a subscription is there. Returns what a person should know of it.
pub(crate) async fn subscription(
    wire: &Wire,
    names: &Names,
    ordered: bool,
    options: &RabbitMqOptions,
) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    notes.extend(exchange(wire, &names.exchange, options.declare).await?);
    let (dead, alive) = (dead_arguments(options), arguments(names, ordered, options));
    notes.extend(queue(wire, &names.dead, dead, options.declare).await?);
    notes.extend(queue(wire, &names.queue, alive, options.declare).await?);
    if options.declare {
        let channel = wire.channel().await?;
        let binding = channel.queue_bind(
            names.queue.clone(),
            names.exchange.clone(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        let what = format!("bind queue '{}' to exchange '{}'", names.queue, names.exchange);
        match wire.ask(&what, binding).await {
            // Without the right to bind, it may be bound already; nobody can ask.
            Err(Failure::Forbidden(why)) => notes.push(why),
            bound => bound?,
        }
    }
    Ok(notes)
}

/// Times that somebody may look into a queue of dead letters. RabbitMQ 4 has a limit of 20 unless
/// it is told otherwise, and 3.10 has no word for none.
const LOOKS: i64 = 1_000_000_000;

fn dead_arguments(options: &RabbitMqOptions) -> FieldTable {
    let mut table = FieldTable::default();
    set(&mut table, "x-queue-type", options.queue_type.word());
    if options.queue_type == QueueType::Quorum {
        table.insert(ShortString::from("x-delivery-limit"), AMQPValue::LongLongInt(LOOKS));
    }
    table
}

fn arguments(names: &Names, ordered: bool, options: &RabbitMqOptions) -> FieldTable {
    let mut table = dead_arguments(options);
    set(&mut table, "x-dead-letter-exchange", "");
    set(&mut table, "x-dead-letter-routing-key", names.dead.as_str());
    if options.queue_type == QueueType::Quorum {
        let limit = AMQPValue::LongLongInt(options.delivery_limit.into());
        table.insert(ShortString::from("x-delivery-limit"), limit);
        // The broker keeps a message until the queue of dead letters has confirmed it; that needs a
        // queue that refuses what it has no room for.
        set(&mut table, "x-dead-letter-strategy", "at-least-once");
        set(&mut table, "x-overflow", "reject-publish");
    }
    if ordered {
        let active = AMQPValue::Boolean(true);
        table.insert(ShortString::from("x-single-active-consumer"), active);
    }
    table
}

fn set(table: &mut FieldTable, name: &'static str, value: &str) {
    table.insert(ShortString::from(name), AMQPValue::LongString(LongString::from(value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_anothers_are_refused() {
        let options = RabbitMqOptions { prefix: "p-".into(), ..RabbitMqOptions::default() };
        let names = Names::new(&options, "a/b.c", "mailer").expect("good names");
        assert_eq!(names.exchange.as_str(), "p-a/b.c");
        assert_eq!(names.queue.as_str(), "p-a/b.c.mailer");
        assert_eq!(names.dead.as_str(), "p-a/b.c.mailer.dead");
        for (topic, name) in [("a", "b.c"), ("a", "dead"), ("a", ""), ("a b", "c")] {
            assert!(Names::new(&options, topic, name).is_err(), "{topic} {name}");
        }
        assert!(Names::new(&options, "a", &"n".repeat(250)).is_err());
    }
}
