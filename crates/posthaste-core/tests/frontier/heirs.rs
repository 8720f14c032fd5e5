//! The rule in other clusters and lanes once more, and what becomes of it if one thought is left
//! out.

use std::fmt::Debug;
use std::marker::PhantomData;

use posthaste_core::frontier::Snapshot;

use crate::model::{Act, Database, Stored};
use crate::rule::{Reading, Rule};

/// A thought that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slip {
    /// None: what the others break is due to what they leave out.
    Nothing,
    /// Late rows are looked for below the floor as well.
    FloorIgnored,
    /// While adopting, new rows are read without an end, and the floor is where that ended.
    NewWithoutEnd,
    /// While adopting, the snapshot of the new cluster decides what is visible.
    SnapshotAsked,
    /// While adopting, what an earlier reading had caught up with is sent again.
    CatchingUpForgotten,
    /// A second adoption begins from the start of what the first one was reading.
    AdoptionBegunAgain,
    /// An adoption goes on with the own frontier alone.
    AdoptedWithoutOldLanes,
    /// The old lanes are not asked.
    OldLanesIgnored,
    /// The old lanes are forgotten once their numbers are reached, whatever they saw.
    DroppedAtNumber,
    /// The old lanes are forgotten once all that they saw is seen, whatever their numbers.
    DroppedAtSnapshot,
    /// A new lane begins at the highest number of the old ones.
    HighestNumber,
    /// A new lane begins with the snapshot of one of the old ones.
    OneSnapshot,
    /// The old lane of a row is told by the number of lanes that there are now.
    CountOfNow,
}

/// A slip as a type.
pub(crate) trait Slips {
    const SLIP: Slip;
}

macro_rules! slips {
    ($($name:ident)*) => {$(
        pub(crate) struct $name;

        impl Slips for $name {
            const SLIP: Slip = Slip::$name;
        }
    )*};
}

slips! {
    Nothing FloorIgnored NewWithoutEnd SnapshotAsked CatchingUpForgotten AdoptionBegunAgain
    AdoptedWithoutOldLanes OldLanesIgnored DroppedAtNumber DroppedAtSnapshot HighestNumber
    OneSnapshot CountOfNow
}

/// What has been sent, and what the lanes before had sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Memory {
    floor: u64,
    through: u64,
    seen: Snapshot,
    late: Option<(u64, Snapshot)>,
    adopting: Option<u64>,
    old: Vec<Memory>,
    lanes: usize,
}

impl Memory {
    fn level(&self, floor: u64) -> Self {
        let old = self.old.clone();
        let (seen, late, adopting) = (Snapshot::BEGINNING, None, None);
        Self { floor, through: floor, seen, late, adopting, old, lanes: self.lanes }
    }

    fn has_sent(&self, row: &Stored) -> bool {
        row.seq <= self.floor
            || (row.seq <= self.through && self.seen.sees(row.xid))
            || self.late.as_ref().is_some_and(|(last, s)| row.seq <= *last && s.sees(row.xid))
    }

    fn leaves_out(&self, slip: Slip, row: &Stored) -> bool {
        if self.adopting.is_some() && slip != Slip::CatchingUpForgotten && self.has_sent(row) {
            return true;
        }
        if self.old.is_empty() || slip == Slip::OldLanesIgnored {
            return false;
        }
        let hash = usize::try_from(row.hash()).expect("a small number");
        let lane = match slip {
            Slip::CountOfNow => hash % self.lanes % self.old.len(),
            _ => hash % self.old.len(),
        };
        self.old[lane].has_sent(row)
    }

    fn passed(&self, slip: Slip, old: &Self) -> bool {
        let unseen = |xid: &u64| old.seen.sees(*xid) || old.caught_up_with(*xid);
        let seen = self.seen.xmax() >= old.xmax() && !self.seen.in_progress().iter().any(unseen);
        let reached = self.through >= old.through && self.floor >= old.floor;
        self.floor >= old.through
            || match slip {
                Slip::DroppedAtNumber => reached,
                Slip::DroppedAtSnapshot => seen && self.floor >= old.floor,
                _ => reached && seen,
            }
    }

    fn xmax(&self) -> u64 {
        self.seen.xmax().max(self.late.as_ref().map_or(0, |(_, snapshot)| snapshot.xmax()))
    }

    fn caught_up_with(&self, xid: u64) -> bool {
        self.late.as_ref().is_some_and(|(_, snapshot)| snapshot.sees(xid))
    }

    fn forget(mut self, slip: Slip) -> Self {
        if self.old.iter().all(|old| self.passed(slip, old)) {
            self.old = Vec::new();
        }
        self
    }
}

fn select(database: &Database, limit: usize, wanted: impl Fn(&Stored) -> bool) -> Vec<&Stored> {
    database.table().values().filter(|row| wanted(row)).take(limit).collect()
}

/// Rows up to the end of the adoption, and what is known then.
fn read_adopting<'a>(
    slip: Slip,
    from: &Memory,
    end: u64,
    database: &'a Database,
    limit: usize,
) -> (Vec<&'a Stored>, Memory) {
    let now = database.snapshot();
    let rows = select(database, limit, |row| {
        let late = row.seq <= from.through && !from.seen.sees(row.xid);
        let new = from.through < row.seq && (row.seq <= end || slip == Slip::NewWithoutEnd);
        let visible = slip != Slip::SnapshotAsked || now.sees(row.xid);
        from.floor < row.seq && (late || new) && visible
    });
    let last = rows.last().map_or(0, |row| row.seq);
    let next = if rows.len() < limit || last >= end {
        from.level(end.max(last))
    } else {
        let known = from.through > last;
        let late = from.late.clone().filter(|_| known);
        Memory { floor: last, through: from.through.max(last), late, ..from.clone() }
    };
    (rows, next)
}

/// Late rows, then new ones, and what is known then.
fn read_on<'a>(
    slip: Slip,
    from: &Memory,
    database: &'a Database,
    limit: usize,
) -> (Vec<&'a Stored>, Memory) {
    let floor = if slip == Slip::FloorIgnored { 0 } else { from.floor };
    let (after, target) = from.late.clone().unwrap_or_else(|| (floor, database.snapshot()));
    let mut rows = select(database, limit, |row| {
        after < row.seq
            && row.seq <= from.through
            && !from.seen.sees(row.xid)
            && target.sees(row.xid)
    });
    if rows.len() == limit {
        let late = Some((rows[limit - 1].seq, target));
        return (rows, Memory { late, ..from.clone() });
    }
    if from.late.is_none() {
        rows.extend(select(database, limit - rows.len(), |row| row.seq > from.through));
    }
    let through = rows.last().map_or(0, |row| row.seq).max(from.through);
    (rows, Memory { through, seen: target, late: None, ..from.clone() })
}

fn meet(a: &Snapshot, b: &Snapshot) -> Snapshot {
    let xmax = a.xmax().min(b.xmax());
    let unseen = (1..xmax).filter(|xid| !a.sees(*xid) || !b.sees(*xid)).collect();
    Snapshot::new(1, xmax, unseen).expect("a snapshot")
}

/// The rule with a slip.
pub(crate) struct Heir<S>(PhantomData<S>);

impl<S: Slips> Rule for Heir<S> {
    type State = Memory;

    fn start() -> Memory {
        let (seen, late, adopting) = (Snapshot::BEGINNING, None, None);
        Memory { floor: 0, through: 0, seen, late, adopting, old: Vec::new(), lanes: 1 }
    }

    fn read(
        from: &Memory,
        database: &mut Database,
        limit: usize,
        _meanwhile: &[Act],
    ) -> Reading<Memory> {
        let (rows, next) = match from.adopting {
            Some(end) => read_adopting(S::SLIP, from, end, database, limit),
            None => read_on(S::SLIP, from, database, limit),
        };
        let more = rows.len() == limit || from.adopting.is_some() || from.late.is_some();
        let sent = rows.into_iter().filter(|row| !from.leaves_out(S::SLIP, row));
        let rows = sent.map(|row| row.seq).collect();
        Reading { rows, next: next.forget(S::SLIP), more }
    }

    fn frontier(state: &Memory) -> u64 {
        state.through
    }

    fn adopt(state: Memory, floor: u64) -> Memory {
        let again = state.adopting.is_some() && S::SLIP == Slip::AdoptionBegunAgain;
        let state = Memory { floor: if again { 0 } else { state.floor }, ..state };
        let old = match S::SLIP {
            Slip::AdoptedWithoutOldLanes => Vec::new(),
            _ => state.old,
        };
        let adopting = (state.floor < floor).then_some(floor);
        Memory { adopting, old, ..state }
    }

    fn inherit(old: &[Memory], lanes: usize) -> Option<Memory> {
        if old.iter().all(|lane| *lane == old[0]) {
            return Some(Memory { lanes, ..old[0].clone() });
        }
        if old.iter().any(|lane| !lane.old.is_empty()) {
            return None;
        }
        let throughs = old.iter().map(|lane| lane.through);
        let through = match S::SLIP {
            Slip::HighestNumber => throughs.max(),
            _ => throughs.min(),
        };
        let mut seen = old[0].seen.clone();
        if S::SLIP != Slip::OneSnapshot {
            seen = old.iter().fold(seen, |seen, lane| meet(&seen, &lane.seen));
        }
        let begun = Memory {
            floor: old.iter().map(|lane| lane.floor).min()?,
            through: through?,
            seen,
            late: None,
            adopting: old.iter().find_map(|lane| lane.adopting),
            old: old.to_vec(),
            lanes,
        };
        Some(begun.forget(S::SLIP))
    }
}
