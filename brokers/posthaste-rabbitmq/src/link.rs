//! Supervises one connection: opens it when it is needed, again when it was lost, and not more
//! often than makes sense while the broker is away.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};

use crate::address::Address;
use crate::connection::Wire;
use crate::error::Failure;
use crate::options::RabbitMqOptions;

/// Wait after the first failure to connect; doubled with each until the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The connection of one purpose, whenever there is one.
#[derive(Debug)]
pub(crate) struct Link {
    address: Arc<Address>,
    options: Arc<RabbitMqOptions>,
    purpose: &'static str,
    slot: Mutex<Slot>,
    /// Ends an attempt to connect that is under way.
    closing: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    wire: Option<Arc<Wire>>,
    failures: u32,
    /// The last failure, and until when it is the answer.
    last: Option<(Instant, Failure)>,
}

impl Link {
    pub(crate) fn new(
        address: Arc<Address>,
        options: Arc<RabbitMqOptions>,
        purpose: &'static str,
    ) -> Arc<Self> {
        Arc::new(Self { address, options, purpose, slot: Mutex::default(), closing: Notify::new() })
    }

    /// A connection of its own to the same place for the same purpose.
    pub(crate) fn another(&self) -> Arc<Self> {
        Self::new(Arc::clone(&self.address), Arc::clone(&self.options), self.purpose)
    }

    /// The connection; opens it if it is not up. May be dropped at any point: the attempt goes on
    /// and the next call finds it.
    pub(crate) async fn wire(self: &Arc<Self>) -> Result<Arc<Wire>, Failure> {
        let link = Arc::clone(self);
        match tokio::spawn(async move { link.connect().await }).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Unavailable("this program is about to end".to_owned())),
        }
    }

    async fn connect(&self) -> Result<Arc<Wire>, Failure> {
        let mut slot = self.slot.lock().await;
        if let Some(wire) = slot.wire.as_ref().filter(|wire| wire.is_up()) {
            return Ok(Arc::clone(wire));
        }
        if let Some((until, failure)) = &slot.last
            && Instant::now() < *until
        {
            return Err(failure.clone());
        }
        if let Some(lost) = slot.wire.take() {
            lost.cut();
        }
        let opened = tokio::select! {
            opened = Wire::open(&self.address, &self.options, self.purpose) => opened,
            // Dropping the attempt hangs up.
            () = self.closing.notified() => {
                return Err(Failure::Unavailable("it was closed while it connected".to_owned()));
            }
        };
        match opened {
            Ok(wire) => {
                tracing::debug!(address = %self.address, purpose = self.purpose, "connected");
                let wire = Arc::new(wire);
                *slot = Slot { wire: Some(Arc::clone(&wire)), ..Slot::default() };
                Ok(wire)
            }
            Err(failure) => {
                let doublings = slot.failures.min(10);
                let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
                slot.failures = slot.failures.saturating_add(1);
                slot.last = Some((Instant::now() + wait, failure.clone()));
                Err(failure)
            }
        }
    }

    /// The connection if it is up.
    pub(crate) async fn current(&self) -> Option<Arc<Wire>> {
        self.slot.lock().await.wire.clone().filter(|wire| wire.is_up())
    }

    /// Ends the connection, and an attempt to connect that is under way.
    pub(crate) async fn close(&self) {
        // Others may be waiting for their turn to connect; each is told when it has it.
        let mut slot = loop {
            self.closing.notify_waiters();
            if let Ok(slot) = timeout(FIRST_WAIT, self.slot.lock()).await {
                break slot;
            }
        };
        let wire = slot.wire.take();
        drop(slot);
        if let Some(wire) = wire {
            wire.close().await;
        }
    }
}
