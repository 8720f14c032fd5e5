//! What was sent on one channel and is not confirmed.
//!
//! A message that nobody is bound to comes back before it is confirmed. The client library hands
//! what came back to whichever message happens to be confirmed next, not to the one that it was. So
//! nothing is judged on its own: every confirmation is taken first, what came back is noted by its
//! name and address, and only then the confirmed are judged. The library resolves confirmations in
//! the order in which the broker sent them, and a wake-up is noted under a lock after its
//! confirmation can be seen; so whatever was confirmed before a message has been seen when it is
//! judged, and with it what came back before it. One confirmation of many resolves them in any
//! order, but hands out everything that had come back to those that it resolves first. All this
//! rests on the broker sending a message back before it confirms it, alone or among others.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

/// What is sent, and to where.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) payload: posthaste_core::Payload,
}

/// By what a message that comes back is known again. Copies of one message are alike in it: which
/// of them came back does not matter, because they are the same message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Label {
    id: Option<ShortString>,
    exchange: ShortString,
    routing_key: ShortString,
}

/// What the broker said of one message, or why it said nothing.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It has it.
    Confirmed,
    /// It could not store it, or not surely.
    Nacked,
    /// Nobody is bound.
    Returned(String),
    /// It was never sent.
    NotSent(lapin::Error),
    /// The channel or the connection ended. `alone` says whether no other message was in flight.
    Lost { error: lapin::Error, alone: bool },
}

/// An answer to the message at this place of a call.
pub(crate) type Answered = (usize, Answer);

type Publishing = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

struct Pending {
    publishing: Publishing,
    waker: Waker,
    label: Label,
    place: usize,
    answers: mpsc::UnboundedSender<Answered>,
    /// Room in the window, given back with this.
    _room: Vec<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    pending: HashMap<u64, Pending>,
    /// Resolved while they were sent.
    resolved: Vec<(Pending, lapin::Result<Confirmation>)>,
    returned: HashMap<Label, VecDeque<String>>,
    has_lost: bool,
}

/// Numbers of messages that have something to tell.
#[derive(Default)]
struct Ready {
    numbers: Mutex<Vec<u64>>,
    changed: Notify,
}

struct Bell {
    number: u64,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        locked(&self.ready.numbers).push(self.number);
        self.ready.changed.notify_one();
    }
}

/// All unconfirmed messages of one channel.
#[derive(Default)]
pub(crate) struct Confirms {
    inner: Mutex<Inner>,
    ready: Arc<Ready>,
}

impl Confirms {
    /// Sends a message; its answer comes as that of `place`. In the order of calls.
    pub(crate) fn send(
        &self,
        channel: &Channel,
        parcel: Parcel,
        place: usize,
        answers: mpsc::UnboundedSender<Answered>,
        room: Vec<OwnedSemaphorePermit>,
    ) {
        let Parcel { exchange, routing_key, properties, payload } = parcel;
        let label = Label {
            id: properties.message_id().clone(),
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
        };
        let channel = channel.clone();
        let mut publishing: Publishing = Box::pin(async move {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            let bytes = payload.as_bytes();
            channel.basic_publish(exchange, routing_key, options, bytes, properties).await?.await
        });
        let mut inner = locked(&self.inner);
        let number = inner.next;
        inner.next += 1;
        let waker = Waker::from(Arc::new(Bell { number, ready: Arc::clone(&self.ready) }));
        // The first look puts the message into the library's queue. It happens under the lock,
        // because the library's count of messages and its queue must be in the same order.
        match publishing.as_mut().poll(&mut Context::from_waker(&waker)) {
            // Refused on the spot: nothing was put into the queue.
            Poll::Ready(Err(error)) => drop(answers.send((place, Answer::NotSent(error)))),
            Poll::Ready(done) => {
                let room = Vec::new();
                let pending = Pending { publishing, waker, label, place, answers, _room: room };
                inner.resolved.push((pending, done));
                self.ready.changed.notify_one();
            }
            Poll::Pending => {
                let pending = Pending { publishing, waker, label, place, answers, _room: room };
                inner.pending.insert(number, pending);
            }
        }
    }

    /// Waits until something may have been confirmed.
    pub(crate) async fn changed(&self) {
        self.ready.changed.notified().await;
    }

    /// Takes all confirmations that are there, then judges what they confirm.
    pub(crate) fn sweep(&self) {
        let mut inner = locked(&self.inner);
        let mut done = std::mem::take(&mut inner.resolved);
        loop {
            let numbers = std::mem::take(&mut *locked(&self.ready.numbers));
            if numbers.is_empty() {
                break;
            }
            for number in numbers {
                let Some(pending) = inner.pending.get_mut(&number) else { continue };
                let waker = pending.waker.clone();
                let looked = pending.publishing.as_mut().poll(&mut Context::from_waker(&waker));
                if let Poll::Ready(result) = looked
                    && let Some(pending) = inner.pending.remove(&number)
                {
                    done.push((pending, result));
                }
            }
        }
        for (_, result) in &done {
            if let Ok(Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back))) = result {
                let label = Label {
                    id: back.properties.message_id().clone(),
                    exchange: back.exchange.clone(),
                    routing_key: back.routing_key.clone(),
                };
                let words = format!("{} {}", back.reply_code, back.reply_text);
                inner.returned.entry(label).or_default().push_back(words);
            }
        }
        let lost = done.iter().filter(|(_, result)| result.is_err()).count();
        let alone = lost == 1 && inner.pending.is_empty() && !inner.has_lost && done.len() == 1;
        inner.has_lost |= lost > 0;
        for (pending, result) in done {
            let answer = match result {
                Err(error) => Answer::Lost { error, alone },
                Ok(Confirmation::Nack(_)) => Answer::Nacked,
                Ok(_) => match inner.take_returned(&pending.label) {
                    Some(words) => Answer::Returned(words),
                    None => Answer::Confirmed,
                },
            };
            // Nobody listens to a call whose time was over.
            drop(pending.answers.send((pending.place, answer)));
        }
    }
}

impl Inner {
    fn take_returned(&mut self, label: &Label) -> Option<String> {
        let all = self.returned.get_mut(label)?;
        let words = all.pop_front();
        if all.is_empty() {
            self.returned.remove(label);
        }
        words
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
