//! What must hold of every history, each with its label and its check, one file each.
//!
//! A check looks at the [`Index`] and tells an [`Examination`] how much it looked at and what is
//! wrong. What several checks could find belongs to the one that says most about its cause; which
//! that is stands at the top of their files.

mod atomicity;
mod attempts;
mod blocked_key;
mod dead_letter;
mod duplicates;
mod effect;
mod failover;
mod fencing;
mod gateway;
mod isolation;
mod log_order;
mod loss;
mod never_early;
mod order;
mod phantom;
mod position;
mod pruning;
mod replay;
mod repost;
mod rewind;
mod shutdown;
mod window;

pub(crate) use duplicates::hits;
pub(crate) use failover::failovers;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::examination::Examination;
use crate::index::Index;

/// Makes the enum and the table.
macro_rules! invariants {
    ($($(#[doc = $statement:literal])* $name:ident = $label:literal, $file:ident;)*) => {
        /// Something that must hold of every history.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Invariant {
            $($(#[doc = $statement])* $name,)*
        }

        impl Invariant {
            /// All of them, in the order of their labels.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The short name that `docs/history.md` explains.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// What must hold, as a sentence without its full stop.
            pub fn statement(self) -> &'static str {
                let statement = match self {
                    $(Self::$name => concat!($($statement,)*),)*
                };
                statement.trim().trim_end_matches('.')
            }

            pub(crate) fn examine(self, index: &Index<'_>) -> Examination {
                let mut examination = Examination::new(self);
                match self {
                    $(Self::$name => $file::examine(index, &mut examination),)*
                }
                examination
            }
        }
    };
}

invariants! {
    /// A message exists if and only if its transaction was committed.
    Atomicity = "I1", atomicity;
    /// What was committed arrives, or is kept as a dead letter.
    NoLoss = "I2", loss;
    /// What arrives was committed, and as it arrives.
    NoPhantom = "I3", phantom;
    /// A message that was committed before another of its key was stated arrives first.
    Order = "I4a", order;
    /// After a repetition a key goes on step by step.
    CleanRewind = "I4b", rewind;
    /// Messages of a key that are read from a log arrive in its order.
    LogOrder = "I4c", log_order;
    /// While a message fails, no later one of its key passes.
    BlockedKey = "I4d", blocked_key;
    /// Copies come from faults, and no more of them than these explain.
    BoundedDuplicates = "I5", duplicates;
    /// What arrives takes effect exactly once.
    OneEffect = "I6", effect;
    /// A copy that comes after its inbox entry is gone is refused.
    WindowEdge = "I7", window;
    /// Dead letters are kept whole, and go only by a recorded act.
    DeadLetters = "I8", dead_letter;
    /// A dead letter is reposted once, and then arrives.
    Reposts = "I9", repost;
    /// A replay changes nothing and sends nothing.
    PureReplay = "I10", replay;
    /// When a relay fails, another takes over in time.
    Failover = "I11", failover;
    /// One holder at a time, and an old token changes nothing.
    Fencing = "I12", fencing;
    /// A stop leaves nothing open and no lease behind.
    Shutdown = "I13", shutdown;
    /// What the gateway accepts is durable, and what it refuses is not kept.
    Gateway = "I14", gateway;
    /// Nothing arrives before it is due.
    NeverEarly = "I15", never_early;
    /// Attempts are counted up, limited and spaced.
    Attempts = "I16", attempts;
    /// A position passes nothing that has no verdict.
    Position = "I20", position;
    /// Nothing is taken away that may still be needed.
    Pruning = "I21", pruning;
    /// A key in trouble does not slow down the others.
    Isolation = "I22", isolation;
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
