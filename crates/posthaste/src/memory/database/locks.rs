//! Locks on rows that an open transaction has written: whoever wants the same row waits for it to
//! end, as in a database server.

use std::collections::BTreeMap;

use posthaste_core::{MessageId, StoreError};

use super::Shared;

/// A row that can be locked before it exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowKey {
    /// A message of the outbox, by its id.
    Message(MessageId),
    /// An inbox row of a consumer.
    Accepted(String, MessageId),
}

/// Who holds which row, and who waits for whom.
#[derive(Default)]
pub(super) struct RowLocks {
    held: BTreeMap<RowKey, u64>,
    waiting: BTreeMap<u64, u64>,
}

enum Taking {
    Taken,
    Wait,
    Deadlock,
}

impl RowLocks {
    fn take(&mut self, row: &RowKey, xid: u64) -> Taking {
        match self.held.get(row) {
            None => {
                self.held.insert(row.clone(), xid);
                Taking::Taken
            }
            Some(&holder) if holder == xid => Taking::Taken,
            Some(&holder) => {
                let mut next = Some(holder);
                while let Some(other) = next {
                    if other == xid {
                        return Taking::Deadlock;
                    }
                    next = self.waiting.get(&other).copied();
                }
                self.waiting.insert(xid, holder);
                Taking::Wait
            }
        }
    }

    /// Frees everything that a transaction holds.
    pub(super) fn free(&mut self, xid: u64) {
        self.held.retain(|_, holder| *holder != xid);
        self.waiting.remove(&xid);
    }
}

/// A wait that is over when it is dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    xid: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock().locks.waiting.remove(&self.xid);
    }
}

impl Shared {
    /// Waits until the transaction has the row to itself.
    pub(super) async fn lock_row(&self, xid: u64, row: RowKey) -> Result<(), StoreError> {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let taking = self.lock().locks.take(&row, xid);
            let _waiting = Waiting { shared: self, xid };
            match taking {
                Taking::Taken => return Ok(()),
                Taking::Wait => freed.await,
                Taking::Deadlock => {
                    let context = "two transactions wait for each other's rows; try this one again";
                    return Err(StoreError::unavailable(context));
                }
            }
        }
    }
}
