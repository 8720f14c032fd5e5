//! Lines and routes in the side table: who waits for whom, and who is let go.

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste_core::Timestamp;

use super::state::Wait;
use super::{Database, OPEN_ROUTE};
use crate::sabotage::Sabotage;

/// Topic and key.
pub(super) type Address = (String, String);

/// What a settlement says of one topic and kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Finding {
    /// One that was set aside was taken, or given up by policy.
    pub(super) open: bool,
    /// How long until those that came back are tried again; zero if none did.
    pub(super) probe_in: Duration,
}

impl Database {
    fn line(&self, (topic, key): &Address) -> Vec<u64> {
        let held = self.state.held.iter();
        held.filter(|(_, held)| held.is_in_line(topic, key)).map(|(seq, _)| *seq).collect()
    }

    /// Makes the head of a line ready if nothing failed stands before it.
    pub(super) fn free_line(&mut self, address: &Address) {
        if self.is_sabotaged(Sabotage::LineWithoutHead) {
            return;
        }
        let now = self.now;
        for seq in self.line(address) {
            let held = self.state.held.get_mut(&seq).filter(|held| held.wait == Wait::Behind);
            let Some(held) = held else { return };
            held.wait = Wait::Retry;
            held.ready_at = Some(now);
        }
    }

    /// Lets those wait that were made ready behind one which failed.
    pub(super) fn hold_back(&mut self, address: &Address, failed: u64) {
        for seq in self.line(address).into_iter().filter(|seq| *seq > failed) {
            let Some(held) = self.state.held.get_mut(&seq) else { return };
            match held.wait {
                Wait::Behind => return,
                Wait::Retry => {
                    held.wait = Wait::Behind;
                    held.ready_at = None;
                }
                _ => {}
            }
        }
    }

    /// Sees to it that of a route just the first is tried. If it was found open and nothing came
    /// back, those at the front are let go; returns their lines.
    pub(super) fn follow_route(
        &mut self,
        lane: u16,
        (topic, kind): &Address,
        finding: Finding,
    ) -> BTreeSet<Address> {
        let returned = finding.probe_in > Duration::ZERO;
        let mut lines = BTreeSet::new();
        if finding.open && !returned {
            for seq in self.route(lane, topic, kind).into_iter().take(self.portion) {
                lines.extend(self.let_go(seq));
            }
        }
        let rest = self.route(lane, topic, kind);
        let held = &mut self.state.held;
        let before = rest.iter().filter_map(|seq| held[seq].ready_at).min();
        let at: Timestamp = match before {
            _ if returned => self.now.plus(finding.probe_in),
            _ if finding.open => OPEN_ROUTE,
            Some(at) => at,
            None => self.now,
        };
        for (place, seq) in rest.iter().enumerate() {
            if let Some(held) = held.get_mut(seq) {
                held.ready_at = (place == 0).then_some(at);
            }
        }
        lines
    }

    fn route(&self, lane: u16, topic: &str, kind: &str) -> Vec<u64> {
        let held = self.state.held.iter();
        held.filter(|(_, held)| held.is_aside(lane, topic, kind)).map(|(seq, _)| *seq).collect()
    }

    /// One that was set aside is ready, or waits behind what waits before it; returns its line.
    fn let_go(&mut self, seq: u64) -> Option<Address> {
        let now = self.now;
        let aside = self.state.held.get(&seq)?;
        let address = aside.key.clone().map(|key| (aside.topic.clone(), key));
        let waits = address.as_ref().is_some_and(|address| {
            self.line(address).into_iter().filter(|other| *other < seq).any(|other| {
                let other = &self.state.held[&other];
                other.wait != Wait::Retry || !other.is_ready(now)
            })
        });
        let held = self.state.held.get_mut(&seq)?;
        held.wait = if waits { Wait::Behind } else { Wait::Retry };
        held.ready_at = (!waits).then_some(now);
        address
    }
}
