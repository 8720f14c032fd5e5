//! The right to settle one delivery. Dropping it unsettled puts the message back at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::BrokerError;
use posthaste_core::delivery::{Disposition, Settle};
use tokio::time::Instant;

use super::Shared;
use super::queue::{Lost, Queue};

pub(super) struct MemorySettle {
    pub(super) shared: Arc<Shared>,
    pub(super) topic: String,
    pub(super) name: String,
    pub(super) number: u64,
    pub(super) lock: u64,
}

impl MemorySettle {
    fn with_queue<T>(&self, act: impl FnOnce(&mut Queue) -> Result<T, Lost>) -> Result<T, Lost> {
        let done = self.shared.lock().queue_mut(&self.topic, &self.name).map_or(Err(Lost), act);
        self.shared.arrived.notify_waiters();
        done
    }
}

#[async_trait]
impl Settle for MemorySettle {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), BrokerError> {
        let now = Instant::now();
        self.with_queue(|queue| queue.settle(self.number, self.lock, disposition, now))
            .map_err(|Lost| BrokerError::LockLost)
    }

    async fn renew(&self) -> Result<Option<Duration>, BrokerError> {
        let (now, length) = (Instant::now(), self.shared.lock);
        self.with_queue(|queue| queue.renew(self.number, self.lock, now, length))
            .map_err(|Lost| BrokerError::LockLost)?;
        Ok(Some(length))
    }
}

/// After a settlement there is no such lock any more, so that this changes nothing then.
impl Drop for MemorySettle {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut topics = self.shared.lock();
        if let Some(queue) = topics.queue_mut(&self.topic, &self.name) {
            queue.release(self.number, self.lock, now);
        }
        drop(topics);
        self.shared.arrived.notify_waiters();
    }
}
