//! What one consumer on one channel has in its hands: it ends with the channel, and every delivery
//! of it then settles nothing any more.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::options::BasicAckOptions;
use lapin::types::ShortString;
use lapin::{Acker, BasicProperties, Channel};
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Delivery, Message, Outcome, Payload, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::confirms::Parcel;
use crate::connection::Wire;
use crate::echo::Echo;
use crate::envelope;
use crate::error::Failure;
use crate::hold::{Hold, Number};
use crate::publisher::Publishing;
use crate::settlement::Settlement;
use crate::topology::Names;

/// Wait before a dead letter that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often people are told that this still does not succeed.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// A message as it arrived, with what is needed to settle it.
pub(crate) struct Arrived {
    pub(crate) message: Message,
    pub(crate) earlier: u32,
    pub(crate) properties: BasicProperties,
    pub(crate) acker: Acker,
}

/// The unsettled deliveries of one channel.
pub(crate) struct Grip {
    wire: Arc<Wire>,
    channel: Channel,
    /// Whether this side has given the channel up; it never takes that back.
    over: watch::Sender<bool>,
    /// Deliveries that the broker has forgotten at our word.
    settled: AtomicU64,
    /// The same since the last one that was worn.
    calm: AtomicU64,
    /// Whether the last delivery that arrived was the first of its message.
    fresh: AtomicBool,
    topic: String,
    names: Names,
    hold: Mutex<Hold<Arc<Arrived>>>,
    /// Something may be handed out that could not be before.
    pub(crate) freed: Notify,
    echo: Echo,
    publishing: Arc<Publishing>,
    /// Most deliveries that the broker lets it have.
    prefetch: usize,
    has_told: AtomicBool,
}

impl Grip {
    pub(crate) fn new(
        wire: Arc<Wire>,
        channel: Channel,
        topic: &str,
        names: Names,
        ordered: bool,
        prefetch: u16,
        publishing: Arc<Publishing>,
    ) -> Arc<Self> {
        Arc::new(Self {
            echo: Echo::new(channel.clone(), wire.patience()),
            wire,
            channel,
            over: watch::Sender::new(false),
            settled: AtomicU64::new(0),
            calm: AtomicU64::new(0),
            fresh: AtomicBool::new(false),
            topic: topic.to_owned(),
            names,
            hold: Mutex::new(Hold::new(ordered)),
            freed: Notify::new(),
            publishing,
            prefetch: prefetch.into(),
            has_told: AtomicBool::new(false),
        })
    }

    fn hold(&self) -> MutexGuard<'_, Hold<Arc<Arrived>>> {
        // Every change of it is whole before anything can panic.
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its deliveries can be settled, as far as this side knows.
    pub(crate) fn is_up(&self) -> bool {
        !*self.over.borrow() && self.channel.status().connected()
    }

    /// How many of its deliveries were settled.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// How many of its deliveries were settled since the last one that was worn.
    pub(crate) fn calm(&self) -> u64 {
        self.calm.load(Ordering::Relaxed)
    }

    /// Whether the broker had nothing to deliver again when it sent the last delivery: it sends that
    /// first. Then what is given back now comes first, in its place.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    /// Whether it has something unsettled that is worn.
    pub(crate) fn has_worn(&self) -> bool {
        self.hold().any(|arrived| self.is_worn(arrived))
    }

    /// Whether it was delivered more often than half of the limit.
    fn is_worn(&self, arrived: &Arrived) -> bool {
        arrived.earlier > self.publishing.options.delivery_limit / 2
    }

    /// Takes in what has arrived.
    pub(crate) fn admit(self: &Arc<Self>, delivery: lapin::message::Delivery) {
        let lapin::message::Delivery { routing_key, redelivered, properties, data, acker, .. } =
            delivery;
        let earlier = envelope::earlier_deliveries(&properties, redelivered);
        self.fresh.store(earlier == 0, Ordering::Relaxed);
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
                    grip.bury(properties, payload, acker, earlier, detail).await;
                });
            }
        }
    }

    /// A message without an identity cannot be handed to anybody: it is written to the dead letters
    /// until that succeeds, or until the channel ends and it comes again.
    async fn bury(
        self: Arc<Self>,
        properties: BasicProperties,
        payload: Payload,
        acker: Acker,
        earlier: u32,
        detail: String,
    ) {
        let reason = DeadReason::Malformed.code();
        let mut told: Option<Instant> = None;
        while self.is_up() {
            let dead = envelope::dead(&properties, reason, &detail, earlier + 1, now());
            match self.write_dead(dead, payload.clone()).await {
                Ok(()) => {
                    if let Err(failure) = self.acknowledge(&acker).await {
                        tracing::debug!(%failure, "a dead letter comes again");
                    }
                    return;
                }
                Err(failure) => {
                    if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                        told = Some(Instant::now());
                        let queue = &self.names.dead;
                        tracing::warn!(
                            %queue, %failure,
                            "cannot write a dead letter; it keeps its place in the prefetch"
                        );
                    }
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

    /// Tells people once when nothing more can arrive, because everything that did waits.
    pub(crate) fn tell_if_stuck(&self) {
        if self.prefetch > 1
            && self.hold().is_stuck(self.prefetch)
            && !self.has_told.swap(true, Ordering::Relaxed)
        {
            let (queue, prefetch) = (&self.names.queue, self.prefetch);
            tracing::warn!(
                %queue,
                prefetch,
                "all deliveries of the prefetch wait for retries of their keys; nothing else is \
                 received meanwhile: a larger prefetch lets other keys go on"
            );
        }
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
    pub(crate) async fn complete(
        self: &Arc<Self>,
        number: Number,
        arrived: &Arrived,
    ) -> Result<(), Failure> {
        self.acknowledge(&arrived.acker).await?;
        if self.is_worn(arrived) {
            self.calm.store(0, Ordering::Relaxed);
        } else {
            self.calm.fetch_add(1, Ordering::Relaxed);
        }
        self.hold().settle(number);
        self.freed.notify_one();
        Ok(())
    }

    /// Returns once the broker has read the acknowledgement. Where that is not known, the channel
    /// is given up: an acknowledgement cannot be written twice, and what the broker has not read it
    /// delivers again once the channel has ended.
    async fn acknowledge(self: &Arc<Self>, acker: &Acker) -> Result<(), Failure> {
        let mut over = self.over.subscribe();
        let heard = tokio::select! {
            heard = self.ack_and_hear(acker) => heard,
            _ = over.wait_for(|over| *over) => Err(Failure::LockLost),
        };
        match heard {
            Ok(()) => {
                self.settled.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(failure) => {
                self.give_up();
                Err(failure)
            }
        }
    }

    /// The client library never resolves an acknowledgement that it was given when its loop had
    /// just ended: it is waited for as long as for any request, and not for ever.
    async fn ack_and_hear(&self, acker: &Acker) -> Result<(), Failure> {
        let acking = acker.ack(BasicAckOptions::default());
        match timeout(self.wire.patience(), acking).await {
            Ok(Ok(true)) => return self.echo.heard().await,
            Ok(Ok(false)) => tracing::debug!("the channel ended before a delivery was settled"),
            Ok(Err(error)) => tracing::debug!(%error, "an acknowledgement was not written"),
            Err(_) => tracing::warn!("an acknowledgement was not written in time"),
        }
        Err(Failure::LockLost)
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

    /// Ends the channel without waiting for that; from now on it settles nothing.
    pub(crate) fn give_up(self: &Arc<Self>) {
        if self.over.send_replace(true) {
            return;
        }
        self.freed.notify_one();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let grip = Arc::clone(self);
            runtime.spawn(async move { grip.close().await });
        }
    }

    /// Ends the channel: the broker gives what is unsettled to whoever consumes next. If it does
    /// not answer in time, the connection ends, which it cannot miss.
    pub(crate) async fn close(&self) {
        match timeout(self.wire.patience(), self.channel.close(200, "bye".into())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the channel was closed before"),
            Err(_) => {
                tracing::debug!("the broker did not answer when a channel was closed");
                self.wire.cut();
            }
        }
    }
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
