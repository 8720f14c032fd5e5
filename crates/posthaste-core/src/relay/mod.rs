//! The relay as a state machine: what to read, what to hand to the broker, when to settle.
//!
//! [`Relay::step`] takes the moment and one [`Input`] and pushes [`Effect`]s; a shell carries them
//! out and feeds the answers back. At most one call to the database is under way at any moment;
//! publishing runs beside it, several calls ("flights") at once.
//!
//! What always holds:
//! - An entry of a key is in flight only if every earlier entry of its key, in the window or in
//!   the side table, has been accepted, given up on by policy, or flies in the same call to a
//!   broker whose calls are accepted as prefixes.
//! - Once a message was unroutable, later ones of its topic and kind are set aside too, until
//!   all of them in memory are settled and the database knows.
//! - A checkpoint moves past an entry only in the settlement that holds its verdict.
//! - Nothing is handed to the broker once the lease may have run out.
//! - What is in memory is bounded: by the window in messages and bytes, plus one entry.

mod effect;
mod input;
mod line;
mod machine;
mod route;
mod settings;
#[cfg(test)]
mod tests;
mod window;

pub use effect::{Effect, FlightId};
pub use input::{Failure, Input};
pub use machine::Relay;
pub use settings::{Facts, Settings};
