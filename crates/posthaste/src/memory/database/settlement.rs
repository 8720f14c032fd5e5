//! Settlement: the verdicts of a relay, carried out wholly under the current token or not at all.

use std::collections::{BTreeMap, BTreeSet};

use posthaste_core::dead_letter::{DeadLetter, Failure, Origin};
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Settled, Settlement};
use posthaste_core::verdict::Verdict;
use posthaste_core::{Lane, Message, StoreError, Timestamp};

use super::outbox::parse;
use super::routes::{Route, Tried};
use super::side_table::{Address, Held};
use super::state::{
    DeadRow, DeadSource, History, LeaseRow, RATE_WINDOW, Settlements, State, seq_of,
};

impl State {
    /// The lease, if its token is the current one.
    pub(super) fn held_under(&mut self, lease: &Lease) -> Result<&mut LeaseRow, StoreError> {
        match self.leases.get_mut(&lease.name) {
            Some(row) if row.token == lease.token && row.owner.as_ref() == Some(&lease.owner) => {
                Ok(row)
            }
            _ => Err(StoreError::Fenced),
        }
    }

    pub(super) fn settle(
        &mut self,
        lease: &Lease,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if settlement.number <= self.held_under(lease)?.settled {
            return Ok(());
        }
        let (lane, name) = (&settlement.lane, &settlement.lane.destination);
        let frontier = settlement.checkpoint.as_ref().map(parse).transpose()?;
        let reached = self.destination(name).frontier(lane)?.through();
        if frontier.as_ref().is_some_and(|next| next.through() < reached) {
            return Err(StoreError::rejected("a checkpoint never moves back"));
        }
        // Everything that can be refused is looked at before the first change.
        let mut verdicts = Vec::with_capacity(settlement.verdicts.len());
        for settled in &settlement.verdicts {
            let seq = seq_of(&settled.position)?;
            if !self.rows.contains_key(&seq) {
                let reason = format!("there is no entry {} in the outbox", settled.position);
                return Err(StoreError::rejected(reason));
            }
            verdicts.push((seq, settled));
        }
        let routes = self.routes_tried(lane, &verdicts);
        for (seq, settled) in &verdicts {
            self.carry_out_verdict(name, *seq, settled, now);
        }
        self.log_batch(name, &settlement.verdicts, now);
        let destination = self.destination(name);
        let mut lines: BTreeSet<Address> =
            verdicts.iter().filter_map(|(_, settled)| settled.address.clone()).collect();
        for (route, tried) in routes {
            lines.extend(destination.side_table.normalise_route(&route, tried, now));
        }
        for line in &lines {
            destination.side_table.normalise(line, now);
        }
        if let Some(frontier) = frontier {
            destination.frontiers[usize::from(lane.index)] = frontier;
        }
        self.held_under(lease)?.settled = settlement.number;
        Ok(())
    }

    /// What the verdicts say of routes, before they are carried out.
    fn routes_tried(&self, lane: &Lane, verdicts: &[(u64, &Settled)]) -> BTreeMap<Route, Tried> {
        let mut routes: BTreeMap<Route, Tried> = BTreeMap::new();
        let table = self.destinations.get(&lane.destination).map(|it| &it.side_table);
        for (seq, settled) in verdicts {
            let held = table.and_then(|table| table.rows.get(seq)).map(|row| row.held);
            let was_aside = matches!(held, Some(Held::Unroutable { .. }));
            if !was_aside && !matches!(settled.verdict, Verdict::Unroutable { .. }) {
                continue;
            }
            let route = Route::of(&self.rows[seq].place(*seq), lane.of);
            let tried = routes.entry(route).or_default();
            match settled.verdict {
                Verdict::Unroutable { probe_in, .. } => {
                    tried.probe_in = tried.probe_in.max(probe_in);
                }
                // Taken, or given up by policy: the others need not wait.
                Verdict::Sent | Verdict::Dead { .. } => tried.open = true,
                Verdict::Due | Verdict::Behind | Verdict::Retry { .. } => {}
            }
        }
        routes
    }

    fn carry_out_verdict(&mut self, name: &str, seq: u64, settled: &Settled, now: Timestamp) {
        let row = &self.rows[&seq];
        let due_at = row.body.as_ref().ok().and_then(|message| message.due_at);
        let place = row.place(seq);
        let table = &mut self.destination(name).side_table;
        match &settled.verdict {
            Verdict::Sent => {
                table.rows.remove(&seq);
            }
            Verdict::Due => {
                table.hold(seq, place, Held::Due { at: due_at.unwrap_or(now) });
            }
            Verdict::Behind => {
                table.hold(seq, place, Held::Behind);
            }
            Verdict::Unroutable { detail, .. } => {
                let side = table.hold(seq, place, Held::Unroutable { at: None });
                if !detail.is_empty() {
                    side.detail = Some(detail.clone());
                }
            }
            Verdict::Retry { attempts, delay, detail } => {
                let side = table.hold(seq, place, Held::Retry { at: now.plus(*delay) });
                if !detail.is_empty() {
                    side.detail = Some(detail.clone());
                    let (attempt, detail) = (*attempts, detail.clone());
                    side.history.add(Failure { at: now, attempt, detail });
                }
                side.attempts = *attempts;
            }
            Verdict::Dead { attempts, reason, detail, park } => {
                let mut history =
                    table.rows.remove(&seq).map(|row| row.history).unwrap_or_default();
                if *attempts > 0 {
                    let (attempt, detail) = (*attempts, detail.clone());
                    history.add(Failure { at: now, attempt, detail });
                }
                let parked = *park && place.address.1.is_some();
                if parked {
                    let side = table.hold(seq, place, Held::Parked);
                    (side.attempts, side.detail) = (*attempts, Some(detail.clone()));
                }
                let origin = Origin::Relay(name.to_owned());
                let end = End { code: reason.code(), detail, attempts: *attempts, parked };
                let letter = self.letter_of_row(seq, origin, end, history, now);
                let source = DeadSource::Relay { destination: name.to_owned(), seq };
                self.add_dead(DeadRow { letter, source });
            }
        }
    }

    fn letter_of_row(
        &self,
        seq: u64,
        origin: Origin,
        end: End<'_>,
        history: History,
        now: Timestamp,
    ) -> DeadLetter {
        let row = &self.rows[&seq];
        let message = row.body.as_ref().ok();
        letter(message, row.written_at, origin, end, history, now)
    }

    /// Keeps a dead letter under a reference of its own.
    pub(super) fn add_dead(&mut self, mut row: DeadRow) {
        self.last_dead += 1;
        row.letter.reference = self.last_dead.to_string();
        self.dead.insert(self.last_dead, row);
    }

    fn log_batch(&mut self, name: &str, verdicts: &[Settled], now: Timestamp) {
        let failed = |verdict: &Verdict| match verdict {
            Verdict::Retry { detail, .. } => !detail.is_empty(),
            Verdict::Dead { .. } => true,
            Verdict::Sent | Verdict::Due | Verdict::Behind | Verdict::Unroutable { .. } => false,
        };
        let mut batch = Settlements { at: now, sent: 0, failed: 0 };
        for settled in verdicts {
            batch.sent += u64::from(settled.verdict == Verdict::Sent);
            batch.failed += u64::from(failed(&settled.verdict));
        }
        let batches = &mut self.destination(name).batches;
        while batches.front().is_some_and(|old| now.since(old.at) > RATE_WINDOW) {
            batches.pop_front();
        }
        batches.push_back(batch);
    }
}

/// How something came to its end.
pub(super) struct End<'a> {
    pub(super) code: &'a str,
    pub(super) detail: &'a str,
    pub(super) attempts: u32,
    pub(super) parked: bool,
}

/// A dead letter that holds the whole message, still without a reference.
pub(super) fn letter(
    message: Option<&Message>,
    stated_at: Timestamp,
    origin: Origin,
    end: End<'_>,
    history: History,
    now: Timestamp,
) -> DeadLetter {
    let headers = message.map(|m| serde_json::json!(m.headers).to_string());
    DeadLetter {
        reference: String::new(),
        origin,
        id: message.map(|m| m.id.to_string()).unwrap_or_default(),
        topic: message.map(|m| m.topic.clone()).unwrap_or_default(),
        kind: message.map(|m| m.kind.clone()).unwrap_or_default(),
        key: message.and_then(|m| m.key.clone()),
        headers: headers.unwrap_or_default(),
        content_type: message.and_then(|m| m.content_type.clone()),
        payload: message.map(|m| m.payload.clone()).unwrap_or_default(),
        stated_at: Some(message.map_or(stated_at, |m| m.stated_at)),
        reason: end.code.to_owned(),
        detail: end.detail.to_owned(),
        attempts: end.attempts,
        first_failed_at: history.first_at,
        dead_at: now,
        history: history.failures.into(),
        parked: end.parked,
        reposted: false,
    }
}
