//! How an outbox table is read exactly: every committed row once, whatever commits late.
//!
//! A row takes its number (`seq`) when it is stated and becomes visible when its transaction
//! commits, so that a reader that only remembers the last number skips what commits late. This
//! rule remembers two things, the frontier **F** and the snapshot **P**, and keeps one invariant:
//!
//! > Sent are exactly the rows with `seq <= F` that P sees.
//!
//! A reading takes one snapshot S and asks, in one statement and under one limit, first for the
//! late rows (`seq <= F`, not seen by P), then for the new ones (`seq > F`), each in the order of
//! their numbers. Once all of these are settled, P is S and F is the last new number. If the limit
//! cuts the late rows, no new one is taken, and the rest is finished against the same S before any
//! other snapshot counts: sent are then also the rows up to [`CatchUp::through`] that S sees. That
//! works in a later statement, because a transaction that S sees had ended when S was taken: what
//! a later statement finds of it is what S showed.
//!
//! Why the order of a key holds: if one row was visible before another was stated, its number is
//! lower (given a sequence that hands out numbers one at a time) and every snapshot that sees the
//! other sees it too. So it was sent before, or it is late and goes first, or both are in the same
//! list in the order of their numbers.
//!
//! After a crash of the database a snapshot may be lower than an earlier one, because transaction
//! ids that left no trace are given out again. The rule does not mind: whatever is stated after
//! the crash has a number above F, and numbers above F are compared with no older snapshot.
//!
//! A database with one writer commits in the order of its numbers and needs F alone. That is the
//! same rule where every row has the transaction id 0 and every snapshot is
//! [`Snapshot::BEGINNING`]: no row is ever late.
//!
//! In another cluster transaction ids mean something else, so that a copy of a database has to be
//! adopted ([`Frontier::adopt`]): what was in it by then is read without regard to snapshots, and
//! lies below a **floor** afterwards. Where the rows of a table are divided among lanes, each lane
//! has its own frontier over all rows; when they are divided anew, a new lane inherits what the old
//! ones had sent ([`Frontier::inherit`]).
//!
//! Everything is in the [`Frontier`], and the frontier is its printed form ([`Checkpoint`]): a
//! reader that dies at any step goes on as if it had just read that.

mod adoption;
mod inheritance;
mod plan;
mod reach;
mod snapshot;
mod step;
#[cfg(test)]
mod tests;
mod token;

use crate::Checkpoint;

pub use inheritance::BadInheritance;
pub use plan::{LateRows, NewRows, Plan};
pub use reach::CatchUp;
use reach::Reach;
pub use snapshot::{BadSnapshot, Snapshot};
pub use step::{Misread, Row, Step};
pub use token::BadCheckpoint;

/// How far a reader has come. See the [module](self) for the invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontier {
    reach: Reach,
    /// The floor of an adoption that is not finished; above that of the reach, not below the rest.
    adopting: Option<u64>,
    /// What the lanes before this one had sent, by their number; empty once that is covered.
    inherited: Vec<Reach>,
}

impl Frontier {
    /// Before the first row.
    pub const fn start() -> Self {
        Self::one_writer(0)
    }

    /// The frontier of a database with one writer, where everything up to `through` is sent.
    pub const fn one_writer(through: u64) -> Self {
        let seen = Snapshot::BEGINNING;
        let reach = Reach { floor: 0, through, seen, catching_up: None };
        Self { reach, adopting: None, inherited: Vec::new() }
    }

    /// F: the highest number that was read.
    pub const fn through(&self) -> u64 {
        self.reach.through
    }

    /// P: of the rows above [`Frontier::floor`] and up to [`Frontier::through`], those that this
    /// sees are sent.
    pub const fn seen(&self) -> &Snapshot {
        &self.reach.seen
    }

    /// What is left of the late rows of an earlier reading.
    pub const fn catching_up(&self) -> Option<&CatchUp> {
        self.reach.catching_up.as_ref()
    }

    /// Whether a row was sent according to this frontier, if it is one of the reader's lane. It
    /// says nothing of rows that were never committed.
    pub fn has_sent(&self, seq: u64, xid: u64, hash: u64) -> bool {
        self.reach.has_sent(seq, xid) || self.inherited(seq, xid, hash)
    }

    /// What the next statement has to ask for.
    pub fn plan(&self) -> Plan<'_> {
        let Reach { floor, through, ref seen, ref catching_up } = self.reach;
        // While adopting, what was caught up with before is asked for again and left out: it is
        // little, and the floor then says how far the late rows are read.
        let cut = catching_up.as_ref().filter(|_| self.adopting.is_none());
        let after = cut.map_or(floor, CatchUp::through);
        let late = (after < through).then_some(LateRows {
            after,
            through,
            unseen_by: seen,
            seen_by: cut.map(CatchUp::snapshot),
        });
        let new = cut.is_none().then_some(NewRows { after: through, through: self.adopting });
        Plan { late, new }
    }

    /// The printed form, of bounded length: at most two snapshots, and two for every lane from
    /// which it inherits.
    pub fn checkpoint(&self) -> Checkpoint {
        token::print(self)
    }

    /// Reads the printed form.
    ///
    /// # Errors
    /// [`BadCheckpoint`] if it was not printed by this rule or by a newer version of it.
    pub fn parse(checkpoint: &Checkpoint) -> Result<Self, BadCheckpoint> {
        token::parse(checkpoint)
    }
}
