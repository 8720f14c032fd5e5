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
//! Everything is in the [`Frontier`], and the frontier is its printed form ([`Checkpoint`]): a
//! reader that dies at any step goes on as if it had just read that.

mod plan;
mod snapshot;
mod step;
#[cfg(test)]
mod tests;
mod token;

use crate::Checkpoint;

pub use plan::{LateRows, NewRows, Plan};
pub use snapshot::{BadSnapshot, Snapshot};
pub use step::{Misread, Row, Step};
pub use token::BadCheckpoint;

/// How far a reader has come. See the [module](self) for the invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontier {
    through: u64,
    seen: Snapshot,
    catching_up: Option<CatchUp>,
}

/// Late rows that a limit has cut: how far they have been read, and against which snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUp {
    through: u64,
    snapshot: Snapshot,
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

impl Frontier {
    /// Before the first row.
    pub const fn start() -> Self {
        Self::one_writer(0)
    }

    /// The frontier of a database with one writer, where everything up to `through` is sent.
    pub const fn one_writer(through: u64) -> Self {
        Self { through, seen: Snapshot::BEGINNING, catching_up: None }
    }

    /// F: the highest number that was read.
    pub const fn through(&self) -> u64 {
        self.through
    }

    /// P: of the rows up to [`Frontier::through`], those that this sees are sent.
    pub const fn seen(&self) -> &Snapshot {
        &self.seen
    }

    /// What is left of the late rows of an earlier reading.
    pub const fn catching_up(&self) -> Option<&CatchUp> {
        self.catching_up.as_ref()
    }

    /// Whether a row was sent according to this frontier. It says nothing of rows that were never
    /// committed.
    pub fn has_sent(&self, seq: u64, xid: u64) -> bool {
        let caught_up =
            |late: &CatchUp| seq <= late.through && late.snapshot.sees(xid) && seq <= self.through;
        (seq <= self.through && self.seen.sees(xid))
            || self.catching_up.as_ref().is_some_and(caught_up)
    }

    /// What the next statement has to ask for.
    pub fn plan(&self) -> Plan<'_> {
        let after = self.catching_up.as_ref().map_or(0, CatchUp::through);
        let late = (after < self.through).then_some(LateRows {
            after,
            through: self.through,
            unseen_by: &self.seen,
            seen_by: self.catching_up.as_ref().map(CatchUp::snapshot),
        });
        let new = self.catching_up.is_none().then_some(NewRows { after: self.through });
        Plan { late, new }
    }

    /// The printed form, of bounded length: at most two snapshots.
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
