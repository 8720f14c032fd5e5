//! A message arriving at a consumer, to be settled exactly once.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::{BrokerError, Message};

/// A message and the right to settle it. Settling consumes it, so that settling twice does not
/// compile; dropping it unsettled means that it is delivered again.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Which delivery of it to this subscription this is, counted from 1. Above 1 some earlier one
    /// was not settled, for whatever reason; a broker that cannot count says 2 for "again".
    pub attempt: u32,
    /// How long the broker waits for the settlement before it delivers again; `None` if it waits
    /// as long as the connection stands.
    pub lock: Option<Duration>,
    settle: Box<dyn Settle>,
}

impl Delivery {
    /// A delivery that is settled through `settle`.
    pub fn new(
        message: Message,
        attempt: u32,
        lock: Option<Duration>,
        settle: Box<dyn Settle>,
    ) -> Self {
        Self { message, attempt, lock, settle }
    }

    /// Whether it was delivered before.
    pub fn is_redelivered(&self) -> bool {
        self.attempt > 1
    }

    /// It is done: the broker forgets it for this subscription.
    ///
    /// # Errors
    /// If the broker does not know of it; the message may then be delivered again.
    pub async fn complete(self) -> Result<(), BrokerError> {
        self.settle.settle(Disposition::Complete).await
    }

    /// It is delivered again after `delay`; on an ordered subscription its key waits.
    ///
    /// # Errors
    /// As [`Delivery::complete`].
    pub async fn retry(self, delay: Duration) -> Result<(), BrokerError> {
        self.settle.settle(Disposition::Retry { delay }).await
    }

    /// It goes to the broker's dead letters of this subscription.
    ///
    /// # Errors
    /// As [`Delivery::complete`].
    pub async fn dead_letter(
        self,
        reason: impl Into<String> + Send,
        detail: impl Into<String> + Send,
    ) -> Result<(), BrokerError> {
        let (reason, detail) = (reason.into(), detail.into());
        self.settle.settle(Disposition::DeadLetter { reason, detail }).await
    }

    /// It stays with the broker until it is asked for by its number, and holds nobody back.
    ///
    /// # Errors
    /// As [`Delivery::complete`]; [`BrokerError::Rejected`] by a broker that cannot.
    pub async fn defer(self) -> Result<(), BrokerError> {
        self.settle.settle(Disposition::Defer).await
    }

    /// Extends the lock to its full length from now, and returns that length.
    ///
    /// # Errors
    /// [`BrokerError::LockLost`] if it has run out.
    pub async fn renew(&self) -> Result<Option<Duration>, BrokerError> {
        self.settle.renew().await
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Done.
    Complete,
    /// Again after this long.
    Retry {
        /// How long to wait at least.
        delay: Duration,
    },
    /// To the broker's dead letters.
    DeadLetter {
        /// A short code.
        reason: String,
        /// For people.
        detail: String,
    },
    /// Kept until asked for.
    Defer,
}

/// What a broker gives with a delivery to settle it by. Dropping it unsettled releases the message
/// for another delivery, at once where the broker can.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Settles the delivery and returns when the broker has it durably.
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), BrokerError>;

    /// Extends the lock; `None` if there is none to extend.
    async fn renew(&self) -> Result<Option<Duration>, BrokerError>;
}
