//! Transactions: writes are kept aside until the commit makes them visible all at once.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use posthaste_core::inbox::Burial;
use posthaste_core::outbox::Malformed;
use posthaste_core::transaction::Transactional;
use posthaste_core::{Message, MessageId, StoreError, Timestamp};

use super::state::{InboxRow, OutboxRow, State};
use super::{MemoryDatabase, Shared};

/// An open transaction. Dropping it rolls it back.
#[derive(Debug)]
pub struct MemoryTransaction(MemoryConnection);

/// What statements run on inside a [`MemoryTransaction`].
pub struct MemoryConnection {
    pub(super) shared: Arc<Shared>,
    pub(super) xid: u64,
    pub(super) writes: Vec<Write>,
}

/// Something that the commit carries out.
pub(super) enum Write {
    State { seq: u64, message: Message, at: Timestamp },
    Accept { consumer: String, id: MessageId, at: Timestamp },
    Bury { consumer: String, message: Message, burial: Burial, at: Timestamp },
    Record(String),
}

impl MemoryConnection {
    /// The application's own write: a line that [`MemoryDatabase::records`] lists if, and only if,
    /// the transaction commits.
    pub fn record(&mut self, line: impl Into<String>) {
        self.writes.push(Write::Record(line.into()));
    }
}

impl fmt::Debug for MemoryConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConnection").field("transaction", &self.xid).finish_non_exhaustive()
    }
}

impl Deref for MemoryTransaction {
    type Target = MemoryConnection;

    fn deref(&self) -> &MemoryConnection {
        &self.0
    }
}

impl DerefMut for MemoryTransaction {
    fn deref_mut(&mut self) -> &mut MemoryConnection {
        &mut self.0
    }
}

/// Ends the transaction: what was not committed by now is gone.
impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.shared.lock().close(self.xid);
        self.shared.freed.notify_waiters();
    }
}

impl Transactional for MemoryDatabase {
    type Connection = MemoryConnection;
    type Transaction = MemoryTransaction;

    async fn begin(&self) -> Result<MemoryTransaction, StoreError> {
        let xid = self.shared.migrated()?.open();
        let shared = self.shared.clone();
        Ok(MemoryTransaction(MemoryConnection { shared, xid, writes: Vec::new() }))
    }

    fn connection(transaction: &mut MemoryTransaction) -> &mut MemoryConnection {
        &mut transaction.0
    }

    async fn commit(&self, transaction: MemoryTransaction) -> Result<(), StoreError> {
        let mut connection = transaction.0;
        let writes = std::mem::take(&mut connection.writes);
        {
            let mut state = connection.shared.lock();
            for write in writes {
                state.carry_out(connection.xid, write);
            }
            // Closed under the same lock, so that nobody sees the rows of an open transaction.
            state.close(connection.xid);
        }
        connection.shared.announce();
        Ok(())
    }
}

impl State {
    fn carry_out(&mut self, xid: u64, write: Write) {
        match write {
            Write::State { seq, message, at } => {
                self.ids.insert(message.id);
                let body: Result<Message, Malformed> = Ok(message);
                self.rows.insert(seq, OutboxRow { xid, body, written_at: at });
            }
            Write::Accept { consumer, id, at } => self.accept(consumer, id, at, false),
            Write::Bury { consumer, message, burial, at } => {
                self.bury(consumer, message, burial, at);
            }
            Write::Record(line) => self.records.push(line),
        }
    }

    /// The consumer is done with the message, one way or the other.
    pub(super) fn accept(&mut self, consumer: String, id: MessageId, at: Timestamp, dead: bool) {
        self.last_accepted += 1;
        self.dead.retain(|_, row| !row.is_reposted_to(&consumer, Some(id)));
        let key = (consumer, id);
        self.attempts.remove(&key);
        self.inbox.insert(key, InboxRow { number: self.last_accepted, at, dead });
    }
}
