//! Receiving: one channel with one consumer, opened again whenever it is lost.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use posthaste_core::{BrokerError, Delivery, Subscriber, Subscription};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::caution::{Caution, Ended};
use crate::connection::Wire;
use crate::error::Failure;
use crate::grip::Grip;
use crate::link::Link;
use crate::options::RabbitMqOptions;
use crate::publisher::Publishing;
use crate::topology::{self, Names};

/// What every subscriber of one handle shares.
pub(crate) struct Consuming {
    pub(crate) link: Arc<Link>,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) options: Arc<RabbitMqOptions>,
    /// Connections of those that are kept apart from the others.
    apart: Mutex<Vec<Weak<Link>>>,
}

impl Consuming {
    pub(crate) fn new(
        link: Arc<Link>,
        publishing: &Arc<Publishing>,
        options: &Arc<RabbitMqOptions>,
    ) -> Arc<Self> {
        let (publishing, options) = (Arc::clone(publishing), Arc::clone(options));
        Arc::new(Self { link, publishing, options, apart: Mutex::default() })
    }

    /// A connection that harms nobody else when it is lost.
    pub(crate) fn apart(&self) -> Apart {
        let link = self.link.another();
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        apart.retain(|link| link.strong_count() > 0);
        apart.push(Arc::downgrade(&link));
        Apart(link)
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.link.close().await;
        let apart: Vec<_> = {
            let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
            apart.iter().filter_map(Weak::upgrade).collect()
        };
        for link in apart {
            link.close().await;
        }
    }
}

/// A connection of one subscription, or of one look; it ends with this.
pub(crate) struct Apart(pub(crate) Arc<Link>);

impl Drop for Apart {
    fn drop(&mut self) {
        let link = Arc::clone(&self.0);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { link.close().await });
        }
    }
}

/// Receives messages of one subscription.
pub(crate) struct RabbitSubscriber {
    consuming: Arc<Consuming>,
    subscription: Subscription,
    names: Names,
    open: Option<Open>,
    /// An opening that is under way; it is kept, so that a receive that is dropped loses nothing.
    opening: Option<JoinHandle<Result<Open, Failure>>>,
    caution: Caution,
    /// Its own connection, while it is careful.
    apart: Option<Apart>,
    /// The connection that was lost last, until it was asked why.
    last: Option<Arc<Wire>>,
}

/// A consumer on its channel.
struct Open {
    consumer: lapin::Consumer,
    grip: Arc<Grip>,
    wire: Arc<Wire>,
    since: Instant,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.grip.give_up();
        let (grip, consumer) = (Arc::clone(&self.grip), self.consumer.clone());
        // The channel ends as a whole and at once, also while deliveries are in hand. If only the
        // consumer ended first, the next one would be given what comes after them.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                grip.close().await;
                drop(consumer);
            });
        }
    }
}

/// Why there is nothing more from a consumer.
enum End {
    Lost(String),
    /// The broker has ended it: its queue was deleted.
    Cancelled,
}

impl RabbitSubscriber {
    pub(crate) async fn open(
        consuming: Arc<Consuming>,
        subscription: &Subscription,
    ) -> Result<Self, Failure> {
        if subscription.prefetch == 0 {
            let reason = "a subscription needs room for at least 1 delivery (prefetch)";
            return Err(Failure::Rejected(reason.to_owned()));
        }
        let names = Names::new(&consuming.options, &subscription.topic, &subscription.name)?;
        let subscription = subscription.clone();
        let mut opened = Self {
            consuming,
            subscription,
            names,
            open: None,
            opening: None,
            caution: Caution::default(),
            apart: None,
            last: None,
        };
        opened.ensure_open().await?;
        Ok(opened)
    }

    async fn ensure_open(&mut self) -> Result<(), Failure> {
        match &self.open {
            Some(open) if open.grip.is_up() => {
                let grip = &open.grip;
                if !self.caution.is_overcome(grip.calm(), grip.has_worn(), grip.is_fresh()) {
                    return Ok(());
                }
                // The prefetch of a consumer cannot be changed.
                self.open = None;
                self.apart = None;
                self.caution.relax();
            }
            Some(_) => self.lost("the channel was given up"),
            None => {}
        }
        if let Some(begin) = self.caution.not_before() {
            sleep_until(begin).await;
        }
        if let Some(wire) = self.last.take() {
            self.blame(&wire);
        }
        let opening = self.opening.get_or_insert_with(|| {
            let consuming = Arc::clone(&self.consuming);
            let mut subscription = self.subscription.clone();
            let mut link = Arc::clone(&consuming.link);
            if self.caution.is_careful() {
                subscription.prefetch = 1;
                let apart = self.apart.get_or_insert_with(|| consuming.apart());
                link = Arc::clone(&apart.0);
            }
            tokio::spawn(consume(consuming, link, subscription, self.names.clone()))
        });
        let opened = opening.await;
        self.opening = None;
        let stopped = |_| Failure::Unavailable("this program is about to end".to_owned());
        self.open = Some(opened.map_err(stopped)??);
        Ok(())
    }

    /// Takes note that the consumer that was open is none any more.
    fn lost(&mut self, why: &str) {
        let Some(open) = self.open.take() else { return };
        let ended = Ended {
            lived: open.since.elapsed(),
            settled: open.grip.settled(),
            is_worn: open.grip.has_worn(),
        };
        self.caution.lost(ended, Instant::now());
        let queue = &self.names.queue;
        tracing::warn!(%queue, %why, "a subscription was cut off; opening it again");
        self.last = Some(Arc::clone(&open.wire));
    }

    /// Takes note of why a connection was lost, which is known a moment later.
    fn blame(&mut self, wire: &Wire) {
        let was_careful = self.caution.is_careful();
        self.caution.blame(wire.is_unreadable());
        let queue = &self.names.queue;
        if self.caution.is_careful() && !was_careful {
            tracing::warn!(
                %queue,
                "a delivery may be what cuts the subscription off: one at a time is asked for"
            );
        }
    }
}

impl Open {
    /// Takes in what has arrived, without waiting.
    fn take_in(&mut self) -> Result<(), End> {
        while let Some(next) = self.consumer.next().now_or_never() {
            self.admit(next)?;
        }
        Ok(())
    }

    /// Takes in one thing that the consumer said.
    fn admit(&self, next: Option<lapin::Result<lapin::message::Delivery>>) -> Result<(), End> {
        match next {
            Some(Ok(delivery)) => {
                self.grip.admit(delivery);
                Ok(())
            }
            Some(Err(error)) => Err(End::Lost(crate::error::words(&error))),
            None if self.grip.is_up() => Err(End::Cancelled),
            None => Err(End::Lost("the channel was closed".to_owned())),
        }
    }

    /// Waits until there may be something to hand out.
    async fn wait(&mut self) -> Result<(), End> {
        let due = self.grip.next_due();
        let grip = Arc::clone(&self.grip);
        tokio::select! {
            next = self.consumer.next() => self.admit(next),
            () = grip.freed.notified() => Ok(()),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Ok(()),
        }
    }
}

#[async_trait]
impl Subscriber for RabbitSubscriber {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        loop {
            // What is wrong now may be put right: a subscription that was open stays wanted.
            self.ensure_open().await.map_err(Failure::for_now)?;
            let Some(open) = &mut self.open else { continue };
            let mut going = open.take_in();
            if going.is_ok() {
                let taken = open.grip.take(max);
                if !taken.is_empty() {
                    return Ok(taken);
                }
                open.grip.tell_if_stuck();
                going = open.wait().await;
            }
            match going {
                Ok(()) => {}
                Err(End::Lost(why)) => self.lost(&why),
                Err(End::Cancelled) => {
                    self.open = None;
                    return Err(BrokerError::unavailable(format!(
                        "the broker has ended the consumer of queue '{}', which happens when a \
                         queue is deleted",
                        self.names.queue
                    )));
                }
            }
        }
    }
}

/// Makes sure that everything is there, and begins to consume.
async fn consume(
    consuming: Arc<Consuming>,
    link: Arc<Link>,
    subscription: Subscription,
    names: Names,
) -> Result<Open, Failure> {
    let wire = link.wire().await?;
    let options = &consuming.options;
    for note in topology::subscription(&wire, &names, subscription.ordered, options).await? {
        tracing::warn!("{note}");
    }
    let channel = wire.channel().await?;
    let prefetch = u16::try_from(subscription.prefetch).unwrap_or(u16::MAX);
    let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
    wire.ask("limit what is delivered at once", qos).await?;
    let beginning = channel.basic_consume(
        names.queue.clone(),
        ShortString::default(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let consumer = wire.ask(&format!("consume from queue '{}'", names.queue), beginning).await?;
    let publishing = Arc::clone(&consuming.publishing);
    let grip = Grip::new(
        Arc::clone(&wire),
        channel,
        &subscription.topic,
        names,
        subscription.ordered,
        prefetch,
        publishing,
    );
    Ok(Open { consumer, grip, wire, since: Instant::now() })
}
