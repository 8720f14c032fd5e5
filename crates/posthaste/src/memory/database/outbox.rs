//! The outbox: stated inside a transaction, read by the frontier rule.

use async_trait::async_trait;
use posthaste_core::frontier::{Frontier, Row};
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, Entry, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::transaction::OutboxWriter;
use posthaste_core::{Checkpoint, Lane, Limits, Message, StoreError};

use super::locks::RowKey;
use super::state::{OutboxRow, State, position};
use super::transaction::Write;
use super::{MemoryConnection, MemoryDatabase};
use crate::memory::clock::Clock;

/// What a row that is not a message counts against a limit.
const MALFORMED_BYTES: usize = 128;

impl OutboxWriter for MemoryDatabase {
    const UNIQUE_IDS: bool = true;

    async fn enqueue(
        &self,
        connection: &mut MemoryConnection,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        for message in messages {
            self.shared.limits.check(message).map_err(|invalid| StoreError::Rejected {
                reason: invalid.to_string(),
                source: Some(invalid.into()),
            })?;
        }
        for message in messages {
            let row = RowKey::Message(message.id);
            connection.shared.lock_row(connection.xid, row).await?;
        }
        let at = self.shared.clock.now();
        let mut state = connection.shared.lock();
        for (place, message) in messages.iter().enumerate() {
            let mut stated = connection.writes.iter().filter_map(|write| match write {
                Write::State { message, .. } => Some(message.id),
                _ => None,
            });
            let twice = messages[..place].iter().any(|other| other.id == message.id);
            if twice || state.ids.contains(&message.id) || stated.any(|id| id == message.id) {
                let reason = format!("a message with the id {} is there already", message.id);
                return Err(StoreError::rejected(reason));
            }
        }
        let writes = messages.iter().map(|message| {
            let (seq, message) = (state.next_seq(), message.clone());
            Write::State { seq, message, at }
        });
        connection.writes.extend(writes);
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.shared.limits
    }
}

#[async_trait]
impl OutboxReader for MemoryDatabase {
    async fn checkpoint(&self, lane: &Lane) -> Result<Checkpoint, StoreError> {
        let state = self.shared.migrated()?;
        let frontier = state.destinations.get(&lane.destination).and_then(|d| d.frontier.as_ref());
        Ok(frontier.map_or_else(Checkpoint::start, Frontier::checkpoint))
    }

    async fn read(
        &self,
        lane: &Lane,
        from: &Checkpoint,
        limit: ReadLimit,
    ) -> Result<Batch, StoreError> {
        let state = self.shared.migrated()?;
        let mut frontier = parse(from)?;
        loop {
            let plan = frontier.plan();
            let wanted = state.rows.iter().filter(|(seq, row)| plan.wants(**seq, row.xid));
            let rows = wanted.take(limit.messages.max(1)).map(|(&seq, row)| Row {
                seq,
                xid: row.xid,
                hash: 0,
                bytes: row.size(),
                body: row,
            });
            let step = frontier
                .advance(&state.snapshot()?, rows.collect(), limit)
                .map_err(|misread| StoreError::failed(misread.to_string()))?;
            if step.rows.is_empty() && step.more {
                frontier = step.next;
                continue;
            }
            let entries = step
                .rows
                .iter()
                .map(|row| state.entry(&lane.destination, row.seq, row.body, &self.shared.clock));
            let (entries, checkpoint) = (entries.collect(), step.next.checkpoint());
            return Ok(Batch { entries, checkpoint, more: step.more });
        }
    }

    async fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError> {
        let state = self.shared.migrated()?;
        Ok(state.ready(&lane.destination, limit, self.shared.clock.now()))
    }

    async fn settle(&self, lease: &Lease, settlement: &Settlement) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        self.shared.migrated()?.settle(lease, settlement, now)
    }
}

/// Reads a checkpoint of this database.
pub(super) fn parse(checkpoint: &Checkpoint) -> Result<Frontier, StoreError> {
    Frontier::parse(checkpoint)
        .map_err(|bad| StoreError::Rejected { reason: bad.to_string(), source: Some(bad.into()) })
}

impl OutboxRow {
    pub(super) fn size(&self) -> usize {
        self.body.as_ref().map_or(MALFORMED_BYTES, Message::size)
    }

    /// Topic and key, if it is a message.
    pub(super) fn address(&self) -> Option<(String, Option<String>)> {
        self.body.as_ref().ok().map(|message| (message.topic.clone(), message.key.clone()))
    }
}

impl State {
    /// A row past the checkpoint as an entry.
    fn entry(&self, destination: &str, seq: u64, row: &OutboxRow, clock: &Clock) -> Entry {
        let due_at = row.body.as_ref().ok().and_then(|message| message.due_at);
        let blocked = self.destinations.get(destination).is_some_and(|destination| {
            row.address().is_some_and(|address| destination.side_table.blocks(&address))
        });
        Entry {
            position: position(seq),
            body: row.body.clone(),
            attempts: 0,
            due_in: due_at.and_then(|at| clock.until(at)),
            blocked,
            unroutable: false,
        }
    }

    fn ready(&self, destination: &str, limit: ReadLimit, now: posthaste_core::Timestamp) -> Ready {
        let mut ready = Ready { entries: Vec::new(), more: false, next_in: None };
        let Some(destination) = self.destinations.get(destination) else { return ready };
        let mut bytes = 0;
        for found in destination.side_table.ready(now) {
            let Some(row) = self.rows.get(&found.seq) else { continue };
            let full = ready.entries.len() >= limit.messages.max(1) || bytes >= limit.bytes;
            if full && !ready.entries.is_empty() {
                ready.more = true;
                break;
            }
            bytes = bytes.saturating_add(row.size());
            ready.entries.push(Entry {
                position: position(found.seq),
                body: row.body.clone(),
                attempts: found.attempts,
                due_in: None,
                blocked: found.blocked,
                unroutable: false,
            });
        }
        ready.next_in = destination.side_table.next_at(now).map(|at| at.since(now));
        ready
    }
}
