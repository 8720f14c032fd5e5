//! Receiving: asks for one batch at a time, so that locks run only on messages that somebody waits
//! for. What arrives for a call that was dropped is kept for the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use posthaste_core::{BrokerError, Delivery, Subscriber, Subscription};
use tokio::sync::mpsc;

use crate::engine::call::{Arrived, Sink};
use crate::error::Failure;
use crate::link::Link;
use crate::protocol::{Handed, Reply, Request};
use crate::settlement::{InHand, delivery};
use crate::shared::{OWNERS, Shared, unexpected};

#[derive(Debug)]
pub(crate) struct BusSubscriber {
    shared: Arc<Shared>,
    subscription: Subscription,
    in_hand: Arc<InHand>,
    attached: Option<Attached>,
}

/// A consumer at one engine. Dropped, it gives back what nobody has taken.
#[derive(Debug)]
struct Attached {
    link: Link,
    consumer: u64,
    batches: mpsc::UnboundedReceiver<Arrived>,
    buffered: VecDeque<(Instant, Handed)>,
    /// Whether a batch may come that an earlier call has asked for.
    stray: bool,
    /// The last lock that went to the user.
    taken: u64,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.link.tell(Request::Detach { consumer: self.consumer, taken: self.taken });
    }
}

/// A demand that ends when the call that made it is dropped.
struct Demand<'a> {
    link: &'a Link,
    consumer: u64,
    /// Set when the call was dropped: what was demanded for it may still come.
    stray: &'a mut bool,
    is_over: bool,
}

impl Drop for Demand<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            *self.stray = true;
            self.link.tell(Request::Withdraw { consumer: self.consumer });
        }
    }
}

impl BusSubscriber {
    /// Opens the subscription, creating it if it is new.
    pub(crate) async fn open(
        shared: Arc<Shared>,
        subscription: &Subscription,
    ) -> Result<Self, Failure> {
        if subscription.prefetch == 0 {
            let reason = "a subscription needs room for at least 1 delivery (prefetch)";
            return Err(Failure::Rejected(reason.to_owned()));
        }
        let subscription = subscription.clone();
        let in_hand = Arc::default();
        let mut opened = Self { shared, subscription, in_hand, attached: None };
        opened.attach().await?;
        Ok(opened)
    }

    /// Attaches; while the bus is away, waits a little before saying so, because callers call
    /// again at once.
    async fn attach_patiently(&mut self) -> Result<(), Failure> {
        match self.attach().await {
            Err(Failure::Unavailable(_)) if self.shared.is_back().await => self.attach().await,
            done => done,
        }
    }

    /// Attaches to the present owner, or to the next if that one goes meanwhile.
    async fn attach(&mut self) -> Result<(), Failure> {
        for _ in 1..OWNERS {
            let link = self.shared.link().await?;
            match self.attach_over(&link).await {
                Err(Failure::Unavailable(_)) if link.is_lost() => {}
                done => return done,
            }
        }
        let link = self.shared.link().await?;
        self.attach_over(&link).await
    }

    async fn attach_over(&mut self, link: &Link) -> Result<(), Failure> {
        let consumer = self.shared.consumer();
        let (sender, batches) = mpsc::unbounded_channel();
        let Subscription { topic: address, name, ordered, .. } = self.subscription.clone();
        let request = Request::Attach { consumer, address, name, ordered };
        let (link, buffered) = (link.clone(), VecDeque::new());
        let attached = Attached { link, consumer, batches, buffered, stray: false, taken: 0 };
        match attached.link.ask(request, Some(Sink::Here(sender))).await? {
            Reply::Done => self.attached = Some(attached),
            Reply::Failed(failure) => return Err(failure),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }
}

#[async_trait]
impl Subscriber for BusSubscriber {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let mut is_fresh = false;
        loop {
            if self.attached.as_ref().is_none_or(|attached| attached.link.is_lost()) {
                self.attached = None;
                self.attach_patiently().await?;
            }
            let Some(attached) = &mut self.attached else { continue };
            attached.sort_in();
            let room = self.subscription.prefetch.saturating_sub(self.in_hand.count());
            if room == 0 {
                self.in_hand.freed().await;
                continue;
            }
            let most = max.min(room);
            if !attached.buffered.is_empty() {
                return Ok(attached.take(most, is_fresh, &self.in_hand));
            }
            if attached.wait(most).await {
                is_fresh = true;
            } else {
                self.attached = None;
            }
        }
    }
}

impl Attached {
    /// Takes in what has arrived, and drops what was here for so long that its lock is over.
    fn sort_in(&mut self) {
        while let Ok(batch) = self.batches.try_recv() {
            self.keep(batch);
        }
        self.buffered.retain(|(since, handed)| since.elapsed() < handed.lasts);
    }

    fn keep(&mut self, (at, batch): Arrived) {
        self.buffered.extend(batch.into_iter().map(|handed| (at, handed)));
    }

    /// Takes what is here. Where it came for an earlier call, a part of each lock is over.
    fn take(&mut self, most: usize, is_fresh: bool, in_hand: &Arc<InHand>) -> Vec<Delivery> {
        let most = most.min(self.buffered.len());
        let mut deliveries = Vec::with_capacity(most);
        for (since, mut handed) in self.buffered.drain(..most) {
            if !is_fresh {
                handed.lasts = handed.lasts.saturating_sub(since.elapsed());
            }
            self.taken = self.taken.max(handed.lock);
            deliveries.push(delivery(handed, &self.link, in_hand));
        }
        deliveries
    }

    /// Asks for a batch and waits until one is there; false if none will ever come.
    async fn wait(&mut self, most: usize) -> bool {
        let consumer = self.consumer;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.link.tell(Request::Demand { consumer, most });
        let was_stray = std::mem::take(&mut self.stray);
        let stray = &mut self.stray;
        let mut demand = Demand { link: &self.link, consumer, stray, is_over: false };
        let batch = self.batches.recv().await;
        // It may be the batch of an earlier call, and that of this one is then not wanted.
        demand.is_over = !was_stray;
        drop(demand);
        match batch {
            Some(batch) => self.keep(batch),
            None => return false,
        }
        true
    }
}
