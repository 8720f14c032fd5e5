//! What a ledger wants written about a message that is out of the ordinary.

use std::time::Duration;

/// One change, to be written before it becomes visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Settled; needs a row only if the watermark has not passed it.
    Settled { sequence: i64 },
    /// To be delivered again: how often it was delivered, and how long it waits from now.
    Again { sequence: i64, deliveries: u32, wait: Option<Duration>, aside: bool },
    /// A dead letter.
    Dead { sequence: i64, deliveries: u32, reason: String, detail: String },
    /// Deferred.
    Deferred { sequence: i64, deliveries: u32 },
    /// Settled after it stood aside: its row goes.
    Removed { sequence: i64 },
}
