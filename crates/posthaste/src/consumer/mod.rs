//! The consumer: deliveries in, effects exactly once.
//!
//! Inbox entry, handler and the messages that the handler publishes are one transaction; the
//! delivery is settled after its commit. What is delivered again is recognised by the inbox.

mod builder;
mod handler;
mod hands;
mod options;
mod run;
mod shell;

pub use builder::{Consumer, Others};
pub use handler::{Handler, HandlerFn, RawHandlerFn, handler_fn, raw_handler_fn};
pub use options::ConsumerOptions;
