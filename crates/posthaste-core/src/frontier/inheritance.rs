//! Dividing a table anew among lanes.
//!
//! Each lane reads the whole table with a frontier of its own and sends the rows of its keys. When
//! n lanes become m, a key may move to a lane that has come less far, or further, than the one that
//! sent it before. So every new lane begins where **all** old ones had been and keeps what they had
//! sent: a row counts as sent if the old lane of its key had sent it. Once the own frontier covers
//! all of the old ones, nothing that they had sent can be asked for again, and they are forgotten.
//!
//! Why the order of a key holds: if one row was visible before another was stated, a frontier that
//! has sent the other has sent it too. So what the old lane of a key had sent is a beginning of it,
//! and the new lane reads the rest as it reads anything.

use super::{Frontier, Reach};

/// What keeps a checkpoint bounded.
pub(super) const MAX_LANES: usize = crate::lane::MAX_LANES as usize;

/// Frontiers that cannot be inherited from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadInheritance {
    /// A lane has not come as far as the lanes from which it inherits itself.
    #[error(
        "lane {lane} still leaves out what the lanes before it had sent: divide again once it has \
             read the outbox to its end"
    )]
    StillInheriting {
        /// Which of those given, from 0.
        lane: usize,
    },
    /// The lanes were not adopted together.
    #[error("lane {lane} was adopted in another cluster than lane 0: adopt all lanes together")]
    Apart {
        /// Which of those given, from 0.
        lane: usize,
    },
    /// None at all, or too many.
    #[error("there are {found} lanes to inherit from, and there have to be 1 to {MAX_LANES}")]
    Count {
        /// How many were given.
        found: usize,
    },
}

impl Frontier {
    /// Where a new lane begins. `old[i]` is the frontier of the old lane i, to which the rows with
    /// `hash % old.len() == i` belonged. All new lanes begin with the same value.
    ///
    /// The old lanes may be anywhere, also catching up or adopting; nobody may move them on after
    /// this. The new frontier is below what most of them had reached: it does not fall from there.
    ///
    /// # Errors
    /// [`BadInheritance`] if there are none or too many, if they were not adopted together, or if
    /// one still inherits (unless all are equal: then nothing was read since the last division).
    pub fn inherit(old: &[Self]) -> Result<Self, BadInheritance> {
        if !(1..=MAX_LANES).contains(&old.len()) {
            return Err(BadInheritance::Count { found: old.len() });
        }
        // The same is sent in each, so it does not matter which of them had a row.
        if old.iter().all(|lane| *lane == old[0]) {
            return Ok(old[0].clone());
        }
        if let Some(lane) = old.iter().position(Self::inheriting) {
            return Err(BadInheritance::StillInheriting { lane });
        }
        let floor = |lane: &Self| lane.adopting.unwrap_or(lane.reach.floor);
        if let Some(lane) = old.iter().position(|lane| floor(lane) != floor(&old[0])) {
            return Err(BadInheritance::Apart { lane });
        }
        let reaches = || old.iter().map(|lane| &lane.reach);
        let begun = Self {
            reach: Reach::meet(reaches()),
            adopting: old.iter().find_map(|lane| lane.adopting),
            inherited: reaches().cloned().collect(),
        };
        Ok(begun.disinherit())
    }

    /// Whether it still leaves out what other lanes had sent before it. Until that has ended, the
    /// lane cannot be divided again.
    pub const fn inheriting(&self) -> bool {
        !self.inherited.is_empty()
    }

    /// Forgets the old lanes once everything that they had sent is sent here.
    pub(super) fn disinherit(mut self) -> Self {
        if self.inherited.iter().all(|old| self.reach.covers(old)) {
            self.inherited = Vec::new();
        }
        self
    }

    /// Whether the old lane of a row had sent it.
    pub(super) fn inherited(&self, seq: u64, xid: u64, hash: u64) -> bool {
        let lanes = u64::try_from(self.inherited.len()).unwrap_or(u64::MAX);
        let lane = hash.checked_rem(lanes).and_then(|lane| usize::try_from(lane).ok());
        lane.is_some_and(|lane| self.inherited[lane].has_sent(seq, xid))
    }
}
