//! Lanes: keys hashed into shares, each with a frontier of its own over all rows.

use async_trait::async_trait;
use posthaste_core::frontier::Frontier;
use posthaste_core::lane::{Division, Lanes, MAX_LANES};
use posthaste_core::lease::Lease;
use posthaste_core::{Lane, StoreError, Timestamp};

use super::MemoryDatabase;
use super::state::{Destination, State};

#[async_trait]
impl Lanes for MemoryDatabase {
    async fn division(&self, destination: &str) -> Result<Division, StoreError> {
        let state = self.shared.migrated()?;
        let one = Division { now: 1, wanted: 1 };
        Ok(state.destinations.get(destination).map_or(one, Destination::division))
    }

    async fn can_divide(&self, destination: &str) -> Result<bool, StoreError> {
        let state = self.shared.migrated()?;
        let divided = state.destinations.get(destination);
        Ok(divided.is_none_or(|divided| Frontier::inherit(&divided.frontiers).is_ok()))
    }

    async fn want_lanes(&self, destination: &str, lanes: u16) -> Result<(), StoreError> {
        if !(1..=MAX_LANES).contains(&lanes) {
            let reason = format!("a destination has 1 to {MAX_LANES} lanes, not {lanes}");
            return Err(StoreError::rejected(reason));
        }
        self.shared.migrated()?.destination(destination).wanted = lanes;
        self.shared.announce();
        Ok(())
    }

    async fn divide(&self, destination: &str, leases: &[Lease]) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        self.shared.migrated()?.divide(destination, leases, now)?;
        self.shared.announce();
        Ok(())
    }
}

impl Destination {
    /// How many lanes there are.
    pub(super) fn lanes(&self) -> u16 {
        u16::try_from(self.frontiers.len()).unwrap_or(MAX_LANES)
    }

    fn division(&self) -> Division {
        Division { now: self.lanes(), wanted: self.wanted }
    }

    /// How far a lane has come.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if it is one of another division.
    pub(super) fn frontier(&self, lane: &Lane) -> Result<&Frontier, StoreError> {
        let frontier = self.frontiers.get(usize::from(lane.index));
        frontier.filter(|_| lane.of == self.lanes()).ok_or(StoreError::Fenced)
    }

    /// The frontier of the lane that is the furthest behind.
    pub(super) fn hindmost(&self) -> &Frontier {
        let hindmost = self.frontiers.iter().min_by_key(|frontier| frontier.through());
        hindmost.expect("there is at least one lane")
    }
}

impl State {
    fn divide(
        &mut self,
        destination: &str,
        leases: &[Lease],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Division { now: lanes, wanted } = self.destination(destination).division();
        for lane in Lane::all(destination, lanes) {
            let name = lane.lease_name();
            let lease = leases.iter().find(|lease| lease.name == name);
            self.held_under(lease.ok_or(StoreError::Fenced)?)?;
        }
        if lanes == wanted {
            return Ok(());
        }
        let divided = self.destination(destination);
        let begun = Frontier::inherit(&divided.frontiers).map_err(|early| {
            let reason = format!("'{destination}' cannot be divided yet: {early}");
            StoreError::Rejected { reason, source: Some(early.into()) }
        })?;
        divided.frontiers = vec![begun; usize::from(wanted)];
        divided.side_table.divide_routes(wanted, now);
        for lease in leases {
            self.held_under(lease)?.owner = None;
        }
        Ok(())
    }
}

/// What decides about the lane of an entry (FNV-1a): the same for all entries of a key.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
