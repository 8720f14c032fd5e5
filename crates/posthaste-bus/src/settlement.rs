//! The right to settle one delivery, and what happens when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::delivery::{Disposition, Settle};
use posthaste_core::{BrokerError, Delivery, Message};
use tokio::sync::Notify;

use crate::error::Failure;
use crate::link::Link;
use crate::protocol::{Fate, Handed, Reply, Request};
use crate::shared::unexpected;

/// How many deliveries of one subscriber are in its user's hands.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    count: AtomicUsize,
    freed: Notify,
}

impl InHand {
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until one was settled or dropped since the last time this was waited for.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// A locked message in hand. Dropped before it is settled, it goes back at once, counted as every
/// delivery that somebody had is.
#[derive(Debug)]
struct Hold {
    link: Link,
    subscription: i64,
    lock: u64,
    in_hand: Arc<InHand>,
    is_settled: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_settled {
            let (subscription, lock) = (self.subscription, self.lock);
            self.link.tell(Request::Release { subscription, lock, counted: true });
        }
        self.in_hand.count.fetch_sub(1, Ordering::AcqRel);
        self.in_hand.freed.notify_one();
    }
}

#[derive(Debug)]
struct Settlement(Hold);

/// Bytes of the reason and of the detail of a dead letter that are kept.
const REASON: usize = 200;
const DETAIL: usize = 32 * 1024;

/// The beginning of a text, with a sign that it went on.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

/// Makes a delivery of what was handed out over this link.
pub(crate) fn delivery(handed: Handed, link: &Link, in_hand: &Arc<InHand>) -> Delivery {
    let Handed { subscription, lock, attempt, lasts, parcel, .. } = handed;
    in_hand.count.fetch_add(1, Ordering::AcqRel);
    let (link, in_hand) = (link.clone(), Arc::clone(in_hand));
    let hold = Hold { link, subscription, lock, in_hand, is_settled: false };
    Delivery::new(Message::from(parcel), attempt, Some(lasts), Box::new(Settlement(hold)))
}

#[async_trait]
impl Settle for Settlement {
    async fn settle(mut self: Box<Self>, disposition: Disposition) -> Result<(), BrokerError> {
        let hold = &mut self.0;
        if hold.link.is_lost() {
            return Err(BrokerError::LockLost);
        }
        let room = hold.link.room().await.map_err(Failure::from)?;
        let (subscription, lock) = (hold.subscription, hold.lock);
        let fate = match disposition {
            Disposition::Complete => Fate::Complete,
            Disposition::Retry { delay } => Fate::Retry { delay },
            Disposition::DeadLetter { reason, detail } => {
                Fate::Dead { reason: cut(reason, REASON), detail: cut(detail, DETAIL) }
            }
            Disposition::Defer => Fate::Defer,
        };
        // From here on the request leaves without another wait: nothing is left to release.
        hold.is_settled = true;
        let request = Request::Settle { subscription, lock, fate };
        match hold.link.ask_with(room, request, None).await.map_err(Failure::from)? {
            Reply::Done => Ok(()),
            Reply::Failed(failure) => Err(failure.into()),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn renew(&self) -> Result<Option<Duration>, BrokerError> {
        let Hold { link, subscription, lock, .. } = &self.0;
        if link.is_lost() {
            return Err(BrokerError::LockLost);
        }
        let request = Request::Renew { subscription: *subscription, lock: *lock };
        match link.ask(request, None).await.map_err(Failure::from)? {
            Reply::Renewed { lock } => Ok(Some(lock)),
            Reply::Failed(failure) => Err(failure.into()),
            other => Err(unexpected(&other).into()),
        }
    }
}
