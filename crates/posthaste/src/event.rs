//! A typed event: a Rust type that knows its topic, its kind and what it is about.

use posthaste_core::Headers;
use serde::Serialize;

/// Something that happened, as a type. It travels as JSON.
///
/// ```
/// use posthaste::Event;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct OrderPlaced { order: u64, total: u64 }
///
/// impl Event for OrderPlaced {
///     const TOPIC: &'static str = "orders";
///     const KIND: &'static str = "order.placed";
///     fn key(&self) -> Option<String> { Some(self.order.to_string()) }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "implement `posthaste::Event` for it (topic, kind and, for order, a key), or publish a \
            `Draft`"
)]
pub trait Event: Serialize {
    /// Where events of this type go.
    const TOPIC: &'static str;
    /// What a consumer chooses its handler by.
    const KIND: &'static str;

    /// What the event is about. Events of one topic and key are delivered in the order in which
    /// they were committed; without a key there is no order.
    fn key(&self) -> Option<String> {
        None
    }

    /// Headers that travel with the event.
    fn headers(&self) -> Headers {
        Headers::new()
    }
}
