//! What one consumer on one channel has in its hands: it ends with the channel, and every delivery
//! of it then settles nothing any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::options::BasicAckOptions;
use lapin::types::ShortString;
use lapin::{Acker, BasicProperties, Channel};
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Delivery, Message, Outcome, Payload, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::confirms::Parcel;
use crate::echo::Echo;
use crate::envelope;
use crate::error::{self, Failure};
use crate::hold::{Hold, Number};
use crate::publisher::Publishing;
use crate::settlement::Settlement;
use crate::topology::Names;

/// Wait before a dead letter that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A message as it arrived, with what is needed to settle it.
pub(crate) struct Arrived {
    pub(crate) message: Message,
    pub(crate) earlier: u32,
    pub(crate) properties: BasicProperties,
    pub(crate) acker: Acker,
}

/// The unsettled deliveries of one channel.
pub(crate) struct Grip {
    channel: Channel,
    topic: String,
    names: Names,
    hold: Mutex<Hold<Arc<Arrived>>>,
    /// Something may be handed out that could not be before.
    pub(crate) freed: Notify,
    echo: Echo,
    publishing: Arc<Publishing>,
}

impl Grip {
    pub(crate) fn new(
        channel: Channel,
        topic: &str,
        names: Names,
        ordered: bool,
        patience: Duration,
        publishing: Arc<Publishing>,
    ) -> Arc<Self> {
        Arc::new(Self {
            echo: Echo::new(channel.clone(), patience),
            channel,
            topic: topic.to_owned(),
            names,
            hold: Mutex::new(Hold::new(ordered)),
            freed: Notify::new(),
            publishing,
        })
    }

    fn hold(&self) -> MutexGuard<'_, Hold<Arc<Arrived>>> {
        // Every change of it is whole before anything can panic.
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its deliveries can be settled, as far as this side knows.
    pub(crate) fn is_up(&self) -> bool {
        self.channel.status().connected()
    }

    /// Takes in what has arrived.
    pub(crate) fn admit(self: &Arc<Self>, delivery: lapin::message::Delivery) {
        let lapin::message::Delivery { routing_key, redelivered, properties, data, acker, .. } =
            delivery;
        let earlier = envelope::earlier_deliveries(&properties, redelivered);
        let (payload, now) = (envelope::payload(data), now());
        let read =
            envelope::message(&self.topic, routing_key.as_str(), &properties, payload.clone(), now);
        match read {
            Ok(message) => {
                let key = message.key.clone();
                let arrived = Arc::new(Arrived { message, earlier, properties, acker });
                self.hold().push(key.as_deref(), arrived);
            }
            Err(malformed) => {
                let detail = malformed.to_string();
                let queue = &self.names.queue;
                tracing::warn!(%queue, %detail, "a message becomes a dead letter");
                let grip = Arc::clone(self);
                tokio::spawn(async move {
                    grip.give_up(properties, payload, acker, earlier, detail).await;
                });
            }
        }
    }

    /// A message without an identity cannot be handed to anybody: it is written to the dead letters
    /// until that succeeds, or until the channel ends and it comes again.
    async fn give_up(
        self: Arc<Self>,
        properties: BasicProperties,
        payload: Payload,
        acker: Acker,
        earlier: u32,
        detail: String,
    ) {
        let reason = DeadReason::Malformed.code();
        while self.is_up() {
            let dead = envelope::dead(&properties, reason, &detail, earlier + 1, now());
            match self.write_dead(dead, payload.clone()).await {
                Ok(()) => {
                    if let Err(error) = acker.ack(BasicAckOptions::default()).await {
                        tracing::debug!(%error, "a dead letter comes again");
                    }
                    return;
                }
                Err(failure) => {
                    let queue = &self.names.dead;
                    tracing::warn!(%queue, %failure, "cannot write a dead letter");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Hands out up to `most` of those that may go now.
    pub(crate) fn take(self: &Arc<Self>, most: usize) -> Vec<Delivery> {
        let taken = self.hold().take(most, Instant::now());
        taken
            .into_iter()
            .map(|handed| {
                let Arrived { message, earlier, .. } = &*handed.item;
                let attempt = 1_u32.saturating_add(*earlier).saturating_add(handed.handed);
                let settlement =
                    Settlement::new(Arc::clone(self), handed.number, handed.item.clone(), attempt);
                Delivery::new(message.clone(), attempt, None, Box::new(settlement))
            })
            .collect()
    }

    /// When the first of those that are kept back may go.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.hold().next_due()
    }

    /// Takes back a delivery, to be handed out again from `due` on.
    pub(crate) fn put_back(&self, number: Number, due: Instant) {
        self.hold().put_back(number, due);
        self.freed.notify_one();
    }

    /// Has the broker forget a delivery, and frees its key.
    pub(crate) async fn complete(&self, number: Number, arrived: &Arrived) -> Result<(), Failure> {
        match arrived.acker.ack(BasicAckOptions::default()).await {
            Ok(true) => {}
            Ok(false) => return Err(Failure::LockLost),
            Err(error) if !self.is_up() => {
                tracing::debug!(%error, "the channel ended before a delivery was settled");
                return Err(Failure::LockLost);
            }
            Err(error) => return Err(error::in_request("settle a delivery", &error)),
        }
        self.echo.heard().await?;
        self.hold().settle(number);
        self.freed.notify_one();
        Ok(())
    }

    /// Writes a dead letter and returns once the broker has confirmed it.
    pub(crate) async fn write_dead(
        &self,
        properties: BasicProperties,
        payload: Payload,
    ) -> Result<(), Failure> {
        let parcel = Parcel {
            exchange: ShortString::default(),
            routing_key: self.names.dead.clone(),
            properties,
            payload,
        };
        match self.publishing.send_raw(parcel).await? {
            Outcome::Accepted(_) => Ok(()),
            Outcome::Unroutable { .. } => Err(Failure::Failed(format!(
                "queue '{}' for dead letters does not exist: create it",
                self.names.dead
            ))),
            Outcome::Refused(refusal) => Err(Failure::Unavailable(refusal.detail)),
            Outcome::Unknown { detail } => Err(Failure::Unavailable(detail)),
        }
    }

    /// Ends the channel: the broker gives what is unsettled to whoever consumes next.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.channel.close(200, "bye".into()).await {
            tracing::debug!(%error, "the channel was closed before");
        }
    }
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
