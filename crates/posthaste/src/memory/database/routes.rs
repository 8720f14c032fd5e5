//! Routes of the side table: entries of one topic and kind that nobody is bound to.
//!
//! They are set aside in the order of their numbers. Invariant after
//! [`SideTable::normalise_route`]: only the first of a route has a time at which it is tried. That
//! time is [`OPEN`] while the route was found open and is worked off; then only entries whose key
//! is among those set aside have to join them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use posthaste_core::Timestamp;
use posthaste_core::database::UnroutableRoute;

use super::side_table::{Address, Held, Place, SideRow, SideTable};

/// When the first of a route is tried that was found open.
const OPEN: Timestamp = Timestamp::from_millis(0);

/// Most entries of a route that one settlement lets go.
const PORTION: usize = 1000;

/// Most routes in the figures.
const SHOWN: usize = 100;

/// Topic and kind, in one of so many lanes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    topic: String,
    kind: String,
    lane: u16,
    of: u16,
}

impl Route {
    /// The route of an entry where there are `of` lanes.
    pub(super) fn of(place: &Place, of: u16) -> Self {
        let (topic, kind) = (place.address.0.clone(), place.kind.clone());
        Self { topic, kind, lane: place.lane(of), of }
    }

    fn holds(&self, row: &SideRow) -> bool {
        let Place { address, kind, .. } = &row.place;
        matches!(row.held, Held::Unroutable { .. })
            && address.0 == self.topic
            && *kind == self.kind
            && row.place.lane(self.of) == self.lane
    }
}

/// What a settlement says of a route.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    /// One that was set aside was sent or given up.
    pub(super) open: bool,
    /// Longest time to the next attempt of those that came back; zero if none did.
    pub(super) probe_in: Duration,
}

impl SideTable {
    /// Whether a new entry has to join others of its route.
    pub(super) fn is_aside(&self, place: &Place, of: u16) -> bool {
        let route = Route::of(place, of);
        self.rows.values().filter(|row| route.holds(row)).any(|row| {
            let closed = matches!(row.held, Held::Unroutable { at: Some(at) } if at > OPEN);
            closed || (place.address.1.is_some() && row.place.address == place.address)
        })
    }

    /// Whether one of the route of this entry and before it is set aside.
    pub(super) fn is_behind_its_route(&self, seq: u64, place: &Place, of: u16) -> bool {
        let route = Route::of(place, of);
        self.rows.range(..seq).any(|(_, row)| route.holds(row))
    }

    /// Has the first of a route tried. If the route was found open and nothing of it came back,
    /// those at its front are let go first; returns their lines.
    pub(super) fn normalise_route(
        &mut self,
        route: &Route,
        tried: Tried,
        now: Timestamp,
    ) -> Vec<Address> {
        let returned = !tried.probe_in.is_zero();
        let mut aside = self.rows.values_mut().filter(|row| route.holds(row));
        let mut let_go = Vec::new();
        if tried.open && !returned {
            for row in aside.by_ref().take(PORTION) {
                row.held = Held::Retry { at: now };
                let_go.push(row.place.address.clone());
            }
        }
        let mut rest: Vec<&mut SideRow> = aside.collect();
        let times = rest.iter().filter_map(|row| match row.held {
            Held::Unroutable { at } => at,
            _ => None,
        });
        let at = match times.min() {
            _ if returned => now.plus(tried.probe_in),
            _ if tried.open => OPEN,
            Some(at) => at,
            None => now,
        };
        for (place, row) in rest.iter_mut().enumerate() {
            row.held = Held::Unroutable { at: (place == 0).then_some(at) };
        }
        let_go
    }

    /// Has the first of every route tried once the number of lanes is `of`.
    pub(super) fn divide_routes(&mut self, of: u16, now: Timestamp) {
        let aside = self.rows.values().filter(|row| matches!(row.held, Held::Unroutable { .. }));
        let routes: BTreeSet<Route> = aside.map(|row| Route::of(&row.place, of)).collect();
        for route in routes {
            self.normalise_route(&route, Tried::default(), now);
        }
    }

    /// Topics and kinds that nobody is bound to, the largest first.
    pub(super) fn unroutable(&self) -> Vec<UnroutableRoute> {
        let mut routes: BTreeMap<(String, String), UnroutableRoute> = BTreeMap::new();
        for row in self.rows.values() {
            let Held::Unroutable { .. } = row.held else { continue };
            let (topic, kind) = (row.place.address.0.clone(), row.place.kind.clone());
            let route = routes.entry((topic.clone(), kind.clone()));
            let detail = row.detail.clone();
            route.or_insert(UnroutableRoute { topic, kind, entries: 0, detail }).entries += 1;
        }
        let mut routes: Vec<UnroutableRoute> = routes.into_values().collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.entries));
        routes.truncate(SHOWN);
        routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1000);

    fn place(kind: &str, key: Option<&str>) -> Place {
        let address = ("t".to_owned(), key.map(str::to_owned));
        Place { address, kind: kind.to_owned(), hash: 0 }
    }

    fn table(kinds: &[&str]) -> SideTable {
        let mut table = SideTable::default();
        for (seq, kind) in (1..).zip(kinds) {
            table.hold(seq, place(kind, Some("k")), Held::Unroutable { at: None });
        }
        table
    }

    fn times(table: &SideTable) -> Vec<Option<Held>> {
        let shown = |row: &SideRow| (row.held != Held::Unroutable { at: None }).then_some(row.held);
        table.rows.values().map(shown).collect()
    }

    #[test]
    fn only_the_first_of_a_route_is_tried() {
        let mut table = table(&["a", "b", "a", "a"]);
        let route = Route::of(&place("a", None), 1);
        let back = Tried { open: false, probe_in: Duration::from_secs(2) };
        assert_eq!(table.normalise_route(&route, back, NOW), []);
        let later = Held::Unroutable { at: Some(NOW.plus(Duration::from_secs(2))) };
        assert_eq!(times(&table), [Some(later), None, None, None]);
        table.rows.remove(&1);
        table.normalise_route(&route, Tried::default(), NOW);
        let now = Held::Unroutable { at: Some(NOW) };
        assert_eq!(times(&table), [None, Some(now), None]);
    }

    #[test]
    fn an_open_route_lets_a_portion_go_and_tries_the_next_at_once() {
        let mut table = table(&["a"; PORTION + 2]);
        let route = Route::of(&place("a", None), 1);
        let open = Tried { open: true, probe_in: Duration::ZERO };
        assert_eq!(table.normalise_route(&route, open, NOW).len(), PORTION);
        let shown = times(&table);
        assert_eq!(shown[PORTION - 1], Some(Held::Retry { at: NOW }));
        assert_eq!(shown[PORTION..], [Some(Held::Unroutable { at: Some(OPEN) }), None]);
        // Worked off: another key of this kind passes, the same one joins.
        assert!(!table.is_aside(&place("a", Some("other")), 1));
        assert!(table.is_aside(&place("a", Some("k")), 1));
    }

    #[test]
    fn a_route_of_which_something_came_back_is_closed_although_something_was_sent() {
        let mut table = table(&["a", "a"]);
        let route = Route::of(&place("a", None), 1);
        let both = Tried { open: true, probe_in: Duration::from_secs(2) };
        assert_eq!(table.normalise_route(&route, both, NOW), []);
        assert!(table.is_aside(&place("a", Some("other")), 1));
        assert!(!table.is_aside(&place("b", Some("k")), 1));
    }
}
