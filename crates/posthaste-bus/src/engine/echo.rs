//! What a call means to the locks and consumers in memory, whatever becomes of the file. When a
//! group fails, this much of it stands: who asks, who is gone, and whose lock nobody holds.

use super::Engine;
use super::book::{Desk, Now};
use super::call::Call;
use super::ledger::{Consumer, Ledger};
use crate::protocol::{Reply, Request};

/// The part of a call that needs no file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Echo {
    Attach(Consumer),
    Demand(Consumer, u32),
    Withdraw(Consumer),
    Detach(Consumer, u64),
    Gone(u64),
    /// A lock whose delivery the client has given out of its hands.
    Settle(i64, u64),
    Release(i64, u64, bool),
    Renew(i64, u64),
}

impl Echo {
    pub(super) fn of(call: &Call) -> Option<Self> {
        let (client, request) = match call {
            Call::Request { client, request, .. } => (*client, request),
            Call::Gone { client } => return Some(Self::Gone(*client)),
            Call::Drained | Call::Stop => return None,
        };
        match request {
            Request::Attach { consumer, .. } => Some(Self::Attach((client, *consumer))),
            Request::Demand { consumer, most } => Some(Self::Demand((client, *consumer), *most)),
            Request::Withdraw { consumer } => Some(Self::Withdraw((client, *consumer))),
            Request::Detach { consumer, taken } => Some(Self::Detach((client, *consumer), *taken)),
            Request::Settle { subscription, lock, .. } => Some(Self::Settle(*subscription, *lock)),
            Request::Release { subscription, lock, counted } => {
                Some(Self::Release(*subscription, *lock, *counted))
            }
            Request::Renew { subscription, lock } => Some(Self::Renew(*subscription, *lock)),
            _ => None,
        }
    }
}

impl Engine {
    /// Applies it; the answer, if that is all that was asked for.
    pub(super) fn stand(&mut self, now: Now, echo: Echo) -> Option<Reply> {
        match echo {
            Echo::Attach(consumer) => {
                self.book.consumers.remove(&consumer);
                None
            }
            Echo::Demand(consumer, most) => Some(self.demand(consumer, most)),
            Echo::Withdraw(consumer) => Some(self.with_ledger_of(consumer, Ledger::withdraw)),
            Echo::Detach(consumer, taken) => {
                self.book.consumers.remove(&consumer);
                for Desk { ledger, .. } in self.book.desks.values_mut() {
                    ledger.detach(consumer, taken);
                }
                Some(Reply::Done)
            }
            Echo::Gone(client) => {
                self.book.consumers.retain(|consumer, _| consumer.0 != client);
                for Desk { ledger, .. } in self.book.desks.values_mut() {
                    ledger.lose_client(client);
                }
                Some(Reply::Done)
            }
            Echo::Settle(subscription, lock) => {
                self.with_lock(subscription, |ledger| ledger.release(lock, true));
                None
            }
            Echo::Release(subscription, lock, counted) => {
                Some(self.with_lock(subscription, |ledger| ledger.release(lock, counted)))
            }
            Echo::Renew(subscription, lock) => {
                let renewed = self.with_lock(subscription, |one| one.renew(now.moment, lock));
                let lock = self.options.lock;
                Some(if renewed == Reply::Done { Reply::Renewed { lock } } else { renewed })
            }
        }
    }
}
