//! Going on in another cluster, where transaction ids mean something else.
//!
//! A dump and restore keeps the rows with the ids of the cluster in which they were stated, so
//! that no snapshot of the new cluster says anything about them. An adoption happens at a moment
//! without a writer in flight: what is in the table then is committed, and what is not in it will
//! have a higher number. So the rows up to that moment, the **floor**, are read without asking any
//! new snapshot, leaving out what the old frontier says was sent (those that it compares have ids
//! of its own cluster). From then on only rows above the floor are compared.

use super::{Frontier, Reach};

impl Frontier {
    /// Goes on in another cluster: first with the rows up to `floor`, all of which are visible to
    /// every later statement, then with those above it. The new checkpoint has to be stored in the
    /// transaction in which the floor was found.
    ///
    /// What the adopter has to see to, in one transaction that holds off the writers:
    /// * `floor` is the same for all readers, not below the number of any row, not below
    ///   [`Frontier::highest`] of any reader, and the sequence hands out only numbers above it from
    ///   then on. Where a restore has left the sequence behind, it is raised first.
    /// * Nobody holds numbers that were drawn before and not used (a sequence with a cache).
    /// * A reader that starts later, or starts again, starts with `Frontier::start().adopt(floor)`:
    ///   the rows up to the floor still have ids of another cluster.
    ///
    /// A reader that is still adopting, catching up or inheriting may be adopted as well, so that
    /// a copy of a copy loses nothing.
    pub fn adopt(self, floor: u64) -> Self {
        let floor = floor.max(self.highest());
        let Self { reach, inherited, .. } = self;
        if reach.floor < floor {
            Self { reach, adopting: Some(floor), inherited }
        } else {
            Self { reach, adopting: None, inherited }
        }
    }

    /// The rows up to here are all sent, and their transaction ids are not looked at any more; 0
    /// where nothing was adopted. While adopting it is how far that has come.
    pub const fn floor(&self) -> u64 {
        self.reach.floor
    }

    /// The floor of an adoption that is not finished.
    pub const fn adopting(&self) -> Option<u64> {
        self.adopting
    }

    /// The highest number that this says anything about.
    pub fn highest(&self) -> u64 {
        let inherited = self.inherited.iter().map(|reach| reach.through).max();
        self.reach.through.max(self.adopting.unwrap_or(0)).max(inherited.unwrap_or(0))
    }

    /// After the rows up to `last` were read while adopting; all of them if `finished`.
    pub(super) fn adopted(&self, floor: u64, last: u64, finished: bool) -> Self {
        let inherited = self.inherited.clone();
        if finished || last >= floor {
            return Self { reach: Reach::level(floor), adopting: None, inherited };
        }
        let reach = self.reach.clone().raise_floor(last);
        Self { reach, adopting: Some(floor), inherited }
    }
}
