//! Requests other than publishing, applied one after the other inside the transaction of a group.
//! Each is looked at wholly before it touches anything, so that a refused one leaves no trace.

use posthaste_core::limits::check_name;

use super::Engine;
use super::book::{Attachment, Desk, Now};
use super::call::Sink;
use super::echo::Echo;
use super::group::BATCH_BYTES;
use super::ledger::Ledger;
use crate::error::Failure;
use crate::protocol::{Fate, Handed, Reply, Request};
use crate::status::{Address, SubscriptionStatus};
use crate::store::SubscriptionRow;

/// Consumers of one bus, at most.
const CONSUMERS: usize = 100_000;
/// Messages of one batch of deliveries, at most.
const BATCH: u32 = 1000;

/// What came of a request: an answer, or an error of the file.
pub(super) type Done = rusqlite::Result<Reply>;

impl Engine {
    /// Applies one request. An error of the file is its own matter, unless it has ended the
    /// transaction.
    pub(super) fn take(
        &mut self,
        now: Now,
        client: u64,
        request: Request,
        sink: Option<Sink>,
        echo: Option<Echo>,
    ) -> rusqlite::Result<Reply> {
        let writes = is_written(&request);
        if writes {
            self.store.save()?;
        }
        let error = match self.serve(now, client, request, sink, echo) {
            Ok(reply) => {
                if writes {
                    self.store.keep()?;
                }
                return Ok(reply);
            }
            Err(error) => error,
        };
        if !self.store.is_inside() {
            return Err(error);
        }
        let failure = self.failure("could not use", &error);
        tracing::warn!(failure = failure.detail(), "a request failed");
        if writes {
            self.undo()?;
        }
        let reply = echo.and_then(|echo| self.stand(now, echo));
        let detail = failure.detail().to_owned();
        Ok(reply.unwrap_or(Reply::Failed(Failure::Unavailable(detail))))
    }

    fn serve(
        &mut self,
        now: Now,
        client: u64,
        request: Request,
        sink: Option<Sink>,
        echo: Option<Echo>,
    ) -> Done {
        match request {
            Request::Publish { .. } => Ok(rejected("messages are published first")),
            Request::Attach { consumer, address, name, ordered } => {
                self.attach((client, consumer), &address, &name, ordered, sink)
            }
            Request::Demand { .. }
            | Request::Withdraw { .. }
            | Request::Detach { .. }
            | Request::Release { .. }
            | Request::Renew { .. } => {
                Ok(echo.and_then(|echo| self.stand(now, echo)).unwrap_or(Reply::Done))
            }
            Request::Settle { subscription, lock, fate } => {
                if let Fate::Dead { reason, detail } = &fate {
                    self.bury(now, subscription, lock, reason, detail)?;
                }
                Ok(self.with_lock(subscription, |ledger| ledger.settle(now.moment, lock, fate)))
            }
            Request::DeclareQueue { address } => self.declare_queue(&address),
            Request::TakeDeferred { consumer, address, name, sequences } => {
                self.take_deferred(now, (client, consumer), &address, &name, &sequences)
            }
            Request::ListDeferred { address, name, after, most } => {
                let Some(subscription) = self.book.subscription(&address, &name) else {
                    return Ok(unknown_subscription(&address, &name));
                };
                self.store.deferred(subscription, after, most.min(1000)).map(Reply::Deferred)
            }
            Request::Status => self.status(),
            Request::Addresses => self.addresses(),
            Request::ListDead { topic, id, after, most } => {
                self.list_dead(topic.as_deref(), id.as_deref(), after.as_deref(), most)
            }
            Request::GetDead { reference } => self.get_dead(&reference),
            Request::Repost { references, actor } => self.repost(now, &references, &actor),
            Request::Discard { references, actor, reason } => {
                self.discard(now, &references, &actor, &reason)
            }
        }
    }

    /// Writes a dead letter before anything is decided: its reason is the one thing about a
    /// settlement that may be too large for the file.
    fn bury(
        &self,
        now: Now,
        subscription: i64,
        lock: u64,
        reason: &str,
        detail: &str,
    ) -> rusqlite::Result<()> {
        let desk = self.book.desks.get(&subscription);
        match desk.and_then(|desk| desk.ledger.burial(lock, reason, detail)) {
            Some(change) => self.store.write_change(subscription, &change, now.wall),
            None => Ok(()),
        }
    }

    pub(super) fn demand(&mut self, consumer: (u64, u64), most: u32) -> Reply {
        let most = most.min(BATCH);
        self.with_ledger_of(consumer, |ledger, who| ledger.demand(who, most))
    }

    fn attach(
        &mut self,
        consumer: (u64, u64),
        address: &str,
        name: &str,
        ordered: bool,
        sink: Option<Sink>,
    ) -> Done {
        if let Err(invalid) =
            check_name("topic", address).and_then(|()| check_name("subscription", name))
        {
            return Ok(rejected(invalid.to_string()));
        }
        if self.book.consumers.len() >= CONSUMERS {
            return Ok(rejected("the bus has as many consumers as it can serve: close some"));
        }
        let Some(sink) = sink else { return Ok(rejected("a consumer needs somewhere to send to")) };
        let subscription = match self.book.subscription(address, name) {
            Some(subscription) => subscription,
            None => {
                let address = self.address_of(address)?;
                self.add_subscription(address, name, Some(ordered))?
            }
        };
        let chosen = self.book.desks.get(&subscription).and_then(|desk| desk.is_ordered);
        match chosen {
            Some(is) if is != ordered => {
                let (is, wanted) = if is { ("", "un") } else { ("un", "") };
                return Ok(rejected(format!(
                    "subscription {} is {is}ordered and was opened as {wanted}ordered: open it as \
                     {is}ordered, or use another name",
                    self.book.path(subscription)
                )));
            }
            Some(_) => {}
            None => self.choose_order(subscription, ordered)?,
        }
        self.book.consumers.insert(consumer, Attachment { subscription, sink });
        Ok(Reply::Done)
    }

    /// A new subscription: the first of its address gets what was held, the others what comes.
    fn add_subscription(
        &mut self,
        address: i64,
        name: &str,
        is_ordered: Option<bool>,
    ) -> rusqlite::Result<i64> {
        let place = self.book.places.get(&address);
        let low = match place {
            Some(place) if !place.subscriptions.is_empty() => place.last,
            _ => 0,
        };
        let id = self.store.add_subscription(address, name, is_ordered, low)?;
        let name = name.to_owned();
        let row =
            SubscriptionRow { id, address, name, is_ordered, low, delivered_to: low, rows: None };
        self.book.add_desk(row);
        Ok(id)
    }

    /// The first consumer of a queue decides whether it is ordered.
    fn choose_order(&mut self, subscription: i64, ordered: bool) -> rusqlite::Result<()> {
        self.store.set_ordered(subscription, ordered)?;
        if let Some(desk) = self.book.desks.get_mut(&subscription) {
            desk.is_ordered = Some(ordered);
            desk.ledger.set_ordered(ordered);
        }
        Ok(())
    }

    fn declare_queue(&mut self, name: &str) -> Done {
        if let Err(invalid) = check_name("queue", name) {
            return Ok(rejected(invalid.to_string()));
        }
        let known = self.book.names.get(name).and_then(|id| self.book.places.get(id));
        if known.is_some_and(|place| place.is_queue) {
            return Ok(Reply::Done);
        }
        if known.is_some_and(|place| !place.subscriptions.is_empty()) {
            return Ok(rejected(format!(
                "{name} is a topic with subscriptions already: declare a queue before its first \
                 subscriber, or use another name"
            )));
        }
        let address = self.address_of(name)?;
        self.store.make_queue(address)?;
        self.add_subscription(address, "", None)?;
        if let Some(place) = self.book.places.get_mut(&address) {
            place.is_queue = true;
        }
        Ok(Reply::Done)
    }

    fn take_deferred(
        &mut self,
        now: Now,
        who: (u64, u64),
        address: &str,
        name: &str,
        sequences: &[i64],
    ) -> Done {
        let Some(subscription) = self.book.subscription(address, name) else {
            return Ok(unknown_subscription(address, name));
        };
        let (mut found, mut bytes) = (Vec::with_capacity(sequences.len().min(1000)), 0);
        for sequence in sequences {
            let deliveries = self.store.deferred_deliveries(subscription, *sequence)?;
            let parcel = self.store.message(*sequence)?;
            let is_free = self
                .book
                .desks
                .get(&subscription)
                .is_some_and(|desk| !desk.ledger.is_taken(*sequence));
            let (Some(deliveries), Some(parcel), true) = (deliveries, parcel, is_free) else {
                let path = self.book.path(subscription);
                return Ok(rejected(format!(
                    "{path} has no deferred message {sequence} that nobody has in hand"
                )));
            };
            bytes += parcel.size();
            found.push((*sequence, deliveries, parcel));
            if found.len() > 1 && bytes > BATCH_BYTES {
                return Ok(rejected("these messages are too large to come at once: ask for fewer"));
            }
        }
        let Some(desk) = self.book.desks.get_mut(&subscription) else {
            return Ok(unknown_subscription(address, name));
        };
        let mut taken = Vec::with_capacity(found.len());
        for (sequence, deliveries, parcel) in found {
            let serial = &mut self.serial;
            let next = desk.ledger.take_deferred(now.moment, serial, who, sequence, deliveries);
            // A number that was given twice is handed out once.
            let Some(handout) = next else { continue };
            let (lock, attempt, lasts) = (handout.lock, handout.attempt, self.options.lock);
            taken.push(Handed { subscription, sequence, lock, attempt, lasts, parcel });
        }
        Ok(Reply::Taken(taken))
    }

    fn status(&mut self) -> Done {
        let mut figures = Vec::with_capacity(self.book.desks.len());
        for (id, desk) in &self.book.desks {
            let place = self.book.places.get(&desk.address);
            let (known, locked) = desk.ledger.counts();
            let read_to = desk.ledger.read_to();
            let unread = self.store.count_open(*id, desk.address, read_to)?;
            let unread = unread.saturating_sub(count(desk.ledger.known_above()));
            let (dead, deferred) = self.store.count_aside(*id)?;
            let consumers = self.book.consumers.values().filter(|one| one.subscription == *id);
            figures.push(SubscriptionStatus {
                address: place.map(|place| place.name.clone()).unwrap_or_default(),
                name: desk.name.clone(),
                ordered: desk.is_ordered,
                consumers: count(consumers.count()),
                active: count(known) + unread,
                locked: count(locked),
                dead,
                deferred,
            });
        }
        Ok(Reply::Status(figures))
    }

    fn addresses(&mut self) -> Done {
        let mut addresses = Vec::with_capacity(self.book.places.len());
        for (id, place) in &self.book.places {
            let is_held = place.subscriptions.is_empty();
            let held = if is_held { self.store.count_above(*id, 0)? } else { 0 };
            let (name, is_queue) = (place.name.clone(), place.is_queue);
            addresses.push(Address { name, is_queue, held });
        }
        Ok(Reply::Addresses(addresses))
    }

    pub(super) fn with_ledger_of(
        &mut self,
        consumer: (u64, u64),
        act: impl FnOnce(&mut Ledger, (u64, u64)),
    ) -> Reply {
        let attachment = self.book.consumers.get(&consumer);
        let desk = attachment.and_then(|one| self.book.desks.get_mut(&one.subscription));
        let Some(Desk { ledger, .. }) = desk else {
            return rejected("this consumer is not attached");
        };
        act(ledger, consumer);
        Reply::Done
    }

    pub(super) fn with_lock(
        &mut self,
        subscription: i64,
        act: impl FnOnce(&mut Ledger) -> bool,
    ) -> Reply {
        let desk = self.book.desks.get_mut(&subscription);
        if desk.is_some_and(|desk| act(&mut desk.ledger)) {
            Reply::Done
        } else {
            Reply::Failed(Failure::LockLost)
        }
    }
}

/// Whether a request writes while it is applied, and not only what follows from it.
fn is_written(request: &Request) -> bool {
    matches!(
        request,
        Request::Attach { .. }
            | Request::DeclareQueue { .. }
            | Request::Repost { .. }
            | Request::Discard { .. }
            | Request::Settle { fate: Fate::Dead { .. }, .. }
    )
}

/// A request that makes no sense.
pub(super) fn rejected(reason: impl Into<String>) -> Reply {
    Reply::Failed(Failure::Rejected(reason.into()))
}

fn unknown_subscription(address: &str, name: &str) -> Reply {
    rejected(format!("there is no subscription {name:.200?} of {address:.200?}"))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
