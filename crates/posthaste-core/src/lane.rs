//! Lanes: the keys of a destination in equal shares, each relayed on its own.
//!
//! Every key falls into one lane, messages without a key by their ids. A lane has its own lease,
//! checkpoint and leader, so that several relays share the work. What is sent in a lane is
//! filtered, what is read past is not: every lane goes through the whole outbox.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::Serialize;

use crate::StoreError;
use crate::lease::Lease;

/// Most lanes of a destination.
pub const MAX_LANES: u16 = 64;

/// One share of a destination's keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// Which destination of the outbox.
    pub destination: String,
    /// Which share, counted from 0.
    pub index: u16,
    /// Of how many.
    pub of: u16,
}

impl Lane {
    /// All keys of a destination.
    pub fn whole(destination: impl Into<String>) -> Self {
        Self { destination: destination.into(), index: 0, of: 1 }
    }

    /// The lanes of a destination that is divided into `of`.
    pub fn all(destination: &str, of: u16) -> impl Iterator<Item = Self> + '_ {
        (0..of).map(move |index| Self { destination: destination.to_owned(), index, of })
    }

    /// The name of its lease; see [`lease::destination`](crate::lease::destination).
    pub fn lease_name(&self) -> String {
        format!("relay/{}/{}", self.destination, self.index)
    }
}

/// What one of several relays knows of the others when it decides which lanes to lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crew {
    /// Lanes of the destination.
    pub lanes: u16,
    /// Who holds a seat, by the number of the seat. There are as many seats as lanes: a relay
    /// without one only stands by.
    pub seats: BTreeMap<u16, String>,
    /// Who leads which lane.
    pub leaders: BTreeMap<u16, String>,
}

/// What a relay of several does next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Lanes to take up.
    pub begin: Vec<u16>,
    /// Lanes to hand over.
    pub end: Vec<u16>,
}

impl Crew {
    /// What `me` does, who is at work in `running` lanes (leading, or about to): it hands over what
    /// is above its share, and takes up free lanes up to it. The shares of all seats together are
    /// all lanes, so nobody waits for lanes that nobody takes.
    pub fn turn(&self, me: &str, running: &BTreeSet<u16>) -> Turn {
        let taken = |lane: &u16| self.leaders.get(lane).is_some_and(|leader| leader != me);
        let mut turn = Turn::default();
        let mut mine: BTreeSet<u16> = running.clone();
        mine.retain(|lane| *lane < self.lanes && !taken(lane));
        turn.end.extend(running.difference(&mine));
        let share = self.share(me);
        while mine.len() > share {
            turn.end.extend(mine.pop_last());
        }
        let free = (0..self.lanes).filter(|lane| !taken(lane) && !running.contains(lane));
        turn.begin.extend(free.take(share.saturating_sub(mine.len())));
        turn
    }

    /// How many lanes are for `me`.
    fn share(&self, me: &str) -> usize {
        let Some(rank) = self.seats.values().position(|holder| holder == me) else { return 0 };
        let lanes = usize::from(self.lanes);
        lanes / self.seats.len() + usize::from(rank < lanes % self.seats.len())
    }
}

/// Into how many lanes a destination is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Division {
    /// Lanes now; 1 until it was divided.
    pub now: u16,
    /// Lanes that were asked for. Where it differs, relays give their leases back, and one of them
    /// carries the change out.
    pub wanted: u16,
}

/// The lanes of the destinations of one database.
///
/// Laws (suite `lanes`):
/// 1. All messages of one key are read in the same lane, and every message in exactly one.
/// 2. A change of their number loses nothing, reorders no key and sends nothing again that was
///    settled, whatever was settled in each lane by then.
/// 3. A settlement in a lane of an earlier division is refused.
#[async_trait]
pub trait Lanes: Send + Sync {
    /// How the destination is divided.
    async fn division(&self, destination: &str) -> Result<Division, StoreError>;

    /// Asks for another number of lanes; the same number as now takes an earlier wish back.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] for 0, for more than [`MAX_LANES`], and by a database that has one
    /// lane only.
    async fn want_lanes(&self, destination: &str, lanes: u16) -> Result<(), StoreError>;

    /// Whether the present lanes have worked off what the last change left them, so that there can
    /// be another one. Relays lead their lanes until then: it takes all of them to get there.
    async fn can_divide(&self, destination: &str) -> Result<bool, StoreError>;

    /// Divides the destination as it was asked for, given the leases of all its present lanes.
    /// These are released by it. Nothing is done if the number is what was wanted already.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if one of the leases is missing or someone else's: nothing was
    /// changed. [`StoreError::Rejected`] if the last change is not worked off yet.
    async fn divide(&self, destination: &str, leases: &[Lease]) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crew(lanes: u16, seats: &[&str]) -> Crew {
        let numbered = (0..).zip(seats.iter().map(|name| (*name).to_owned()));
        Crew { lanes, seats: numbered.collect(), leaders: BTreeMap::new() }
    }

    #[test]
    fn shares_are_even_and_make_up_all_lanes() {
        for lanes in 1..=16 {
            for members in 1..=usize::from(lanes) {
                let names: Vec<String> = (0..members).map(|name| name.to_string()).collect();
                let crew = crew(lanes, &names.iter().map(String::as_str).collect::<Vec<_>>());
                let shares: Vec<usize> = names.iter().map(|name| crew.share(name)).collect();
                assert_eq!(shares.iter().sum::<usize>(), usize::from(lanes));
                let least = shares.iter().min().copied().unwrap_or(0);
                assert!(least > 0 && shares.iter().all(|share| *share <= least + 1), "{shares:?}");
            }
        }
    }

    #[test]
    fn whoever_joins_gets_lanes_and_whoever_leaves_is_replaced() {
        let mut crew = crew(4, &["a"]);
        let none = BTreeSet::new();
        assert_eq!(crew.turn("a", &none), Turn { begin: vec![0, 1, 2, 3], end: vec![] });
        let all: BTreeSet<u16> = (0..4).collect();
        crew.leaders = all.iter().map(|lane| (*lane, "a".to_owned())).collect();
        assert_eq!(crew.turn("a", &all), Turn::default());
        crew.seats.insert(1, "b".to_owned());
        assert_eq!(crew.turn("b", &none), Turn::default());
        assert_eq!(crew.turn("a", &all), Turn { begin: vec![], end: vec![3, 2] });
        crew.leaders.retain(|lane, _| *lane < 2);
        assert_eq!(crew.turn("b", &none), Turn { begin: vec![2, 3], end: vec![] });
        crew.leaders.extend([(2, "b".to_owned()), (3, "b".to_owned())]);
        crew.seats.remove(&0);
        crew.leaders.retain(|lane, _| *lane > 1);
        assert_eq!(crew.turn("b", &[2, 3].into()), Turn { begin: vec![0, 1], end: vec![] });
    }

    #[test]
    fn a_lane_that_another_took_is_let_go_and_without_a_seat_there_is_nothing_to_do() {
        let mut crew = crew(2, &["a", "b"]);
        crew.leaders.insert(0, "b".to_owned());
        assert_eq!(crew.turn("a", &[0].into()), Turn { begin: vec![1], end: vec![0] });
        assert_eq!(crew.turn("c", &BTreeSet::new()), Turn::default());
        assert_eq!(crew.turn("c", &[1].into()), Turn { begin: vec![], end: vec![1] });
    }

    #[test]
    fn a_crew_comes_to_rest_with_every_lane_led_once() {
        for lanes in 1..=9 {
            for members in 1..=4usize {
                let names = ["a", "b", "c", "d"];
                let mut crew = crew(lanes, &names[..members.min(usize::from(lanes))]);
                let mut running: Vec<BTreeSet<u16>> = vec![BTreeSet::new(); members];
                for round in 0..12 {
                    let me = round % members;
                    let turn = crew.turn(names[me], &running[me]);
                    for lane in turn.end {
                        running[me].remove(&lane);
                        crew.leaders.remove(&lane);
                    }
                    for lane in turn.begin {
                        running[me].insert(lane);
                        crew.leaders.insert(lane, names[me].to_owned());
                    }
                }
                assert_eq!(crew.leaders.len(), usize::from(lanes), "{members} members");
                assert_eq!(running.iter().map(BTreeSet::len).sum::<usize>(), usize::from(lanes));
            }
        }
    }
}
