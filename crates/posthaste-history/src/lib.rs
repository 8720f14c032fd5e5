//! What happened, and whether the promise was kept.
//!
//! A [`History`] holds what was committed, what was rolled back, what arrived where and in which
//! order, and what took effect. [`check`] is a pure function from it to a [`Report`]: counts, a
//! verdict, and the smallest witnesses of what went wrong. It knows nothing of databases and
//! brokers; whoever has evidence (files, logs, a simulator's memory) puts it into these types.
//!
//! What always holds:
//! - The verdict is [`Verdict::Kept`] only if every committed message arrived and took effect
//!   exactly once at every consumer of its topic, or is accounted for as a dead letter, and none
//!   of the four counts of violations is above zero.
//! - Each violation is counted in one place: a lost message is no order violation, an altered one
//!   is not lost as well.
//! - Checking takes `O(n log n)` time in the size of the history.

mod check;
mod digest;
pub mod event;
mod history;
mod report;
mod violation;

pub use check::check;
pub use digest::Digest;
pub use event::{Event, Line};
pub use history::{
    Committed, Consumer, DeadLetter, Delivered, Effect, History, Tally, Transaction,
};
pub use report::{Report, Verdict};
pub use violation::{Count, Violation};
