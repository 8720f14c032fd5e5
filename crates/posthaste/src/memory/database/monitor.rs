//! What operators see, and what keeps the tables small.

use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::database::{
    EntryFilter, Held as HeldCount, HeldLease, Listed, Monitor, Rates, Status, Upkeep,
};
use posthaste_core::finding::{Finding, Severity};
use posthaste_core::lease::Lease;
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Message, StoreError, Timestamp};

use super::MemoryDatabase;
use super::side_table::Held;
use super::state::{DeadSource, Destination, OutboxRow, RATE_WINDOW, State, position};

#[async_trait]
impl Monitor for MemoryDatabase {
    async fn status(&self, destination: &str) -> Result<Status, StoreError> {
        let state = self.shared.migrated()?;
        Ok(state.status(destination, self.shared.clock.now()))
    }

    async fn entries(&self, filter: &EntryFilter) -> Result<Vec<Listed>, StoreError> {
        let state = self.shared.migrated()?;
        let no_place = |text: &String| {
            text.parse::<u64>().map_err(|_| {
                StoreError::rejected(format!("'{text}' is not a position of this database"))
            })
        };
        let after = filter.after.as_ref().map(no_place).transpose()?.unwrap_or(0);
        let listed = state
            .rows
            .range(after + 1..)
            .map(|(&seq, row)| state.listed(&filter.destination, seq, row));
        let stuck = |state: &str| matches!(state, "retry" | "behind" | "parked" | "unroutable");
        let wanted = listed.filter(|entry| {
            filter.topic.as_ref().is_none_or(|topic| *topic == entry.topic)
                && (!filter.stuck || stuck(&entry.state))
        });
        Ok(wanted.take(filter.limit).collect())
    }

    async fn findings(&self) -> Vec<Finding> {
        let what = "a database in memory: nothing in it outlives the process";
        let memory = Finding::new(Severity::Warning, "database", what);
        match self.shared.migrated() {
            Ok(_) => vec![memory],
            Err(missing) => {
                vec![memory, Finding::new(Severity::Problem, "schema", missing.to_string())]
            }
        }
    }
}

#[async_trait]
impl Upkeep for MemoryDatabase {
    async fn enqueue_alone(&self, messages: &[Message]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.enqueue(&mut transaction, messages).await?;
        self.commit(transaction).await
    }

    async fn prune_sent(
        &self,
        lease: &Lease,
        keep: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let now = self.shared.clock.now();
        let mut state = self.shared.migrated()?;
        state.held_under(lease)?;
        let old = state.rows.iter().filter(|(_, row)| now.since(row.written_at) >= keep);
        let sent = old.filter(|(seq, row)| state.is_sent_everywhere(**seq, row));
        let gone: Vec<u64> = sent.map(|(seq, _)| *seq).take(limit).collect();
        for seq in &gone {
            if let Some(OutboxRow { body: Ok(message), .. }) = state.rows.remove(seq) {
                state.ids.remove(&message.id);
            }
        }
        Ok(gone.len() as u64)
    }
}

impl Destination {
    /// Whether the checkpoint is past this row.
    fn has_passed(&self, seq: u64, row: &OutboxRow) -> bool {
        let lane = usize::from(row.place(seq).lane(self.lanes()));
        self.frontiers[lane].has_sent(seq, row.xid, row.hash(seq))
    }
}

impl State {
    fn is_dead_for(&self, destination: &str, wanted: u64) -> bool {
        self.dead.values().any(|row| match &row.source {
            DeadSource::Relay { destination: name, seq } => name == destination && *seq == wanted,
            DeadSource::Consumer { .. } => false,
        })
    }

    fn is_sent_everywhere(&self, seq: u64, row: &OutboxRow) -> bool {
        let done = |(name, destination): (&String, &Destination)| {
            destination.has_passed(seq, row)
                && !destination.side_table.rows.contains_key(&seq)
                && !self.is_dead_for(name, seq)
        };
        !self.destinations.is_empty() && self.destinations.iter().all(done)
    }

    fn status(&self, name: &str, now: Timestamp) -> Status {
        let empty = Destination::default();
        let destination = self.destinations.get(name).unwrap_or(&empty);
        let mut status = Status::default();
        let mut oldest: Option<Timestamp> = None;
        for (&seq, row) in &self.rows {
            let waits = match destination.side_table.rows.get(&seq).map(|side| side.held) {
                Some(Held::Due { at }) => at <= now,
                Some(Held::Retry { .. } | Held::Behind) => true,
                Some(Held::Parked | Held::Unroutable { .. }) => false,
                None => {
                    let due = row.body.as_ref().ok().and_then(|message| message.due_at);
                    !destination.has_passed(seq, row) && due.is_none_or(|at| at <= now)
                }
            };
            if waits {
                status.backlog += 1;
                oldest = Some(oldest.map_or(row.written_at, |at| at.min(row.written_at)));
            }
        }
        status.oldest_unsent_seconds = oldest.map(|at| now.since(at).as_secs_f64());
        status.parked_keys = destination.side_table.parked_keys() as u64;
        status.held = held(destination);
        status.unroutable = destination.side_table.unroutable();
        status.lanes = destination.lanes();
        status.dead_letters = self.dead.len() as u64;
        status.leases = self.held_leases(now);
        status.rates = rates(destination, now);
        status.checkpoint = destination.hindmost().checkpoint().as_str().to_owned();
        status
    }

    pub(super) fn held_leases(&self, now: Timestamp) -> Vec<HeldLease> {
        let held = self.leases.iter().filter(|(_, row)| row.until > now);
        let held = held.filter_map(|(name, row)| {
            Some(HeldLease {
                name: name.clone(),
                owner: row.owner.clone()?,
                token: row.token,
                remaining_seconds: row.until.since(now).as_secs_f64(),
            })
        });
        held.collect()
    }

    fn listed(&self, name: &str, seq: u64, row: &OutboxRow) -> Listed {
        let destination = self.destinations.get(name);
        let side = destination.and_then(|d| d.side_table.rows.get(&seq));
        let (state, ready_at) = match side.map(|side| side.held) {
            Some(Held::Due { at }) => ("due", Some(at)),
            Some(Held::Retry { at }) => ("retry", Some(at)),
            Some(Held::Behind) => ("behind", None),
            Some(Held::Unroutable { at }) => ("unroutable", at.filter(|at| at.as_millis() > 0)),
            Some(Held::Parked) => ("parked", None),
            None if self.is_dead_for(name, seq) => ("dead", None),
            None if destination.is_some_and(|d| d.has_passed(seq, row)) => ("sent", None),
            None => ("new", None),
        };
        let message = row.body.as_ref();
        let detail = side.and_then(|side| side.detail.clone());
        let broken = message.err().map(|malformed| malformed.detail.clone());
        Listed {
            position: position(seq).to_string(),
            id: message.map(|m| m.id.to_string()).unwrap_or_default(),
            topic: message.map(|m| m.topic.clone()).unwrap_or_default(),
            kind: message.map(|m| m.kind.clone()).unwrap_or_default(),
            key: message.ok().and_then(|m| m.key.clone()),
            state: state.to_owned(),
            attempts: side.map_or(0, |side| side.attempts),
            stated_at: message.map_or(row.written_at, |m| m.stated_at),
            ready_at,
            detail: detail.or(broken),
        }
    }
}

fn held(destination: &Destination) -> HeldCount {
    let mut count = HeldCount::default();
    for row in destination.side_table.rows.values() {
        match row.held {
            Held::Due { .. } => count.due += 1,
            Held::Retry { .. } => count.retry += 1,
            Held::Behind => count.behind += 1,
            Held::Unroutable { .. } => count.unroutable += 1,
            Held::Parked => {}
        }
    }
    count
}

fn rates(destination: &Destination, now: Timestamp) -> Rates {
    let recent = destination.batches.iter().filter(|batch| now.since(batch.at) <= RATE_WINDOW);
    let (mut sent, mut failed) = (0u32, 0u32);
    for batch in recent {
        sent = sent.saturating_add(u32::try_from(batch.sent).unwrap_or(u32::MAX));
        failed = failed.saturating_add(u32::try_from(batch.failed).unwrap_or(u32::MAX));
    }
    let seconds = RATE_WINDOW.as_secs_f64();
    Rates {
        sent_per_second: f64::from(sent) / seconds,
        failed_per_second: f64::from(failed) / seconds,
    }
}
