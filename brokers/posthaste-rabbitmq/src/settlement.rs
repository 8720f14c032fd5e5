//! Settling one delivery.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::BrokerError;
use posthaste_core::delivery::{Disposition, Settle};
use tokio::time::Instant;

use crate::envelope;
use crate::error::Failure;
use crate::grip::{Arrived, Grip, now};
use crate::hold::Number;

/// Wait before a delivery whose settlement failed is handed out again.
const AGAIN: Duration = Duration::from_secs(1);
/// A time beyond all use, which is as good as never.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// The right to settle one delivery; dropped unused, it puts the message back.
pub(crate) struct Settlement {
    grip: Arc<Grip>,
    number: Number,
    arrived: Arc<Arrived>,
    attempt: u32,
    is_used: bool,
}

impl Settlement {
    pub(crate) fn new(
        grip: Arc<Grip>,
        number: Number,
        arrived: Arc<Arrived>,
        attempt: u32,
    ) -> Self {
        Self { grip, number, arrived, attempt, is_used: false }
    }

    fn put_back(&mut self, delay: Duration) {
        self.is_used = true;
        self.grip.put_back(self.number, Instant::now() + delay.min(NEVER));
    }

    async fn carry_out(mut self, disposition: Disposition) -> Result<(), Failure> {
        if !self.grip.is_up() {
            self.is_used = true;
            return Err(Failure::LockLost);
        }
        match disposition {
            Disposition::Complete => self.complete().await,
            Disposition::Retry { delay } => {
                self.put_back(delay);
                Ok(())
            }
            Disposition::DeadLetter { reason, detail } => self.dead_letter(&reason, &detail).await,
            Disposition::Defer => {
                self.put_back(Duration::ZERO);
                let reason = "RabbitMQ cannot set a message aside: retry it, or make it a dead \
                              letter";
                Err(Failure::Rejected(reason.to_owned()))
            }
        }
    }

    async fn complete(mut self) -> Result<(), Failure> {
        self.is_used = true;
        // If it fails, the channel ends with it and everything on it comes again.
        self.grip.complete(self.number, &self.arrived).await
    }

    /// Written first, then forgotten: in between it may be in both places, never in none.
    async fn dead_letter(mut self, reason: &str, detail: &str) -> Result<(), Failure> {
        let arrived = Arc::clone(&self.arrived);
        let dead = envelope::dead(&arrived.properties, reason, detail, self.attempt, now());
        match self.grip.write_dead(dead, arrived.message.payload.clone()).await {
            Ok(()) => self.complete().await,
            Err(failure) => {
                self.put_back(AGAIN);
                Err(failure)
            }
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if !self.is_used {
            self.put_back(Duration::ZERO);
        }
    }
}

#[async_trait]
impl Settle for Settlement {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), BrokerError> {
        // In a task of its own: a settlement that is begun is finished, whoever stops waiting.
        match tokio::spawn(self.carry_out(disposition)).await {
            Ok(settled) => settled.map_err(BrokerError::from),
            Err(_) => Err(BrokerError::unavailable("this program is about to end")),
        }
    }

    async fn renew(&self) -> Result<Option<Duration>, BrokerError> {
        if self.grip.is_up() { Ok(None) } else { Err(BrokerError::LockLost) }
    }
}
