//! What writers do: open transactions, their rows and savepoints.

use std::sync::Arc;

use posthaste_core::Message;
use posthaste_core::frontier::Snapshot;

use super::state::Row;
use super::{Database, Writers, hash_of};
use crate::sabotage::Sabotage;

/// Names the connection of a writer.
pub type Session = usize;

/// A transaction that has not ended.
#[derive(Debug, Default)]
pub(crate) struct Open {
    xid: Option<u64>,
    rows: Vec<(u64, Row)>,
    /// How many rows there were at each savepoint.
    savepoints: Vec<usize>,
}

impl Open {
    /// Whether it has stated nothing that still counts.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Database {
    /// Opens a transaction; `false` if somebody else has to end first.
    pub fn begin(&mut self, session: Session) -> bool {
        if self.is_locked() {
            return false;
        }
        self.open.insert(session, Open::default());
        true
    }

    /// Takes a transaction id without writing a row of ours, as any statement that writes does.
    pub fn touch(&mut self, session: Session) {
        if let Some(open) = self.open.get_mut(&session)
            && open.xid.is_none()
        {
            open.xid = Some(self.next_xid);
            self.next_xid += 1;
        }
    }

    /// States a message and returns its number; `None` if the transaction is gone.
    pub fn state(&mut self, session: Session, message: Arc<Message>) -> Option<u64> {
        self.touch(session);
        let open = self.open.get_mut(&session)?;
        self.sequence += 1;
        let seq = self.sequence;
        let xid = if self.writers == Writers::One { 0 } else { open.xid.unwrap_or(0) };
        let hash = hash_of(&message);
        open.rows.push((seq, Row { xid, hash, message }));
        Some(seq)
    }

    /// Sets a savepoint.
    pub fn savepoint(&mut self, session: Session) {
        if let Some(open) = self.open.get_mut(&session) {
            open.savepoints.push(open.rows.len());
        }
    }

    /// Takes back what was done since the last savepoint, which is gone then.
    pub fn roll_back_to_savepoint(&mut self, session: Session) {
        if self.is_sabotaged(Sabotage::SavepointsIgnored) {
            return;
        }
        if let Some(open) = self.open.get_mut(&session)
            && let Some(rows) = open.savepoints.pop()
        {
            open.rows.truncate(rows);
            self.rewind();
        }
    }

    /// Commits; `false` if the transaction is gone.
    pub fn commit(&mut self, session: Session, business: Option<usize>) -> bool {
        let Some(open) = self.end(session) else { return false };
        self.state.outbox.extend(open.rows);
        self.state.business.extend(business);
        self.rewind();
        true
    }

    /// Rolls back.
    pub fn roll_back(&mut self, session: Session) {
        self.end(session);
        self.rewind();
    }

    /// Where there is one writer, a number that is taken back leaves no trace and is given out
    /// again.
    fn rewind(&mut self) {
        if self.writers == Writers::One {
            let open = self.open.values().filter_map(|open| open.rows.last());
            let last = self.state.outbox.last_key_value().map(|(seq, _)| *seq);
            self.sequence = open.map(|(seq, _)| *seq).chain(last).max().unwrap_or(0);
        }
    }

    fn end(&mut self, session: Session) -> Option<Open> {
        let open = self.open.remove(&session)?;
        if let Some(xid) = open.xid {
            self.latest_ended = self.latest_ended.max(xid);
        }
        Some(open)
    }

    /// Which transactions have ended by now.
    pub(super) fn snapshot(&self) -> Snapshot {
        if self.writers == Writers::One {
            return Snapshot::BEGINNING;
        }
        let xmax = self.latest_ended + 1;
        let running = self.open.values().filter_map(|open| open.xid);
        let mut in_progress: Vec<u64> = running.filter(|xid| *xid < xmax).collect();
        in_progress.sort_unstable();
        let xmin = in_progress.first().copied().unwrap_or(xmax);
        Snapshot::new(xmin, xmax, in_progress).expect("ids below xmax, each once and in order")
    }
}
