//! I11: after a fault at a relay, something arrives again within the time to live of a lease, the
//! relay's poll and one second, if something waits.
//!
//! Where several relays are at work the time counts from the beginning of the fault, because
//! another takes over; with a single one from its end. A fault that is followed by another before
//! its time is up is not judged.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{FaultTarget, LeaseAct};
use crate::examination::Examination;
use crate::index::Index;
use crate::violation::Harm;

/// What a failover may take beside waiting for the lease and the poll.
const MARGIN: u64 = 1_000_000_000;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    let relays = &index.kinds.relays;
    let ttl = relays.iter().filter_map(|relay| relay.lease_ttl).max();
    let poll = relays.iter().filter_map(|relay| relay.poll).max();
    let (Some(ttl), Some(poll)) = (ttl, poll) else { return };
    let owners: BTreeSet<&str> = relays.iter().map(|relay| relay.event.owner.as_str()).collect();
    let limit = ttl.saturating_add(poll).saturating_add(MARGIN);
    let arrivals = Arrivals::of(index);
    for fault in index.kinds.faults.iter().filter(|one| one.target == FaultTarget::Relay) {
        let since = if owners.len() > 1 { fault.from } else { fault.until };
        let deadline = since.saturating_add(limit);
        let is_troubled = index
            .faults_within(fault.from, deadline)
            .any(|other| other.id != fault.id && touches(other.target));
        if is_troubled || !arrivals.something_waits(since) {
            continue;
        }
        examination.look();
        let next = arrivals.next(since);
        if next.is_none_or(|next| next > deadline) {
            let id = &fault.id;
            let what = match next {
                Some(next) => format!(
                    "after fault {id} nothing arrived for {} ms, and {} ms are allowed",
                    (next - since) / 1_000_000,
                    limit / 1_000_000
                ),
                None => format!("after fault {id} nothing arrived any more"),
            };
            examination.find(Harm::Other, id, what, &[fault.line]);
        }
    }
}

/// Whether a fault there keeps messages from arriving.
fn touches(target: FaultTarget) -> bool {
    !matches!(target, FaultTarget::Writer | FaultTarget::Gateway | FaultTarget::Handler)
}

/// When messages were committed, and when they arrived for the first time somewhere.
struct Arrivals {
    committed: Vec<u64>,
    arrived: Vec<u64>,
    any: Vec<u64>,
}

impl Arrivals {
    fn of(index: &Index<'_>) -> Self {
        let (mut committed, mut arrived) = (Vec::new(), Vec::new());
        for ((_, id), arrivals) in &index.arrivals {
            let acknowledged = index.committed(id).and_then(|message| message.acknowledged);
            let (Some(acknowledged), Some(first)) = (acknowledged, arrivals.first()) else {
                continue;
            };
            let is_due_later = index.committed(id).is_some_and(|message| message.due.is_some());
            if !is_due_later && !index.is_given_up(None, id) {
                committed.push(acknowledged.at.min(first.line.at));
                arrived.push(first.line.at);
            }
        }
        let mut any: Vec<u64> = index.kinds.deliveries.iter().map(|one| one.line.at).collect();
        for moments in [&mut committed, &mut arrived, &mut any] {
            moments.sort_unstable();
        }
        Self { committed, arrived, any }
    }

    fn something_waits(&self, at: u64) -> bool {
        let committed = self.committed.partition_point(|moment| *moment <= at);
        committed > self.arrived.partition_point(|moment| *moment <= at)
    }

    fn next(&self, after: u64) -> Option<u64> {
        self.any.get(self.any.partition_point(|moment| *moment <= after)).copied()
    }
}

/// How often a lease went to somebody else.
pub(crate) fn failovers(index: &Index<'_>) -> u64 {
    let mut holders = BTreeMap::new();
    let mut count = 0;
    for lease in index.kinds.leases.iter().filter(|one| one.act == LeaseAct::Granted) {
        let owner = lease.event.owner.as_str();
        let before = holders.insert(lease.event.name.as_str(), owner);
        count += u64::from(before.is_some_and(|before| before != owner));
    }
    count
}
