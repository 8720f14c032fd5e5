//! The consumer as decisions: which deliveries run together, which alone, and what becomes of a
//! failure.
//!
//! Deliveries are taken in the order of their arrival. Fresh ones run together in one transaction;
//! one that was delivered before runs alone, because it may be what ended the earlier run; when a
//! run of several fails, each of them runs alone, so that only the culprit is counted.

mod failure;
mod machine;

pub use failure::{Failing, FailureVerdict, judge_failure};
pub use machine::{Consumer, Effect, Input, Ran, RunId, Settings, Ticket};
