//! What the relay is told.

use super::FlightId;
use crate::lease::Claim;
use crate::outbox::{Batch, Ready};
use crate::{Checkpoint, Outcome, StoreError};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The moment that [`Relay::deadline`](super::Relay::deadline) named has come.
    Tick,
    /// The outbox may have changed.
    Changed,
    /// Finish what was taken, and end.
    Stop,
    /// Answer to `Acquire`.
    Claimed(Result<Claim, Failure>),
    /// Answer to `Renew`.
    Renewed(Result<(), Failure>),
    /// Answer to `Release`, however it went.
    Released,
    /// Answer to `Load`.
    Loaded(Result<Checkpoint, Failure>),
    /// Answer to `Read`.
    Read(Result<Batch, Failure>),
    /// Answer to `Ready`.
    Ready(Result<Ready, Failure>),
    /// Answer to `Settle`.
    Settled(Result<(), Failure>),
    /// Answer to `Prune`: whether there is more to remove.
    Pruned(Result<bool, Failure>),
    /// Answer to `Publish`: one outcome for each message, or `None` if the broker could not be
    /// reached and nothing left this process.
    Published {
        /// Which call.
        flight: FlightId,
        /// What the broker said.
        outcomes: Option<Vec<Outcome>>,
    },
}

/// How a call to the database failed, as far as the relay cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Someone else holds the lease.
    Fenced,
    /// Anything else: it is tried again. Whether it took effect is not known.
    Unavailable,
}

impl From<&StoreError> for Failure {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Fenced => Self::Fenced,
            _ => Self::Unavailable,
        }
    }
}
