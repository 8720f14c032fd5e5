//! From what a statement found to what is sent and where the frontier is then.
//!
//! The rule checks what it is given: rows that do not fit the plan would lose or double messages,
//! so they are an error and nothing moves.

use super::{CatchUp, Frontier, Reach, Snapshot};
use crate::outbox::ReadLimit;

/// A row as a statement found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// Its number; above 0.
    pub seq: u64,
    /// The transaction that stated it; 0 in a database with one writer.
    pub xid: u64,
    /// What decides about its lane: of n lanes it belongs to `hash % n`. It has to be the same
    /// whenever the row is read, and for all rows of a key; 0 where there are no lanes.
    pub hash: u64,
    /// What it counts against the limit, in bytes.
    pub bytes: usize,
    /// The rest of it.
    pub body: T,
}

/// One reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<T> {
    /// What is to be sent, in this order. Rows that were sent before (by the lanes from which this
    /// one inherits, or before an adoption) are left out; rows of other lanes are not: which of
    /// these belong to the reader's lane it must see itself.
    pub rows: Vec<Row<T>>,
    /// The frontier once all of these have a verdict.
    pub next: Frontier,
    /// Whether it is worth reading on from `next` at once. If there is nothing to send either, do
    /// so within the same call. Where nothing is left out that happens at most once in a row;
    /// otherwise as often as there are rows of others to be read past, each time further on.
    ///
    /// Such a `next` is worth storing although nothing was sent: a restart reads past the same rows
    /// again, and a division waits for the end of an inheritance in what is stored.
    pub more: bool,
}

/// What was found is not what the plan asked for: a mistake in a backend. Nothing was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misread {
    /// The plan did not ask for this row, or it stands behind one with the same or a higher number.
    #[error("the outbox was read wrongly: row {seq} of transaction {xid} is out of place")]
    OutOfPlace {
        /// Its number.
        seq: u64,
        /// Its transaction.
        xid: u64,
    },
    /// The snapshot does not see this row, so it is not the one of the statement that found it.
    #[error(
        "the outbox was read under another snapshot than the one given: row {seq} of \
             transaction {xid} is not in it"
    )]
    Unseen {
        /// Its number.
        seq: u64,
        /// Its transaction.
        xid: u64,
    },
    /// More rows than the limit allows.
    #[error("the outbox was read past the limit: {found} rows for a limit of {limit}")]
    PastLimit {
        /// Rows found.
        found: usize,
        /// Rows allowed.
        limit: usize,
    },
}

impl Frontier {
    /// Takes what the statement of [`Frontier::plan`] found: up to `limit.messages` rows (a limit of
    /// 0 counts as 1), and the snapshot of that statement. Late rows have lower numbers than new
    /// ones, so "late first, each list in order" is the order of the numbers.
    ///
    /// Fewer rows than the limit mean that there are no more. Of the rows found, as many are taken
    /// as `limit.bytes` allows, but at least one; the next reading finds the others again. While
    /// adopting, the snapshot does not count.
    ///
    /// # Errors
    /// [`Misread`] if the rows do not fit the plan, the snapshot or the limit.
    pub fn advance<T>(
        &self,
        snapshot: &Snapshot,
        mut rows: Vec<Row<T>>,
        limit: ReadLimit,
    ) -> Result<Step<T>, Misread> {
        let most = limit.messages.max(1);
        self.verify(snapshot, &rows, most)?;
        let found = rows.len();
        let late = rows.partition_point(|row| row.seq <= self.through());
        let taken = within(&rows, limit.bytes);
        rows.truncate(taken);
        let last = rows.last().map_or(0, |row| row.seq);
        let all = taken == found && found < most;

        // The late rows are known to be at an end if the statement went on to new ones, if it
        // stopped by itself, or if they reach up to the frontier.
        let late_finished =
            taken >= late && (found > late || found < most || last >= self.through());
        let next = match self.adopting {
            Some(floor) => self.adopted(floor, last, all),
            None if late_finished => self.arrived(snapshot, last, all),
            None => self.cut(snapshot, last),
        };
        let next = next.disinherit();
        assert!(next.through() >= self.through(), "a frontier never falls");
        // What was not asked for this time may be there: other late rows, or those above a floor.
        let narrow = self.catching_up().is_some() || self.adopting.is_some();
        rows.retain(|row| !self.has_sent(row.seq, row.xid, row.hash));
        Ok(Step { rows, next, more: !all || narrow })
    }

    /// The late rows are sent, and the new ones up to `last`; `all` says whether none is left.
    fn arrived(&self, snapshot: &Snapshot, last: u64, all: bool) -> Self {
        let mut through = last.max(self.through());
        // What the old lanes had reached may be gone from the table. This lane has seen that there
        // is nothing up to there, and what is still to come is not seen by the snapshot.
        if all && self.catching_up().is_none() {
            through = through.max(self.highest());
        }
        let seen = self.catching_up().map_or(snapshot, CatchUp::snapshot).clone();
        let reach = Reach { floor: self.floor(), through, seen, catching_up: None };
        Self { reach, adopting: None, inherited: self.inherited.clone() }
    }

    /// Of the late rows, those up to `last` are sent.
    fn cut(&self, snapshot: &Snapshot, last: u64) -> Self {
        let snapshot = self.catching_up().map_or(snapshot, CatchUp::snapshot).clone();
        let catching_up = Some(CatchUp { through: last, snapshot });
        let reach = Reach { catching_up, ..self.reach.clone() };
        Self { reach, adopting: None, inherited: self.inherited.clone() }
    }

    fn verify<T>(&self, snapshot: &Snapshot, rows: &[Row<T>], most: usize) -> Result<(), Misread> {
        if rows.len() > most {
            return Err(Misread::PastLimit { found: rows.len(), limit: most });
        }
        let plan = self.plan();
        let mut last = 0;
        for &Row { seq, xid, .. } in rows {
            if seq <= last || !plan.wants(seq, xid) {
                return Err(Misread::OutOfPlace { seq, xid });
            }
            if self.adopting.is_none() && !snapshot.sees(xid) {
                return Err(Misread::Unseen { seq, xid });
            }
            last = seq;
        }
        Ok(())
    }
}

/// How many of the rows fit into `bytes`: those whose predecessors leave room, at least one.
fn within<T>(rows: &[Row<T>], bytes: usize) -> usize {
    let mut used: usize = 0;
    let fit = rows.iter().take_while(|row| {
        let room = used == 0 || used < bytes;
        used = used.saturating_add(row.bytes.max(1));
        room
    });
    fit.count()
}
