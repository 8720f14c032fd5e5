//! Rules that look right and are not. Each is the rule with one thought left out.

use posthaste_core::frontier::Snapshot;

use crate::model::{Act, Database, Stored};
use crate::rule::{Reading, Rule};

/// What the mutants remember; each uses some of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Memory {
    through: u64,
    seen: Snapshot,
    late: Option<(u64, Snapshot)>,
}

const START: Memory = Memory { through: 0, seen: Snapshot::BEGINNING, late: None };

fn select(database: &Database, limit: usize, wanted: impl Fn(&Stored) -> bool) -> Vec<u64> {
    let rows = database.table().values().filter(|row| wanted(row));
    rows.take(limit).map(|row| row.seq).collect()
}

fn late(from: &Memory, database: &Database, limit: usize) -> Vec<u64> {
    select(database, limit, |row| row.seq <= from.through && !from.seen.sees(row.xid))
}

fn new(from: &Memory, database: &Database, limit: usize) -> Vec<u64> {
    select(database, limit, |row| row.seq > from.through)
}

/// A reading at rest: F is the highest number read, P is `seen`.
fn level(from: &Memory, rows: Vec<u64>, seen: Snapshot, limit: usize) -> Reading<Memory> {
    let through = rows.iter().copied().fold(from.through, u64::max);
    let more = rows.len() >= limit;
    Reading { rows, next: Memory { through, seen, late: None }, more }
}

/// Late rows first, with a stored cut, as the rule does it.
fn exact(from: &Memory, database: &Database, limit: usize) -> Reading<Memory> {
    let (after, target) = from.late.clone().unwrap_or_else(|| (0, database.snapshot()));
    let mut rows = select(database, limit, |row| {
        after < row.seq
            && row.seq <= from.through
            && !from.seen.sees(row.xid)
            && target.sees(row.xid)
    });
    if rows.len() == limit {
        let late = Some((rows[limit - 1], target));
        return Reading { rows, next: Memory { late, ..from.clone() }, more: true };
    }
    let catching_up = from.late.is_some();
    if !catching_up {
        rows.extend(new(from, database, limit - rows.len()));
    }
    let mut reading = level(from, rows, target, limit);
    reading.more |= catching_up;
    reading
}

macro_rules! mutant {
    ($(#[$doc:meta])* $name:ident, $read:expr $(, $item:item)*) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Rule for $name {
            type State = Memory;

            fn start() -> Memory {
                START
            }

            fn read(
                from: &Memory,
                database: &mut Database,
                limit: usize,
                meanwhile: &[Act],
            ) -> Reading<Memory> {
                let read: fn(&Memory, &mut Database, usize, &[Act]) -> Reading<Memory> = $read;
                read(from, database, limit, meanwhile)
            }

            fn frontier(state: &Memory) -> u64 {
                state.through
            }

            $($item)*
        }
    };
}

mutant!(
    /// F without P.
    IdCursor,
    |from, database, limit, _| {
        let rows = new(from, database, limit);
        level(from, rows, Snapshot::BEGINNING, limit)
    }
);

mutant!(
    /// F without P, and only rows of transactions older than every running one.
    IdCursorBelowXmin,
    |from, database, limit, _| {
        let xmin = database.snapshot().xmin();
        let rows = select(database, limit, |row| row.seq > from.through && row.xid < xmin);
        level(from, rows, Snapshot::BEGINNING, limit)
    }
);

mutant!(
    /// Rows in the order of their transactions, below the oldest running one. What it has read is
    /// told by a transaction id (kept as a snapshot) and, within that transaction, by a number.
    TransactionCursor,
    |from, database, limit, _| {
        let xmin = database.snapshot().xmin();
        let last = (from.seen.xmax(), from.late.as_ref().map_or(0, |(seq, _)| *seq));
        let visible = database.table().values().filter(|row| row.xid < xmin);
        let mut rows: Vec<_> = visible.map(|row| (row.xid, row.seq)).collect();
        rows.sort_unstable();
        rows.retain(|row| *row > last);
        rows.truncate(limit);
        let (xid, seq) = rows.last().copied().unwrap_or(last);
        let seen = Snapshot::new(xid, xid, Vec::new()).expect("a snapshot");
        let next = Memory { through: 0, late: Some((seq, seen.clone())), seen };
        let more = rows.len() == limit;
        Reading { rows: rows.into_iter().map(|(_, seq)| seq).collect(), next, more }
    }
);

mutant!(
    /// P without F.
    SnapshotAlone,
    |from, database, limit, _| {
        let rows = select(database, limit, |row| !from.seen.sees(row.xid));
        level(from, rows, database.snapshot(), limit)
    }
);

mutant!(
    /// Late rows and new rows each have a limit; P moves on.
    LateLimitOfItsOwn,
    |from, database, limit, _| {
        let mut rows = late(from, database, limit);
        rows.extend(new(from, database, limit));
        level(from, rows, database.snapshot(), limit)
    }
);

mutant!(
    /// New rows first; late ones behind them. If these do not fit, it does as the rule does.
    NewBeforeLate,
    |from, database, limit, _| {
        let mut rows = new(from, database, limit);
        let waiting = late(from, database, usize::MAX);
        if from.late.is_some() || rows.len() + waiting.len() > limit {
            return exact(from, database, limit);
        }
        rows.extend(waiting);
        level(from, rows, database.snapshot(), limit)
    }
);

mutant!(
    /// Two statements with a snapshot each; P becomes the second one.
    SecondSnapshotKept,
    |from, database, limit, meanwhile| {
        let mut rows = late(from, database, limit);
        if from.late.is_some() || rows.len() == limit {
            return exact(from, database, limit);
        }
        meanwhile.iter().for_each(|act| database.act(act));
        rows.extend(new(from, database, limit - rows.len()));
        level(from, rows, database.snapshot(), limit)
    }
);

mutant!(
    /// Two statements with a snapshot each; P becomes the first one.
    FirstSnapshotKept,
    |from, database, limit, meanwhile| {
        let mut rows = late(from, database, limit);
        if from.late.is_some() || rows.len() == limit {
            return exact(from, database, limit);
        }
        let seen = database.snapshot();
        meanwhile.iter().for_each(|act| database.act(act));
        rows.extend(new(from, database, limit - rows.len()));
        level(from, rows, seen, limit)
    }
);

mutant!(
    /// P moves on although the limit cut late rows.
    CutForgotten,
    |from, database, limit, _| {
        let mut rows = late(from, database, limit);
        rows.extend(new(from, database, limit - rows.len()));
        level(from, rows, database.snapshot(), limit)
    }
);

mutant!(
    /// Late rows that were cut are finished against whatever snapshot comes next.
    FinishedAgainstAnother,
    |from, database, limit, _| {
        let now = database.snapshot();
        let late = from.late.clone().map(|(after, _)| (after, now));
        exact(&Memory { late, ..from.clone() }, database, limit)
    }
);

mutant!(
    /// How far late rows were read is known only as long as the reader lives.
    CatchingUpNotStored,
    |from, database, limit, _| exact(from, database, limit),
    fn stored(state: &Memory) -> Memory {
        Memory { late: None, ..state.clone() }
    }
);

mutant!(
    /// F is the number of the last row sent, late or not.
    FrontierFollowsLastRow,
    |from, database, limit, _| {
        let mut reading = exact(from, database, limit);
        if let Some(last) = reading.rows.last() {
            reading.next.through = *last;
        }
        reading
    }
);

mutant!(
    /// The rule itself, as the mutants have it: what they break is due to what they leave out.
    Unchanged,
    |from, database, limit, _| exact(from, database, limit)
);
