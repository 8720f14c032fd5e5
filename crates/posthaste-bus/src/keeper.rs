//! The task that keeps a bus open: it owns the file and runs the engine, or is connected to the
//! process that does, and when that is lost begins again.

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::error::Failure;
use crate::link::{Clock, Link};
use crate::options::BusOptions;
use crate::owned::Owned;
use crate::shared::State;

/// How long the way to the engine may be sought before callers are told that it is away.
const GRACE: Duration = Duration::from_secs(1);
/// The first and the longest wait between two attempts, and the longest where a person has to act.
const WAITS: (Duration, Duration, Duration) =
    (Duration::from_millis(1), Duration::from_millis(50), Duration::from_secs(1));

/// What the keeper works with.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) path: PathBuf,
    pub(crate) options: BusOptions,
    pub(crate) clock: Clock,
    pub(crate) state: watch::Sender<State>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Keeper {
    /// Keeps the bus until it is stopped.
    pub(crate) async fn run(self, owned: Option<Owned>) {
        let mut owned = owned;
        while !self.is_stopped() {
            if let Some(owned) = owned.take() {
                self.serve(owned).await;
            }
            if let Some(found) = self.seek().await {
                match found {
                    Found::Owned(found) => owned = Some(found),
                    #[cfg(unix)]
                    Found::Connection(connection) => self.talk(connection).await,
                }
            }
        }
        if let Some(owned) = owned {
            // Claimed just before the end: the engine closes the file before the lock is given up.
            if let Err(failure) = owned.serve(self.stopped()).await {
                tracing::error!(failure = failure.detail(), "the bus did not close in order");
            }
        }
        self.state.send_replace(State::Closed);
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Ends when the bus is to be closed.
    fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that no handle is left, which is a reason to stop as well.
            drop(stop.wait_for(|stop| *stop).await);
        }
    }

    /// Runs the engine until it ends or the bus is stopped.
    async fn serve(&self, owned: Owned) {
        self.state.send_replace(State::Up(Link::new(owned.calls(), self.clock.clone())));
        if let Err(failure) = owned.serve(self.stopped()).await {
            tracing::error!(failure = failure.detail(), "the bus ended and is opened again");
        }
        self.state.send_replace(State::Seeking);
    }

    /// Talks to the owner until the connection is lost or the bus is stopped.
    #[cfg(unix)]
    async fn talk(&self, connection: crate::connection::Connection) {
        let (calls, receiver) = mpsc::unbounded_channel();
        self.state.send_replace(State::Up(Link::new(calls, self.clock.clone())));
        connection.run(receiver, self.stop.clone()).await;
        self.state.send_replace(State::Seeking);
    }

    /// Seeks a way to the engine: its own, if nobody owns the file, or that of the owner. `None`
    /// if the bus is stopped.
    async fn seek(&self) -> Option<Found> {
        let start = Instant::now();
        let mut wait = WAITS.0;
        while !self.is_stopped() {
            let mut longest = WAITS.1;
            match self.try_once().await {
                Ok(found) => return Some(found),
                Err(failure) => {
                    let is_final = matches!(failure, Failure::Failed(_));
                    if is_final {
                        longest = WAITS.2;
                    }
                    if is_final || start.elapsed() >= GRACE {
                        self.state.send_replace(State::Away(failure));
                    }
                }
            }
            tokio::select! {
                () = self.stopped() => {}
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(longest);
        }
        None
    }

    async fn try_once(&self) -> Result<Found, Failure> {
        // Opening the file may take long, and this thread has the time limits of all calls.
        let (path, options) = (self.path.clone(), self.options.clone());
        let claimed = tokio::task::spawn_blocking(move || Owned::claim(&path, &options)).await;
        let claimed = claimed
            .map_err(|error| Failure::Failed(format!("opening the bus file failed: {error}")))?;
        if let Some(owned) = claimed? {
            return Ok(Found::Owned(owned));
        }
        self.reach_owner().await
    }

    #[cfg(unix)]
    async fn reach_owner(&self) -> Result<Found, Failure> {
        crate::connection::Connection::open(&self.path).await.map(Found::Connection)
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_async, reason = "there is something to wait for on other systems")]
    async fn reach_owner(&self) -> Result<Found, Failure> {
        Err(Failure::Failed(format!(
            "another process has bus file {} open, and on this system only one can: end it",
            self.path.display()
        )))
    }
}

/// A way to the engine.
#[derive(Debug)]
enum Found {
    Owned(Owned),
    #[cfg(unix)]
    Connection(crate::connection::Connection),
}
