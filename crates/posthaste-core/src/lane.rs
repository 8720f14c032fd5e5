//! Lanes: the keys of a destination in equal shares, each relayed on its own.
//!
//! Every key falls into one lane, messages without a key by their ids. A lane has its own lease,
//! checkpoint and leader, so that several relays share the work. What is sent in a lane is
//! filtered, what is read past is not: every lane goes through the whole outbox.

use async_trait::async_trait;
use serde::Serialize;

use crate::StoreError;
use crate::lease::Lease;

/// Most lanes of a destination.
pub const MAX_LANES: u16 = 64;

/// One share of a destination's keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// Which destination of the outbox.
    pub destination: String,
    /// Which share, counted from 0.
    pub index: u16,
    /// Of how many.
    pub of: u16,
}

impl Lane {
    /// All keys of a destination.
    pub fn whole(destination: impl Into<String>) -> Self {
        Self { destination: destination.into(), index: 0, of: 1 }
    }

    /// The lanes of a destination that is divided into `of`.
    pub fn all(destination: &str, of: u16) -> impl Iterator<Item = Self> + '_ {
        (0..of).map(move |index| Self { destination: destination.to_owned(), index, of })
    }

    /// The name of its lease; see [`lease::destination`](crate::lease::destination).
    pub fn lease_name(&self) -> String {
        format!("relay/{}/{}", self.destination, self.index)
    }
}

/// Into how many lanes a destination is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Division {
    /// Lanes now; 1 until it was divided.
    pub now: u16,
    /// Lanes that were asked for. Where it differs, relays give their leases back, and one of them
    /// carries the change out.
    pub wanted: u16,
}

/// The lanes of the destinations of one database.
///
/// Laws (suite `lanes`):
/// 1. All messages of one key are read in the same lane, and every message in exactly one.
/// 2. A change of their number loses nothing, reorders no key and sends nothing again that was
///    settled, whatever was settled in each lane by then.
/// 3. A settlement in a lane of an earlier division is refused.
#[async_trait]
pub trait Lanes: Send + Sync {
    /// How the destination is divided.
    async fn division(&self, destination: &str) -> Result<Division, StoreError>;

    /// Asks for another number of lanes; the same number as now takes an earlier wish back.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] for 0, for more than [`MAX_LANES`], and by a database that has one
    /// lane only.
    async fn want_lanes(&self, destination: &str, lanes: u16) -> Result<(), StoreError>;

    /// Divides the destination as it was asked for, given the leases of all its present lanes.
    /// These are released by it. Nothing is done if the number is what was wanted already.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if one of the leases is missing or someone else's: nothing was
    /// changed. [`StoreError::Rejected`] if the last change is not worked off yet.
    async fn divide(&self, destination: &str, leases: &[Lease]) -> Result<(), StoreError>;
}
