//! Dividing the destination anew among lanes.

use std::collections::BTreeMap;

use posthaste_core::Lane;
use posthaste_core::frontier::Frontier;
use posthaste_core::lane::Division;
use posthaste_core::lease::Lease;

use super::reading::frontier_of;
use super::state::Wait;
use super::{Database, EPOCH};
use crate::sabotage::Sabotage;

/// Why a destination was not divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undivided {
    /// A lease is missing or somebody else's.
    Fenced,
    /// The last change is not worked off.
    NotYet,
}

/// The only destination of the model.
pub(crate) const DESTINATION: &str = "default";

impl Database {
    /// How the destination is divided.
    pub fn division(&self) -> Division {
        Division { now: self.state.lanes(), wanted: self.state.wanted }
    }

    /// Asks for another number of lanes.
    pub fn want_lanes(&mut self, lanes: u16) {
        self.state.wanted = lanes;
    }

    /// Whether the present lanes have worked off what the last change left them.
    pub fn can_divide(&self) -> bool {
        self.begun().is_some()
    }

    fn begun(&self) -> Option<Frontier> {
        let old: Option<Vec<Frontier>> = self.state.checkpoints.iter().map(frontier_of).collect();
        let old = old?;
        if self.is_sabotaged(Sabotage::NothingInherited) {
            return old.into_iter().next();
        }
        Frontier::inherit(&old).ok()
    }

    /// Divides as it was asked for, given the leases of all present lanes.
    ///
    /// # Errors
    /// [`Undivided`]; nothing was changed then.
    pub fn divide(&mut self, leases: &[Lease]) -> Result<(), Undivided> {
        let Division { now, wanted } = self.division();
        for lane in Lane::all(DESTINATION, now) {
            let name = lane.lease_name();
            let given = leases.iter().find(|lease| lease.name == name);
            let lease = given.ok_or(Undivided::Fenced)?;
            self.fence(lease).map_err(|_| Undivided::Fenced)?;
        }
        if now == wanted {
            return Ok(());
        }
        let begun = self.begun().ok_or(Undivided::NotYet)?;
        self.state.checkpoints = vec![begun.checkpoint(); usize::from(wanted)];
        for lease in leases {
            if let Some(grant) = self.state.leases.get_mut(&lease.name) {
                (grant.token, grant.expires_at, grant.settlement) = (grant.token + 1, EPOCH, 0);
            }
        }
        self.move_held(wanted);
        self.spend_xid();
        Ok(())
    }

    /// Tells every row of the side table its new lane. What is set aside is tried again in every
    /// lane at once.
    fn move_held(&mut self, lanes: u16) {
        let now = self.now;
        let mut first: BTreeMap<(u16, String, String), u64> = BTreeMap::new();
        for (seq, held) in &mut self.state.held {
            held.lane = lane_of(held.hash, lanes);
            if held.wait == Wait::Unroutable {
                let route = (held.lane, held.topic.clone(), held.kind.clone());
                let is_first = *first.entry(route).or_insert(*seq) == *seq;
                held.ready_at = is_first.then_some(now);
            }
        }
    }
}

/// The lane of a hash.
pub(crate) fn lane_of(hash: u64, lanes: u16) -> u16 {
    u16::try_from(hash % u64::from(lanes.max(1))).unwrap_or(0)
}
