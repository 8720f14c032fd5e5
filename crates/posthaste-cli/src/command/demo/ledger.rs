//! What the consumers do: they book every message, in a way that shows when it is done twice.

use futures_util::future::BoxFuture;
use posthaste::{HandlerError, Message, reject};
use serde::Deserialize;

use super::arrivals::digest_of;
use super::stage::{Entry, Stage};

/// The part of a message that is booked.
#[derive(Deserialize)]
struct Booking {
    amount: i64,
}

/// Books the messages of a consumer.
pub(super) fn booking<S: Stage>(
    stage: S,
    consumer: &'static str,
) -> impl for<'a> Fn(&'a mut S::Connection, Message) -> BoxFuture<'a, Result<(), HandlerError>>
+ Send
+ Sync
+ 'static {
    move |connection, message| {
        let stage = stage.clone();
        Box::pin(async move { book(&stage, connection, consumer, &message).await })
    }
}

async fn book<S: Stage>(
    stage: &S,
    connection: &mut S::Connection,
    consumer: &str,
    message: &Message,
) -> Result<(), HandlerError> {
    let booking: Booking = serde_json::from_slice(message.payload.as_bytes()).map_err(reject)?;
    let entry = Entry {
        consumer,
        message: message.id.to_string(),
        digest: format!("{:016x}", digest_of(message)),
        amount: booking.amount,
    };
    stage.book(connection, &entry).await
}
