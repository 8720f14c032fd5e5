//! The deliveries in hand: held by ticket, renewed while they wait, settled at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use posthaste_core::consumer::Ticket;
use posthaste_core::{BrokerError, Delivery, Message, MessageId};
use tokio::time::Instant;

/// What a ticket stands for.
pub(super) enum Held {
    /// A delivery of the broker.
    Delivery {
        delivery: Delivery,
        /// When its lock is to be extended; `None` if it has none.
        renew_at: Option<Instant>,
    },
    /// A dead letter that an operator has reposted. It is no delivery: the database brings it
    /// again until it is done.
    Reposted(Message),
}

/// See the module.
#[derive(Default)]
pub(super) struct InHand {
    held: BTreeMap<Ticket, Held>,
    next: u64,
}

impl InHand {
    pub(super) fn take_in(&mut self, delivery: Delivery) -> Ticket {
        let renew_at = delivery.lock.map(|lock| Instant::now() + lock / 3);
        self.hold(Held::Delivery { delivery, renew_at })
    }

    pub(super) fn take_in_reposted(&mut self, message: Message) -> Ticket {
        self.hold(Held::Reposted(message))
    }

    fn hold(&mut self, held: Held) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.held.insert(ticket, held);
        ticket
    }

    pub(super) fn message(&self, ticket: Ticket) -> Option<Message> {
        self.held.get(&ticket).map(|held| match held {
            Held::Delivery { delivery, .. } => delivery.message.clone(),
            Held::Reposted(message) => message.clone(),
        })
    }

    pub(super) fn holds_reposted(&self, id: MessageId) -> bool {
        self.held.values().any(|held| matches!(held, Held::Reposted(message) if message.id == id))
    }

    /// Gives a delivery out of hand, to be settled or dropped.
    pub(super) fn give(&mut self, ticket: Ticket) -> Option<Held> {
        self.held.remove(&ticket)
    }

    /// When the next lock is to be extended.
    pub(super) fn next_renewal(&self) -> Option<Instant> {
        let renewals = self.held.values().filter_map(|held| match held {
            Held::Delivery { renew_at, .. } => *renew_at,
            Held::Reposted(_) => None,
        });
        renewals.min()
    }

    /// Extends the locks whose time has come. A lock that is lost is not tried again: its message
    /// is delivered anew, and the inbox knows if this one is finished first.
    pub(super) async fn renew(&mut self) {
        let now = Instant::now();
        let due = self.held.values_mut().filter_map(|held| match held {
            Held::Delivery { delivery, renew_at } if renew_at.is_some_and(|at| at <= now) => {
                Some((&*delivery, renew_at))
            }
            _ => None,
        });
        let renewals = due.map(|(delivery, renew_at)| async move {
            let patience = delivery.lock.map_or(Duration::from_secs(1), |lock| lock / 6);
            *renew_at = match tokio::time::timeout(patience, delivery.renew()).await {
                Ok(Ok(lock)) => lock.map(|lock| Instant::now() + lock / 3),
                Ok(Err(BrokerError::LockLost | BrokerError::Rejected { .. })) => None,
                Ok(Err(_)) | Err(_) => Some(now + patience),
            };
        });
        join_all(renewals).await;
    }
}
