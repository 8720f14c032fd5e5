//! A request on its way to the engine, and where its answer and the messages it asks for go to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};

use crate::link::Room;
use crate::protocol::{Handed, Reply, Request};

/// Number of the client that is in the engine's own process.
pub(crate) const HERE: u64 = 0;

/// Something for the engine to do.
#[derive(Debug)]
pub(crate) enum Call {
    /// A request of a client; the sink is where deliveries of an attached consumer go.
    Request { client: u64, request: Request, answer: Answer, sink: Option<Sink> },
    /// A client's connection is closed.
    Gone { client: u64 },
    /// A client has read what was sent to it and can take more.
    Drained,
    /// Finish what is there and end.
    Stop,
}

impl Call {
    /// Where its answer goes, if somebody waits for one.
    pub(crate) fn into_answer(self) -> Option<Answer> {
        match self {
            Self::Request { answer, .. } => Some(answer),
            _ => None,
        }
    }
}

/// Where an answer goes.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Nobody waits for it.
    Nowhere,
    /// A task of this process.
    Here(oneshot::Sender<Reply>, Room),
    /// A connection, under the number of the request, with the room that the request takes.
    There(u64, Outbound, OwnedSemaphorePermit),
}

impl Answer {
    /// Sends the answer; one whose asker is gone is dropped.
    pub(crate) fn give(self, reply: Reply) {
        match self {
            Self::Nowhere => {}
            Self::Here(sender, _room) => drop(sender.send(reply)),
            // Nobody waits for the answer to a request without a number.
            Self::There(0, ..) => {}
            Self::There(number, outbound, _room) => {
                // A connection that is closed needs no answer.
                drop(outbound.send(Parting::Reply(number, reply)));
            }
        }
    }
}

/// A batch and since when its locks run, whether it is looked at or not.
pub(crate) type Arrived = (Instant, Vec<Handed>);

/// Where a consumer's batches go.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// A subscriber of this process, which has asked for what comes.
    Here(mpsc::UnboundedSender<Arrived>),
    /// A connection, with the client's number for the consumer.
    There(u64, Outbound),
}

impl Sink {
    /// Whether more may be sent now.
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Self::Here(_) => true,
            Self::There(_, outbound) => outbound.has_room(),
        }
    }

    /// Sends a batch whose locks run `since` then, and gives back what nobody will ever take.
    pub(crate) fn send(&self, since: Instant, batch: Vec<Handed>) -> Result<(), Vec<Handed>> {
        match self {
            Self::Here(sender) => sender.send((since, batch)).map_err(|lost| lost.0.1),
            Self::There(consumer, outbound) => {
                match outbound.send(Parting::Batch(*consumer, batch)) {
                    Err(Parting::Batch(_, lost)) => Err(lost),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// What leaves for a client at the other end of a connection.
#[derive(Debug)]
pub(crate) enum Parting {
    /// The answer to a request.
    Reply(u64, Reply),
    /// Messages for a consumer.
    Batch(u64, Vec<Handed>),
}

impl Parting {
    /// About how many bytes it takes on the wire.
    pub(crate) fn size(&self) -> usize {
        let of = |batch: &[Handed]| batch.iter().map(|one| one.parcel.size()).sum::<usize>();
        64 + match self {
            Self::Batch(_, batch) | Self::Reply(_, Reply::Taken(batch)) => of(batch),
            Self::Reply(_, Reply::Dead(dead)) => dead.iter().map(|one| one.parcel.size()).sum(),
            Self::Reply(..) => 0,
        }
    }
}

/// The queue of a connection. While too many bytes are on their way to a client it is given no more
/// messages, and no more of its requests are read.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    sender: mpsc::UnboundedSender<Parting>,
    unsent: Arc<Unsent>,
}

#[derive(Debug, Default)]
struct Unsent {
    bytes: AtomicUsize,
    less: Notify,
}

impl Outbound {
    /// Bytes that may be on their way to one client before it gets no more messages.
    const MOST: usize = 16 * 1024 * 1024;

    /// A queue and its end.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Parting>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, unsent: Arc::default() }, receiver)
    }

    /// What the end of the queue tells when it has sent something.
    pub(crate) fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.unsent))
    }

    /// Waits until few enough bytes are on their way.
    pub(crate) async fn room(&self) {
        while !self.has_room() {
            let less = self.unsent.less.notified();
            if self.has_room() {
                break;
            }
            less.await;
        }
    }

    fn has_room(&self) -> bool {
        self.unsent.bytes.load(Ordering::Acquire) < Self::MOST
    }

    /// Gives back what a connection that is closed cannot take.
    fn send(&self, parting: Parting) -> Result<(), Parting> {
        let size = parting.size();
        self.unsent.bytes.fetch_add(size, Ordering::AcqRel);
        self.sender.send(parting).map_err(|lost| {
            self.unsent.bytes.fetch_sub(size, Ordering::AcqRel);
            lost.0
        })
    }
}

/// Counts what has left a queue.
#[derive(Debug)]
pub(crate) struct Meter(Arc<Unsent>);

impl Meter {
    /// This much has left; true if there is room now that was not there before.
    pub(crate) fn sent(&self, bytes: usize) -> bool {
        let before = self.0.bytes.fetch_sub(bytes, Ordering::AcqRel);
        let has_room = before >= Outbound::MOST && before - bytes < Outbound::MOST;
        if has_room {
            self.0.less.notify_waiters();
        }
        has_room
    }
}
