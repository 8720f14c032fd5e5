//! The outbox: stated inside a transaction, read by the frontier rule.

use async_trait::async_trait;
use posthaste_core::frontier::{Frontier, Row};
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Batch, Entry, OutboxReader, ReadLimit, Ready, Settlement};
use posthaste_core::transaction::OutboxWriter;
use posthaste_core::{Checkpoint, Lane, Limits, Message, StoreError};

use super::lanes::hash;
use super::locks::RowKey;
use super::side_table::Place;
use super::state::{Destination, OutboxRow, State, position};
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
        match state.destinations.get(&lane.destination) {
            Some(destination) => Ok(destination.frontier(lane)?.checkpoint()),
            None => Ok(Destination::default().frontier(lane)?.checkpoint()),
        }
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
                hash: row.hash(seq),
                bytes: row.size(),
                body: row,
            });
            let step = frontier
                .advance(&state.snapshot()?, rows.collect(), limit)
                .map_err(|misread| StoreError::failed(misread.to_string()))?;
            let mine = step.rows.iter().filter(|row| row.body.place(row.seq).is_in(lane));
            let entries: Vec<Entry> =
                mine.map(|row| state.entry(lane, row.seq, row.body, &self.shared.clock)).collect();
            if entries.is_empty() && step.more {
                frontier = step.next;
                continue;
            }
            let checkpoint = step.next.checkpoint();
            return Ok(Batch { entries, checkpoint, more: step.more });
        }
    }

    async fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError> {
        let state = self.shared.migrated()?;
        Ok(state.ready(lane, limit, self.shared.clock.now()))
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

    /// Where it belongs. A row that is not a message has neither line nor route.
    pub(super) fn place(&self, seq: u64) -> Place {
        let Ok(message) = &self.body else {
            return Place { hash: self.hash(seq), ..Place::default() };
        };
        let address = (message.topic.clone(), message.key.clone());
        Place { address, kind: message.kind.clone(), hash: self.hash(seq) }
    }

    /// What decides about its lane.
    pub(super) fn hash(&self, seq: u64) -> u64 {
        match &self.body {
            Ok(Message { key: Some(key), .. }) => hash(key.as_bytes()),
            Ok(message) => hash(message.id.to_string().as_bytes()),
            Err(_) => hash(&seq.to_be_bytes()),
        }
    }
}

impl State {
    /// A row past the checkpoint as an entry.
    fn entry(&self, lane: &Lane, seq: u64, row: &OutboxRow, clock: &Clock) -> Entry {
        let due_at = row.body.as_ref().ok().and_then(|message| message.due_at);
        let table = self.destinations.get(&lane.destination).map(|it| &it.side_table);
        let (table, place) = (table.filter(|_| row.body.is_ok()), row.place(seq));
        let blocked = table.is_some_and(|table| table.blocks(&place.address));
        let unroutable = table.is_some_and(|table| table.is_aside(&place, lane.of));
        Entry {
            position: position(seq),
            body: row.body.clone(),
            attempts: 0,
            due_in: due_at.and_then(|at| clock.until(at)),
            blocked,
            unroutable,
        }
    }

    fn ready(&self, lane: &Lane, limit: ReadLimit, now: posthaste_core::Timestamp) -> Ready {
        let mut ready = Ready { entries: Vec::new(), more: false, next_in: None };
        let Some(destination) = self.destinations.get(&lane.destination) else { return ready };
        let mut bytes = 0;
        for found in destination.side_table.ready(lane, now) {
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
                unroutable: found.unroutable,
            });
        }
        ready.next_in = destination.side_table.next_at(lane, now).map(|at| at.since(now));
        ready
    }
}
