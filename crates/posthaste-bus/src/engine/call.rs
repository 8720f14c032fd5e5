//! A request on its way to the engine, and where its answer and the messages it asks for go to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

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
    /// A connection, under the number of the request.
    There(u64, Outbound),
}

impl Answer {
    /// Sends the answer; one whose asker is gone is dropped.
    pub(crate) fn give(self, reply: Reply) {
        match self {
            Self::Nowhere => {}
            Self::Here(sender, _room) => drop(sender.send(reply)),
            Self::There(number, outbound) => outbound.send(Parting::Reply(number, reply)),
        }
    }
}

/// Where a consumer's batches go.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// A subscriber of this process, which has asked for what comes.
    Here(mpsc::UnboundedSender<Vec<Handed>>),
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

    /// Sends a batch and gives back what nobody will ever take.
    pub(crate) fn send(&self, batch: Vec<Handed>) -> Result<(), Vec<Handed>> {
        match self {
            Self::Here(sender) => sender.send(batch).map_err(|lost| lost.0),
            Self::There(consumer, outbound) => {
                outbound.send(Parting::Batch(*consumer, batch));
                Ok(())
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

/// The queue of a connection. Answers are bounded by the requests that the connection lets in;
/// batches are held back while too many bytes are on their way.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    sender: mpsc::UnboundedSender<Parting>,
    unsent: Arc<AtomicUsize>,
}

impl Outbound {
    /// Bytes that may be on their way to one client before it gets no more messages.
    const MOST: usize = 16 * 1024 * 1024;

    /// A queue and its end.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Parting>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, unsent: Arc::default() }, receiver)
    }

    fn has_room(&self) -> bool {
        self.unsent.load(Ordering::Acquire) < Self::MOST
    }

    fn send(&self, parting: Parting) {
        self.unsent.fetch_add(parting.size(), Ordering::AcqRel);
        // A connection that is closed needs nothing: the engine is told that the client is gone.
        drop(self.sender.send(parting));
    }

    /// This much was written to the socket; true if the engine should know that there is room.
    pub(crate) fn sent(&self, bytes: usize) -> bool {
        let before = self.unsent.fetch_sub(bytes, Ordering::AcqRel);
        before >= Self::MOST && before - bytes < Self::MOST
    }
}
