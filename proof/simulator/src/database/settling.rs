//! Carrying out verdicts: one transaction that holds the lease's token.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use posthaste_core::frontier::Frontier;
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Feed, Settled, Settlement};
use posthaste_core::relay::Failure;
use posthaste_core::{Position, Timestamp, Verdict};

use super::line::{Address, Finding};
use super::reading::{frontier_of, without_life};
use super::state::{Held, Letter, Wait};
use super::{Database, EPOCH};
use crate::sabotage::Sabotage;

/// What a settlement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settling {
    /// It was carried out.
    Done,
    /// It was carried out before.
    Repeated,
}

/// The number of a position.
pub(crate) fn seq_of(position: &Position) -> u64 {
    position.as_str().parse().unwrap_or(0)
}

impl Database {
    /// Carries out verdicts under a lease.
    ///
    /// # Errors
    /// [`Failure::Fenced`] if the lease is not the current one.
    pub fn settle(&mut self, lease: &Lease, settlement: &Settlement) -> Result<Settling, Failure> {
        if !self.has(&settlement.lane) {
            return Err(Failure::Fenced);
        }
        if !self.is_sabotaged(Sabotage::FenceIgnored) {
            self.fence(lease)?;
        }
        let repeats = !self.is_sabotaged(Sabotage::NumberIgnored);
        let Some(grant) = self.state.leases.get_mut(&lease.name) else {
            return Err(Failure::Fenced);
        };
        if grant.settlement >= settlement.number && repeats {
            return Ok(Settling::Repeated);
        }
        grant.settlement = settlement.number;
        self.spend_xid();
        self.file(settlement.lane.index, &settlement.verdicts);
        if let Some(checkpoint) = &settlement.checkpoint {
            let stored = &mut self.state.checkpoints[usize::from(settlement.lane.index)];
            let through = |it| frontier_of(it).as_ref().map_or(0, Frontier::through);
            if through(checkpoint) >= through(stored) {
                *stored = without_life(checkpoint);
            }
        }
        Ok(Settling::Done)
    }

    fn file(&mut self, lane: u16, verdicts: &[Settled]) {
        let filed: Vec<&Settled> = verdicts
            .iter()
            .filter(|settled| settled.feed == Feed::Ready || settled.verdict != Verdict::Sent)
            .collect();
        let mut lines: BTreeSet<Address> =
            filed.iter().filter_map(|settled| self.line_of(settled)).collect();
        let routes = self.findings(&filed);
        for settled in &filed {
            self.file_one(lane, settled);
        }
        for settled in &filed {
            let failed = match &settled.verdict {
                Verdict::Retry { delay, .. } => *delay > Duration::ZERO,
                Verdict::Dead { park, .. } => *park,
                _ => false,
            };
            if let Some(address) = self.line_of(settled).filter(|_| failed) {
                self.hold_back(&address, seq_of(&settled.position));
            }
        }
        for (route, finding) in routes {
            lines.extend(self.follow_route(lane, &route, finding));
        }
        for line in lines {
            self.free_line(&line);
        }
    }

    fn line_of(&self, settled: &Settled) -> Option<Address> {
        if let Some(held) = self.state.held.get(&seq_of(&settled.position)) {
            return held.key.clone().map(|key| (held.topic.clone(), key));
        }
        let (topic, key) = settled.address.clone()?;
        key.map(|key| (topic, key))
    }

    /// What the verdicts say of routes, before anything is changed.
    fn findings(&self, filed: &[&Settled]) -> BTreeMap<Address, Finding> {
        let mut routes: BTreeMap<Address, Finding> = BTreeMap::new();
        for settled in filed {
            let seq = seq_of(&settled.position);
            let held = self.state.held.get(&seq);
            let was_aside = held.is_some_and(|held| held.wait == Wait::Unroutable);
            let comes_aside = matches!(settled.verdict, Verdict::Unroutable { .. });
            let Some(row) = self.state.outbox.get(&seq) else { continue };
            if !was_aside && !comes_aside {
                continue;
            }
            let route = (row.message.topic.clone(), row.message.kind.clone());
            let finding = routes.entry(route).or_default();
            match settled.verdict {
                Verdict::Unroutable { probe_in, .. } => {
                    finding.probe_in = finding.probe_in.max(probe_in);
                }
                Verdict::Sent | Verdict::Dead { .. } => finding.open |= was_aside,
                _ => {}
            }
        }
        routes
    }

    fn file_one(&mut self, lane: u16, settled: &Settled) {
        let seq = seq_of(&settled.position);
        let row = self.state.outbox.get(&seq);
        let due = row.and_then(|row| row.message.due_at).unwrap_or(EPOCH);
        let before = self.state.held.get(&seq).map_or(0, |held| held.attempts);
        match &settled.verdict {
            Verdict::Sent => {
                self.state.held.remove(&seq);
            }
            Verdict::Due => self.hold(lane, settled, Wait::Due, before, Some(due)),
            Verdict::Behind => self.hold(lane, settled, Wait::Behind, before, None),
            Verdict::Unroutable { .. } => {
                self.hold(lane, settled, Wait::Unroutable, before, None);
            }
            Verdict::Retry { attempts, delay, .. } => {
                let lost = self.is_sabotaged(Sabotage::AttemptsForgotten);
                let attempts = if lost { 0 } else { *attempts };
                let at = Some(self.now.plus(*delay));
                self.hold(lane, settled, Wait::Retry, attempts, at);
            }
            Verdict::Dead { attempts, reason, park, .. } => {
                let (reason, attempts, parked) = (*reason, *attempts, *park);
                self.state.letters.insert(seq, Letter { reason, attempts, parked });
                self.state.held.remove(&seq);
                if parked {
                    self.hold(lane, settled, Wait::Parked, attempts, None);
                }
            }
        }
    }

    fn hold(
        &mut self,
        lane: u16,
        settled: &Settled,
        wait: Wait,
        attempts: u32,
        ready_at: Option<Timestamp>,
    ) {
        let seq = seq_of(&settled.position);
        if let Some(held) = self.state.held.get_mut(&seq) {
            (held.wait, held.attempts, held.ready_at) = (wait, attempts, ready_at);
            return;
        }
        let row = self.state.outbox.get(&seq);
        let hash = row.map_or(u64::from(lane), |row| row.hash);
        let kind = row.map_or_else(String::new, |row| row.message.kind.clone());
        let (topic, key) = settled.address.clone().unwrap_or_default();
        let held = Held { lane, hash, topic, kind, key, wait, attempts, ready_at };
        self.state.held.insert(seq, held);
    }
}
