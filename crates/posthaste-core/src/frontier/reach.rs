//! What a reader has sent: everything up to a floor, and above it what snapshots say.
//!
//! `floor <= through`, and late rows that are being caught up with end above the floor and below
//! `through`.

use super::Snapshot;

/// Sent are the rows up to `floor`, those up to `through` that `seen` sees, and those that are
/// caught up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) floor: u64,
    pub(super) through: u64,
    pub(super) seen: Snapshot,
    pub(super) catching_up: Option<CatchUp>,
}

/// Late rows that a limit has cut: how far they have been read, and against which snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUp {
    pub(super) through: u64,
    pub(super) snapshot: Snapshot,
}

impl CatchUp {
    /// The last late row that was read; those above it are still to come.
    pub const fn through(&self) -> u64 {
        self.through
    }

    /// What decides which late rows belong to this catching up.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Reach {
    /// Everything up to `floor`, whoever stated it.
    pub(super) const fn level(floor: u64) -> Self {
        Self { floor, through: floor, seen: Snapshot::BEGINNING, catching_up: None }
    }

    pub(super) fn has_sent(&self, seq: u64, xid: u64) -> bool {
        let caught_up = |late: &CatchUp| seq <= late.through && late.snapshot.sees(xid);
        seq <= self.floor
            || (seq <= self.through && self.seen.sees(xid))
            || self.catching_up.as_ref().is_some_and(caught_up)
    }

    /// Everything up to `floor` is sent as well. What that makes superfluous is forgotten.
    pub(super) fn raise_floor(self, floor: u64) -> Self {
        if floor >= self.through {
            return Self::level(floor);
        }
        let catching_up = self.catching_up.filter(|late| late.through > floor);
        Self { floor: floor.max(self.floor), catching_up, ..self }
    }

    /// Whether this has sent whatever `other` has sent. It may say no of two that differ in words
    /// only.
    ///
    /// Where the floor is not above all of `other`, both were read in the same cluster: a reader
    /// in another one has a floor that is not below the whole of what was read before.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let caught_up = |late: &CatchUp| self.seen.covers(&late.snapshot);
        self.floor >= other.through
            || (self.floor >= other.floor
                && self.through >= other.through
                && self.seen.covers(&other.seen)
                && other.catching_up.as_ref().is_none_or(caught_up))
    }

    /// A reach that has sent only what all of these have sent; nearly the highest one.
    ///
    /// The snapshot of a reach says something of the rows above its floor only. So those whose
    /// floor covers the meet have no say in its snapshot; what is left was read in one cluster.
    pub(super) fn meet<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let floor = all.clone().map(|reach| reach.floor).min().unwrap_or(0);
        let through = all.clone().map(|reach| reach.through).min().unwrap_or(0);
        let compared = all.filter(|reach| reach.floor < through).map(|reach| &reach.seen);
        let seen = compared.cloned().reduce(|a, b| a.meet(&b)).unwrap_or(Snapshot::BEGINNING);
        Self { floor, through, seen, catching_up: None }
    }
}
