//! What happened, and whether the promise was kept.
//!
//! A [`History`] holds what writers, relays, consumers, brokers and databases saw, in the order in
//! which it happened, and at its end what is there when all has come to rest. It is written as JSON
//! lines by whoever has something to tell ([`event`] is the format); [`read`] merges the files of
//! several processes. [`check`] is a pure function from a history to a [`Report`]: a verdict, what
//! was found of each [`Invariant`], and the smallest witness of what went wrong. It knows nothing
//! of databases and brokers. `docs/history.md` explains the format and the invariants.
//!
//! What always holds:
//! - An invariant of which a history says nothing is not looked at, and that is not the same as
//!   kept. A history in which too little happened is [`Verdict::Invalid`].
//! - Each violation belongs to one invariant: a lost message is no order violation, an altered one
//!   is not lost as well.
//! - Checking takes `O(n log n)` time in the size of the history, and memory for its events.

mod check;
mod digest;
pub mod event;
mod examination;
mod floors;
mod history;
mod index;
mod invariant;
mod journal;
mod read;
mod report;
mod violation;

pub use check::check;
pub use digest::Digest;
pub use event::{Event, Line};
pub use floors::{Floors, Shortfall};
pub use history::History;
pub use invariant::Invariant;
pub use journal::{Journal, moment};
pub use read::{ReadError, read};
pub use report::{Counts, Finding, Report, State, Verdict};
pub use violation::{Cited, Harm, Violation};
