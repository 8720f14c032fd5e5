//! The side table of one destination: what could not be sent at once, and when it may be.
//!
//! Rows that failed, that are parked and those behind them block their key; rows that are not yet
//! due, or that nobody is bound to, do not. Invariant after [`SideTable::normalise`]: no key's first
//! blocking row is `Behind`.

use std::collections::{BTreeMap, BTreeSet};

use posthaste_core::{Lane, Timestamp};

use super::state::History;

/// Topic and key. Without a key there is no line.
pub(super) type Address = (String, Option<String>);

/// Where an entry belongs: into which line, which route and which lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) kind: String,
    /// Decides about the lane; the same for all entries of a key.
    pub(super) hash: u64,
}

impl Place {
    /// The lane where there are `of`.
    pub(super) fn lane(&self, of: u16) -> u16 {
        let lane = self.hash.checked_rem(u64::from(of)).unwrap_or(0);
        u16::try_from(lane).unwrap_or(0)
    }

    pub(super) fn is_in(&self, lane: &Lane) -> bool {
        self.lane(lane.of) == lane.index
    }
}

/// Why an entry waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Its time has not come.
    Due { at: Timestamp },
    /// It failed, or heads its line, and is tried at this time.
    Retry { at: Timestamp },
    /// It waits behind another entry of its key.
    Behind,
    /// Nobody is bound to its topic and kind. The first of these is tried at this time.
    Unroutable { at: Option<Timestamp> },
    /// It is a dead letter, and its key waits with it.
    Parked,
}

/// An entry that waits.
#[derive(Clone, Debug)]
pub(super) struct SideRow {
    pub(super) place: Place,
    pub(super) held: Held,
    pub(super) attempts: u32,
    /// What was said last.
    pub(super) detail: Option<String>,
    pub(super) history: History,
}

impl SideRow {
    fn blocks(&self) -> bool {
        self.place.address.1.is_some()
            && !matches!(self.held, Held::Due { .. } | Held::Unroutable { .. })
    }
}

/// An entry that may be sent now.
pub(super) struct Found {
    pub(super) seq: u64,
    pub(super) attempts: u32,
    pub(super) blocked: bool,
    pub(super) unroutable: bool,
}

/// Entries that wait, by their numbers.
#[derive(Debug, Default)]
pub(super) struct SideTable {
    pub(super) rows: BTreeMap<u64, SideRow>,
}

impl SideTable {
    /// Whether a new entry with this address has to wait.
    pub(super) fn blocks(&self, address: &Address) -> bool {
        self.rows.values().any(|row| row.blocks() && row.place.address == *address)
    }

    /// Files or changes a row; what is known of its attempts is kept.
    pub(super) fn hold(&mut self, seq: u64, place: Place, held: Held) -> &mut SideRow {
        let history = History::default();
        let row = SideRow { place, held, attempts: 0, detail: None, history };
        let row = self.rows.entry(seq).or_insert(row);
        row.held = held;
        row
    }

    /// Sees to it that the line of this address has a head: the rows before the first one that
    /// failed or is parked have nothing to wait for.
    pub(super) fn normalise(&mut self, address: &Address, now: Timestamp) {
        let line =
            self.rows.values_mut().filter(|row| row.blocks() && row.place.address == *address);
        for row in line.take_while(|row| row.held == Held::Behind) {
            row.held = Held::Retry { at: now };
        }
    }

    /// What may be sent now in a lane, in the order of the numbers.
    pub(super) fn ready(&self, lane: &Lane, now: Timestamp) -> Vec<Found> {
        let mut found = Vec::new();
        let mut waiting: BTreeSet<&Address> = BTreeSet::new();
        for (&seq, row) in self.in_lane(lane) {
            let SideRow { place, held, attempts, .. } = row;
            let ready = match *held {
                Held::Due { at } => at <= now,
                Held::Unroutable { at } => at.is_some_and(|at| at <= now),
                Held::Retry { at } => at <= now && !waiting.contains(&place.address),
                Held::Behind | Held::Parked => false,
            };
            if ready {
                let in_line = matches!(held, Held::Retry { .. });
                let blocked = !in_line && self.blocks(&place.address);
                let unroutable = !matches!(held, Held::Unroutable { .. })
                    && self.is_behind_its_route(seq, place, lane.of);
                found.push(Found { seq, attempts: *attempts, blocked, unroutable });
            } else if row.blocks() {
                waiting.insert(&place.address);
            }
        }
        found
    }

    /// When the next row of a lane that is not ready may be, if only time is in its way.
    pub(super) fn next_at(&self, lane: &Lane, now: Timestamp) -> Option<Timestamp> {
        let mut waiting: BTreeSet<&Address> = BTreeSet::new();
        let mut next = None;
        for (_, row) in self.in_lane(lane) {
            let address = &row.place.address;
            let at = match row.held {
                Held::Due { at } => Some(at),
                Held::Unroutable { at } => at,
                Held::Retry { at } if !waiting.contains(address) => Some(at),
                _ => None,
            };
            if let Some(at) = at.filter(|at| *at > now) {
                next = Some(next.map_or(at, |other: Timestamp| other.min(at)));
            }
            if row.blocks() && !matches!(row.held, Held::Retry { at } if at <= now) {
                waiting.insert(address);
            }
        }
        next
    }

    fn in_lane(&self, lane: &Lane) -> impl Iterator<Item = (&u64, &SideRow)> {
        self.rows.iter().filter(move |(_, row)| row.place.is_in(lane))
    }

    /// Keys that wait behind a dead letter.
    pub(super) fn parked_keys(&self) -> usize {
        let parked = self.rows.values().filter(|row| row.held == Held::Parked);
        parked.map(|row| &row.place.address).collect::<BTreeSet<_>>().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1000);
    const LATER: Timestamp = Timestamp::from_millis(2000);

    fn table(rows: &[(u64, &str, Held)]) -> SideTable {
        let mut table = SideTable::default();
        for (seq, key, held) in rows {
            let address = ("t".into(), Some((*key).into()));
            table.hold(*seq, Place { address, ..Place::default() }, *held);
        }
        table
    }

    fn ready(table: &SideTable) -> Vec<(u64, bool)> {
        table.ready(&Lane::whole("x"), NOW).iter().map(|found| (found.seq, found.blocked)).collect()
    }

    #[test]
    fn a_line_gets_a_head_up_to_its_first_failure() {
        let later = Held::Retry { at: LATER };
        let rows = [(1, "a", Held::Behind), (2, "a", Held::Behind), (3, "a", later)];
        let mut table = table(&[rows[0], rows[1], rows[2], (4, "a", Held::Behind)]);
        assert_eq!(ready(&table), []);
        table.normalise(&("t".into(), Some("a".into())), NOW);
        assert_eq!(ready(&table), [(1, false), (2, false)]);
    }

    #[test]
    fn nothing_overtakes_and_a_due_row_says_that_its_key_waits() {
        let (now, later) = (Held::Retry { at: NOW }, Held::Retry { at: LATER });
        let due = Held::Due { at: NOW };
        let table = table(&[(1, "a", later), (2, "a", now), (3, "a", due), (4, "b", due)]);
        assert_eq!(ready(&table), [(3, true), (4, false)]);
        assert_eq!(table.next_at(&Lane::whole("x"), NOW), Some(LATER));
    }

    #[test]
    fn a_parked_key_waits_for_no_time() {
        let table = table(&[(1, "a", Held::Parked), (2, "a", Held::Retry { at: LATER })]);
        assert_eq!((ready(&table), table.next_at(&Lane::whole("x"), NOW)), (vec![], None));
        assert_eq!(table.parked_keys(), 1);
    }
}
