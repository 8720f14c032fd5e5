//! Writing to the outbox with `tokio-postgres`, on the service's own connections.
//!
//! The driver sends what is asked of it at once and matches the answers later, so that the insert
//! of the messages travels with the commit: stating messages costs no round trip.

mod columns;
mod error;
mod outbox;
mod transaction;

pub use outbox::TokioOutbox;
pub use transaction::TokioTransaction;
