//! A way to the engine: its own queue in the process that owns the file, or that of a connection.
//! Handles do not know which.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::engine::call::{Answer, Call, HERE, Sink};
use crate::error::Failure;
use crate::protocol::{Reply, Request};

/// Requests that may be on their way at once.
const ON_THEIR_WAY: usize = 4096;

/// One way to one engine; of no use any more when that engine or the connection ends.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    calls: mpsc::UnboundedSender<Call>,
    room: Arc<Semaphore>,
    clock: Clock,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The request did not leave.
    NotSent(String),
    /// The request left, and nobody knows what became of it.
    Unanswered(String),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::NotSent(text) | Lost::Unanswered(text) => Self::Unavailable(text),
        }
    }
}

impl Link {
    /// A way that ends in `calls`.
    pub(crate) fn new(calls: mpsc::UnboundedSender<Call>, clock: Clock) -> Self {
        Self { calls, room: Arc::new(Semaphore::new(ON_THEIR_WAY)), clock }
    }

    /// Asks and waits for the answer. Once this has been polled to its first wait the request may
    /// have left; dropping it then only drops the answer.
    pub(crate) async fn ask(&self, request: Request, sink: Option<Sink>) -> Result<Reply, Lost> {
        let room = self.room().await?;
        self.ask_with(room, request, sink).await
    }

    /// Waits until there is room for a request.
    pub(crate) async fn room(&self) -> Result<Room, Lost> {
        let acquired = tokio::select! {
            biased;
            permit = Arc::clone(&self.room).acquire_owned() => permit.ok(),
            () = self.clock.limit() => None,
        };
        acquired.map(Room).ok_or_else(|| Lost::NotSent("the bus is overloaded".to_owned()))
    }

    /// Sends at once and waits for the answer.
    pub(crate) async fn ask_with(
        &self,
        room: Room,
        request: Request,
        sink: Option<Sink>,
    ) -> Result<Reply, Lost> {
        let (sender, receiver) = oneshot::channel();
        let answer = Answer::Here(sender, room);
        if self.calls.send(Call::Request { client: HERE, request, answer, sink }).is_err() {
            return Err(Lost::NotSent("the bus was closed or lost its owner".to_owned()));
        }
        tokio::select! {
            biased;
            reply = receiver => reply.map_err(|_| {
                Lost::Unanswered("the bus was closed or lost its owner before it answered".into())
            }),
            () = self.clock.limit() => {
                let within = self.clock.answer_within;
                Err(Lost::Unanswered(format!("the bus has not answered within {within:?}")))
            }
        }
    }

    /// Says something that nobody waits for the answer of. A link that is lost needs nothing.
    pub(crate) fn tell(&self, request: Request) {
        let answer = Answer::Nowhere;
        drop(self.calls.send(Call::Request { client: HERE, request, answer, sink: None }));
    }

    /// Whether the other end is gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.calls.is_closed()
    }
}

/// Room for one request, given back when it is answered.
#[derive(Debug)]
pub(crate) struct Room(
    #[expect(dead_code, reason = "held for its drop")] tokio::sync::OwnedSemaphorePermit,
);

/// Time limits that run on the bus' own runtime, so that a caller's runtime needs no timer and may
/// have its time paused. That runtime lives as long as any clock does.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    runtime: Handle,
    answer_within: Duration,
    _alive: mpsc::Sender<Infallible>,
}

/// Ends when no clock is left.
#[derive(Debug)]
pub(crate) struct Clocks(mpsc::Receiver<Infallible>);

impl Clocks {
    pub(crate) async fn all_gone(mut self) {
        self.0.recv().await;
    }
}

impl Clock {
    /// A clock on a runtime that has to be kept until all clocks are gone.
    pub(crate) fn new(runtime: Handle, answer_within: Duration) -> (Self, Clocks) {
        let (alive, gone) = mpsc::channel(1);
        (Self { runtime, answer_within, _alive: alive }, Clocks(gone))
    }

    /// Ends after the time limit for answers.
    pub(crate) fn limit(&self) -> tokio::time::Sleep {
        self.sleep(self.answer_within)
    }

    /// Ends after `duration`.
    pub(crate) fn sleep(&self, duration: Duration) -> tokio::time::Sleep {
        let _inside = self.runtime.enter();
        tokio::time::sleep(duration)
    }
}
