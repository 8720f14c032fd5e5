//! What the relay wants done.

use std::time::Duration;

use crate::lease::Lease;
use crate::outbox::{ReadLimit, Settlement};
use crate::{Checkpoint, Message};

/// Names one publish call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(pub u64);

/// Something for the shell to do. Each is answered by the [`Input`](super::Input) named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Claim the lease; answered by `Claimed`.
    Acquire {
        /// Name of the lease.
        name: String,
        /// How long it is to run.
        ttl: Duration,
    },
    /// Extend the lease; answered by `Renewed`.
    Renew {
        /// Which one.
        lease: Lease,
        /// How long it is to run from now.
        ttl: Duration,
    },
    /// Give the lease back; answered by `Released`.
    Release {
        /// Which one.
        lease: Lease,
    },
    /// Load the stored checkpoint; answered by `Loaded`.
    Load,
    /// Read past a checkpoint; answered by `Read`.
    Read {
        /// Past this.
        from: Checkpoint,
        /// How much.
        limit: ReadLimit,
    },
    /// Read what may leave the side table; answered by `Ready`.
    Ready {
        /// How much.
        limit: ReadLimit,
    },
    /// Carry out verdicts; answered by `Settled`.
    Settle {
        /// Under this lease.
        lease: Lease,
        /// These.
        settlement: Settlement,
    },
    /// Remove what is long sent; answered by `Pruned`.
    Prune {
        /// Under this lease.
        lease: Lease,
    },
    /// Hand messages to the broker in one call; answered by `Published`.
    Publish {
        /// Names the call.
        flight: FlightId,
        /// In this order.
        messages: Vec<Message>,
    },
    /// Nothing more comes: the shell can end.
    Finish,
}
