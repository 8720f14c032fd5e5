//! What one statement asks for, as data that a backend turns into a query.

use super::Snapshot;

/// What to read next, whatever lane the rows belong to: late rows first, then new ones, in one
/// statement under one limit, each list in the order of its numbers. Late rows have lower numbers
/// than new ones, so this is `where … late … or … new … order by seq limit n`. At least one of the
/// two is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Rows that became visible after the reader had passed their numbers.
    pub late: Option<LateRows<'a>>,
    /// Rows that the reader has not come to; none while late rows are being caught up with.
    pub new: Option<NewRows>,
}

/// Rows with `after < seq <= through` that `unseen_by` does not see. In SQL, with p for that
/// snapshot: `xid = any(p.in_progress) or xid >= p.xmax`. `after` is never below the floor of an
/// adoption, so that ids of another cluster are compared with snapshots of that cluster only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateRows<'a> {
    /// Only above this number.
    pub after: u64,
    /// Only up to this number.
    pub through: u64,
    /// Only those that this does not see.
    pub unseen_by: &'a Snapshot,
    /// Only those that this sees, and the statement must leave out the others itself, before its
    /// limit is applied. `None`: all that the statement's own snapshot sees.
    pub seen_by: Option<&'a Snapshot>,
}

/// Rows with `seq > after`, all that the statement's own snapshot sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRows {
    /// Only above this number.
    pub after: u64,
    /// Only up to this number (which may be `after`), while an adoption is not finished; the
    /// statement must leave out the others itself, before its limit is applied.
    pub through: Option<u64>,
}

impl LateRows<'_> {
    /// Whether a row is among them.
    pub fn wants(&self, seq: u64, xid: u64) -> bool {
        self.after < seq
            && seq <= self.through
            && !self.unseen_by.sees(xid)
            && self.seen_by.is_none_or(|snapshot| snapshot.sees(xid))
    }
}

impl NewRows {
    /// Whether a row is among them.
    pub fn wants(&self, seq: u64) -> bool {
        seq > self.after && self.through.is_none_or(|through| seq <= through)
    }
}

impl Plan<'_> {
    /// Whether a row that the statement sees is asked for at all.
    pub fn wants(&self, seq: u64, xid: u64) -> bool {
        self.late.is_some_and(|late| late.wants(seq, xid))
            || self.new.is_some_and(|new| new.wants(seq))
    }
}
