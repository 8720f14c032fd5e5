//! The lanes that a relay process works in, as the shipped engine chooses them: seats, shares and
//! divisions.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste_core::Lane;
use posthaste_core::lane::{Crew, Division};
use posthaste_core::lease::{Claim, Lease};

use crate::database::{DESTINATION, Undivided, frontier_of};
use crate::marker::sometimes;
use crate::note::Actor;
use crate::relay::{Ask, Call, ToRelay, owner};
use crate::world::{Event, World, travel};

/// A question about lanes.
#[derive(Clone, Debug)]
pub(crate) enum Talk {
    /// How things stand.
    Look,
    /// For the leases of so many lanes.
    Claim(u16),
    /// To divide, given these.
    Divide(Vec<Lease>),
    /// To take the seat back.
    Leave(Lease),
}

/// What the database says.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    Looked {
        division: Division,
        since: u64,
        crew: Crew,
        seat: Option<Lease>,
        may_divide: bool,
    },
    Claimed(Vec<Lease>),
    Divided,
    /// Somebody else still leads a lane, or the last change is not worked off.
    NotYet {
        patience: Duration,
    },
    Left,
    Away,
}

/// How long a change of lanes that the database refuses for now is left alone.
const LEAVE_ALONE: Duration = Duration::from_millis(60);

impl World {
    pub(crate) fn talk_later(&mut self, node: usize, wait: Duration) {
        let relay = &mut self.relays[node];
        relay.talk_at = self.now.plus(wait);
        let (at, incarnation) = (relay.talk_at, relay.incarnation);
        self.plan_at(at, Event::Relay(node, incarnation, ToRelay::Talk));
    }

    pub(crate) fn talk(&mut self, node: usize) {
        let relay = &self.relays[node];
        if relay.is_talking || relay.is_stopping || self.now < relay.talk_at {
            return;
        }
        self.ask(node, Talk::Look);
    }

    fn ask(&mut self, node: usize, talk: Talk) {
        let relay = &mut self.relays[node];
        relay.is_talking = true;
        let wait = travel(&mut relay.chance, &self.rates);
        let incarnation = relay.incarnation;
        let call = Call { node, incarnation, what: Ask::Talk(talk) };
        self.plan(wait, Event::Database(call));
    }

    /// The database answers a question about lanes.
    pub(crate) fn answer_talk(&mut self, node: usize, incarnation: u32, talk: Talk) -> Heard {
        let owner = owner(node, incarnation);
        match talk {
            Talk::Look => self.look(node, &owner),
            Talk::Claim(lanes) => {
                let ttl = self.scenario.settings.lease_ttl;
                let mut leases = Vec::new();
                for lane in Lane::all(DESTINATION, lanes) {
                    match self.acquire(node, &lane.lease_name(), &owner, ttl) {
                        Claim::Granted(lease) => leases.push(lease),
                        Claim::Held { .. } => {
                            leases.iter().for_each(|lease| self.database.release(lease));
                            return Heard::NotYet { patience: Duration::ZERO };
                        }
                    }
                }
                Heard::Claimed(leases)
            }
            Talk::Divide(leases) => self.divide(&leases),
            Talk::Leave(seat) => {
                self.database.release(&seat);
                Heard::Left
            }
        }
    }

    fn look(&mut self, node: usize, owner: &str) -> Heard {
        let division = self.database.division();
        let mut crew = Crew { lanes: division.now, ..Crew::default() };
        let mut seat = None;
        if division.now > 1 {
            let prefix = format!("seat/{DESTINATION}/");
            crew.seats = self.numbered(&prefix, division.now);
            let kept = crew.seats.iter().find(|(_, holder)| **holder == owner);
            let free = || (0..division.now).find(|index| !crew.seats.contains_key(index));
            if let Some(index) = kept.map(|(index, _)| *index).or_else(free) {
                let name = format!("{prefix}{index}");
                let ttl = self.scenario.settings.lease_ttl;
                if let Claim::Granted(lease) = self.acquire(node, &name, owner, ttl) {
                    crew.seats.insert(index, owner.to_owned());
                    seat = Some(lease);
                }
            }
            crew.leaders = self.numbered(&format!("relay/{DESTINATION}/"), division.now);
        }
        let wanted = division.wanted != division.now;
        let may_divide = wanted && self.database.can_divide();
        sometimes!(self, DivisionRefused, if wanted && !may_divide);
        Heard::Looked { division, since: self.divisions, crew, seat, may_divide }
    }

    fn numbered(&self, prefix: &str, lanes: u16) -> BTreeMap<u16, String> {
        let held = self.database.held(prefix).into_iter();
        let numbered = held.filter_map(|(name, owner, _)| {
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, owner))
        });
        numbered.filter(|(number, _)| *number < lanes).collect()
    }

    fn divide(&mut self, leases: &[Lease]) -> Heard {
        let before = self.database.state.lanes();
        match self.database.divide(leases) {
            Ok(()) => {
                let after = self.database.state.lanes();
                if after != before {
                    self.divisions += 1;
                    sometimes!(self, Divided);
                    let begun = frontier_of(&self.database.state.checkpoints[0]);
                    sometimes!(self, Inherited, if begun.is_some_and(|it| it.inheriting()));
                    self.note(Actor::Database, "is divided", Vec::new(), after.into());
                    for lane in 0..before {
                        self.lease_passes_on(usize::MAX, lane);
                    }
                }
                Heard::Divided
            }
            Err(refused) => {
                leases.iter().for_each(|lease| self.database.release(lease));
                let patience =
                    if refused == Undivided::NotYet { LEAVE_ALONE } else { Duration::ZERO };
                Heard::NotYet { patience }
            }
        }
    }

    pub(crate) fn hear(&mut self, node: usize, heard: Heard) {
        let ttl = self.scenario.settings.lease_ttl;
        self.relays[node].is_talking = false;
        if self.relays[node].is_stopping {
            return match heard {
                Heard::Left => self.relay_ends(node),
                Heard::Looked { seat, .. } => {
                    self.relays[node].seat = seat;
                    self.lane_ended(node);
                }
                _ => self.lane_ended(node),
            };
        }
        match heard {
            Heard::Looked { division, since, crew, seat, may_divide } => {
                self.relays[node].seat = seat;
                let rests = division.now == 1 && division.wanted == 1;
                self.talk_later(node, if rests { ttl } else { ttl / 3 });
                self.look_over(node, division, since, &crew, may_divide);
            }
            Heard::Claimed(leases) => self.ask(node, Talk::Divide(leases)),
            Heard::Divided | Heard::Left => self.talk_later(node, Duration::ZERO),
            Heard::NotYet { patience } => {
                self.relays[node].patient_until = self.now.plus(patience);
                self.talk_later(node, ttl / 10);
            }
            Heard::Away => self.talk_later(node, ttl / 3),
        }
    }

    fn look_over(
        &mut self,
        node: usize,
        division: Division,
        since: u64,
        crew: &Crew,
        may_divide: bool,
    ) {
        self.end_lanes(node, |_, worker| worker.of != division.now);
        let changes = division.wanted != division.now && may_divide;
        if changes && self.now >= self.relays[node].patient_until {
            self.end_lanes(node, |_, _| true);
            if self.relays[node].lanes.is_empty() {
                self.ask(node, Talk::Claim(division.now));
            }
            return;
        }
        if division.now == 1 {
            if self.relays[node].lanes.is_empty() {
                self.begin_lane(node, 0, division, since);
            }
            return;
        }
        let owner = owner(node, self.relays[node].incarnation);
        let running = self.relays[node].lanes.keys().copied().collect();
        let turn = crew.turn(&owner, &running);
        self.end_lanes(node, |lane, _| turn.end.contains(&lane));
        for lane in turn.begin {
            if !self.relays[node].lanes.contains_key(&lane) {
                self.begin_lane(node, lane, division, since);
            }
        }
    }

    /// A lane has ended, or the process is to: it ends when nothing is left of it.
    pub(crate) fn lane_ended(&mut self, node: usize) {
        let relay = &self.relays[node];
        if !relay.is_stopping {
            return self.talk_later(node, Duration::ZERO);
        }
        if !relay.lanes.is_empty() || relay.is_talking || !relay.is_up {
            return;
        }
        match self.relays[node].seat.take() {
            Some(seat) => self.ask(node, Talk::Leave(seat)),
            None => self.relay_ends(node),
        }
    }

    fn relay_ends(&mut self, node: usize) {
        self.note(Actor::Relay(node, 0), "has stopped", Vec::new(), 0);
        self.relays[node].is_up = false;
        if !self.is_winding_up {
            self.plan(Duration::from_millis(3), Event::RelayUp(node));
        }
    }
}
