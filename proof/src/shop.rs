//! The business that is watched: orders are placed, a till books each of them and issues a
//! receipt, the books take in the receipts. Its tables stand in the same database as the outbox and
//! say independently of it what was committed; see [`ledger`](crate::ledger).

use posthaste::{Event, Headers, Message};
use posthaste_history::Digest;
use serde::{Deserialize, Serialize};

/// The consumer of orders.
pub const TILL: &str = "till";
/// The consumer of receipts.
pub const BOOKS: &str = "books";

/// What a handler does with an order after it has booked it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Nothing more.
    #[default]
    Good,
    /// Fails the first two times.
    FailTwice,
    /// Fails every time.
    Fail,
    /// Says that it can never be handled.
    Reject,
    /// Panics every time.
    Panic,
    /// Ends the process the first time.
    AbortOnce,
    /// Ends the process every time.
    Abort,
    /// Never returns.
    Hang,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whose it is; orders of one customer stay in order.
    pub customer: Option<String>,
    /// What it is worth.
    pub amount: i64,
    /// What becomes of it.
    #[serde(default)]
    pub behaviour: Behaviour,
    /// Text of any length and alphabet.
    pub note: String,
}

impl Event for Order {
    const TOPIC: &'static str = "orders";
    const KIND: &'static str = "order.placed";

    fn key(&self) -> Option<String> {
        self.customer.clone()
    }

    fn headers(&self) -> Headers {
        [("amount", self.amount.to_string()), ("said", "hé\"llo\\ wörld".to_owned())]
            .into_iter()
            .collect()
    }
}

/// A receipt for an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whose it is.
    pub customer: Option<String>,
    /// What was paid.
    pub amount: i64,
    /// The message that it is for.
    pub order: String,
}

impl Event for Receipt {
    const TOPIC: &'static str = "receipts";
    const KIND: &'static str = "receipt.issued";

    fn key(&self) -> Option<String> {
        self.customer.clone()
    }
}

/// Of all that has to arrive unchanged.
pub fn digest(message: &Message) -> u64 {
    let text = |text: &Option<String>| text.clone().map(String::into_bytes);
    let digest = Digest::new()
        .field(message.topic.as_bytes())
        .field(message.kind.as_bytes())
        .optional(text(&message.key).as_deref())
        .optional(text(&message.content_type).as_deref())
        .field(message.payload.as_bytes());
    let names = message.headers.iter();
    names.fold(digest, |d, (name, value)| d.field(name.as_bytes()).field(value.as_bytes())).finish()
}

/// A digest as the tables hold it.
pub fn printed(digest: u64) -> String {
    format!("{digest:016x}")
}
