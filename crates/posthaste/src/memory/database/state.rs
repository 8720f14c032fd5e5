//! What is committed, and what open transactions have taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use posthaste_core::dead_letter::{DeadLetter, Failure};
use posthaste_core::frontier::{Frontier, Snapshot};
use posthaste_core::outbox::Malformed;
use posthaste_core::{Message, MessageId, Position, StoreError, Timestamp};

use super::locks::RowLocks;
use super::schema;
use super::side_table::SideTable;

/// Failures that are kept for one message.
pub(super) const HISTORY: usize = 20;
/// How long settled batches are remembered for the rates.
pub(super) const RATE_WINDOW: Duration = Duration::from_secs(60);

/// The database.
#[derive(Default)]
pub(super) struct State {
    pub(super) version: Option<u32>,
    /// The last number that a row of the outbox took, committed or not.
    pub(super) last_seq: u64,
    /// The last transaction that was opened.
    pub(super) last_xid: u64,
    /// Transactions that are open.
    pub(super) open: BTreeSet<u64>,
    pub(super) locks: RowLocks,
    /// The outbox: committed rows by number.
    pub(super) rows: BTreeMap<u64, OutboxRow>,
    pub(super) ids: BTreeSet<MessageId>,
    pub(super) destinations: BTreeMap<String, Destination>,
    pub(super) leases: BTreeMap<String, LeaseRow>,
    pub(super) inbox: BTreeMap<(String, MessageId), InboxRow>,
    /// The last number that an inbox row took.
    pub(super) last_accepted: u64,
    pub(super) attempts: BTreeMap<(String, MessageId), Attempts>,
    pub(super) dead: BTreeMap<u64, DeadRow>,
    /// The last number that a dead letter took.
    pub(super) last_dead: u64,
    pub(super) audit: Vec<AuditRecord>,
    pub(super) records: Vec<String>,
}

/// A row of the outbox.
pub(super) struct OutboxRow {
    /// The transaction that stated it.
    pub(super) xid: u64,
    pub(super) body: Result<Message, Malformed>,
    /// When it was written, by the database's clock.
    pub(super) written_at: Timestamp,
}

/// What the database knows of one destination.
pub(super) struct Destination {
    /// How far each lane has come; there is at least one.
    pub(super) frontiers: Vec<Frontier>,
    /// Lanes that were asked for.
    pub(super) wanted: u16,
    pub(super) side_table: SideTable,
    /// What was settled lately, for the rates.
    pub(super) batches: VecDeque<Settlements>,
}

impl Default for Destination {
    fn default() -> Self {
        let (side_table, batches) = (SideTable::default(), VecDeque::new());
        Self { frontiers: vec![Frontier::start()], wanted: 1, side_table, batches }
    }
}

/// What one settlement counted.
pub(super) struct Settlements {
    pub(super) at: Timestamp,
    pub(super) sent: u64,
    pub(super) failed: u64,
}

/// A lease that was held at some time.
pub(super) struct LeaseRow {
    /// Who holds it, until it is released.
    pub(super) owner: Option<String>,
    pub(super) token: u64,
    pub(super) until: Timestamp,
    /// The last settlement under this token.
    pub(super) settled: u64,
}

/// A consumer is done with a message.
pub(super) struct InboxRow {
    pub(super) number: u64,
    pub(super) at: Timestamp,
    /// Whether it is a dead letter.
    pub(super) dead: bool,
}

/// Attempts of a consumer at a message that it is not done with.
#[derive(Default)]
pub(super) struct Attempts {
    pub(super) begun: u32,
    /// When the last one was begun or failed.
    pub(super) last_at: Option<Timestamp>,
    pub(super) history: History,
}

/// The latest failures, and when the first one was.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) first_at: Option<Timestamp>,
    pub(super) failures: VecDeque<Failure>,
}

impl History {
    /// Adds a failure; of one attempt only the last report is kept.
    pub(super) fn add(&mut self, failure: Failure) {
        self.first_at.get_or_insert(failure.at);
        self.failures.retain(|known| known.attempt != failure.attempt);
        self.failures.push_back(failure);
        while self.failures.len() > HISTORY {
            self.failures.pop_front();
        }
    }
}

/// A dead letter with what a repost needs.
pub(super) struct DeadRow {
    pub(super) letter: DeadLetter,
    pub(super) source: DeadSource,
}

impl DeadRow {
    /// Whether it was reposted and waits for this consumer, and is this message if one is named.
    pub(super) fn is_reposted_to(&self, wanted: &str, id: Option<MessageId>) -> bool {
        let DeadSource::Consumer { consumer, message } = &self.source else { return false };
        self.letter.reposted && consumer == wanted && id.is_none_or(|id| id == message.id)
    }
}

/// Where a dead letter goes back to.
pub(super) enum DeadSource {
    /// The outbox row with this number, for this destination.
    Relay { destination: String, seq: u64 },
    /// This consumer.
    Consumer { consumer: String, message: Message },
}

/// What an operator did to a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAct {
    /// It was sent or handled again.
    Repost,
    /// It was given up.
    Discard,
}

/// The record of one act of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What was done.
    pub act: AuditAct,
    /// To which dead letter.
    pub reference: String,
    /// Why; empty for a repost.
    pub reason: String,
}

impl State {
    pub(super) fn migrated() -> Self {
        Self { version: Some(schema::VERSION), ..Self::default() }
    }

    /// Opens a transaction and returns its number.
    pub(super) fn open(&mut self) -> u64 {
        self.last_xid += 1;
        self.open.insert(self.last_xid);
        self.last_xid
    }

    /// Ends a transaction, whichever way.
    pub(super) fn close(&mut self, xid: u64) {
        self.open.remove(&xid);
        self.locks.free(xid);
    }

    /// Which transactions have ended.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let next = self.last_xid + 1;
        let lowest = self.open.first().copied().unwrap_or(next);
        let open = self.open.iter().copied().collect();
        Snapshot::new(lowest, next, open).map_err(|bad| StoreError::Failed {
            context: "too many transactions are open at a time".into(),
            source: Some(bad.into()),
        })
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    pub(super) fn insert_malformed(&mut self, detail: String, now: Timestamp) {
        let (xid, seq) = (self.open(), self.next_seq());
        self.close(xid);
        let body = Err(Malformed { detail });
        self.rows.insert(seq, OutboxRow { xid, body, written_at: now });
    }

    pub(super) fn destination(&mut self, name: &str) -> &mut Destination {
        self.destinations.entry(name.to_owned()).or_default()
    }

    pub(super) fn accepted_by(&self, consumer: &str) -> Vec<MessageId> {
        let of = self.inbox.iter().filter(|((name, _), _)| name == consumer);
        let mut rows: Vec<_> = of.map(|((_, id), row)| (row.number, *id)).collect();
        rows.sort_unstable();
        rows.into_iter().map(|(_, id)| id).collect()
    }
}

/// The position of a row: its number.
pub(super) fn position(seq: u64) -> Position {
    Position::new(seq.to_string())
}

/// The number in a position.
pub(super) fn seq_of(position: &Position) -> Result<u64, StoreError> {
    position.as_str().parse().map_err(|_| {
        StoreError::rejected(format!("'{position}' is not a position of this database"))
    })
}
