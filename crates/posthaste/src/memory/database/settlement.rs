//! Settlement: the verdicts of a relay, carried out wholly under the current token or not at all.

use posthaste_core::dead_letter::{DeadLetter, Failure, Origin};
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Settled, Settlement};
use posthaste_core::verdict::Verdict;
use posthaste_core::{Message, StoreError, Timestamp};

use super::outbox::parse;
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
        let name = &settlement.lane.destination;
        let frontier = settlement.checkpoint.as_ref().map(parse).transpose()?;
        let moved_back = |stored: &posthaste_core::frontier::Frontier| {
            frontier.as_ref().is_some_and(|next| next.through() < stored.through())
        };
        if self.destination(name).frontier.as_ref().is_some_and(moved_back) {
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
        for (seq, settled) in &verdicts {
            self.carry_out_verdict(name, *seq, settled, now);
        }
        self.log_batch(name, &settlement.verdicts, now);
        let destination = self.destination(name);
        for (_, settled) in verdicts {
            if let Some(address) = &settled.address {
                destination.side_table.normalise(address, now);
            }
        }
        if frontier.is_some() {
            destination.frontier = frontier;
        }
        self.held_under(lease)?.settled = settlement.number;
        Ok(())
    }

    fn carry_out_verdict(&mut self, name: &str, seq: u64, settled: &Settled, now: Timestamp) {
        let row = &self.rows[&seq];
        let due_at = row.body.as_ref().ok().and_then(|message| message.due_at);
        let address: Address = settled.address.clone().unwrap_or_default();
        let table = &mut self.destination(name).side_table;
        match &settled.verdict {
            Verdict::Sent => {
                table.rows.remove(&seq);
            }
            Verdict::Due => {
                table.hold(seq, address, Held::Due { at: due_at.unwrap_or(now) });
            }
            Verdict::Behind => {
                table.hold(seq, address, Held::Behind);
            }
            Verdict::Unroutable { probe_in, .. } => {
                table.hold(seq, address, Held::Retry { at: now.plus(*probe_in) });
            }
            Verdict::Retry { attempts, delay, detail } => {
                let side = table.hold(seq, address, Held::Retry { at: now.plus(*delay) });
                if !detail.is_empty() {
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
                let parked = *park && address.1.is_some();
                if parked {
                    table.hold(seq, address, Held::Parked).attempts = *attempts;
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
