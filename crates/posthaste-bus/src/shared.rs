//! What all handles of one bus share: the present link, and the thread that keeps it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::error::Failure;
use crate::link::{Clock, Link, Lost};
use crate::options::BusOptions;
use crate::protocol::{Reply, Request};

/// How many owners one after the other are asked for the same.
pub(crate) const OWNERS: usize = 5;

/// Whether there is a way to the engine.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// There is none yet, or it was lost just now.
    Seeking,
    /// There is.
    Up(Link),
    /// There is none for a reason; it is still tried.
    Away(Failure),
    /// The bus was closed.
    Closed,
}

/// Shared by all handles; when the last is dropped the bus closes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) options: BusOptions,
    pub(crate) clock: Clock,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
    consumers: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        path: PathBuf,
        options: BusOptions,
        clock: Clock,
        state: watch::Receiver<State>,
        stop: watch::Sender<bool>,
    ) -> Arc<Self> {
        Arc::new(Self { path, options, clock, state, stop, consumers: AtomicU64::new(1) })
    }

    /// A number for a new consumer.
    pub(crate) fn consumer(&self) -> u64 {
        self.consumers.fetch_add(1, Ordering::Relaxed)
    }

    /// The present link; waits a little for one that is being sought.
    pub(crate) async fn link(&self) -> Result<Link, Failure> {
        let mut state = self.state.clone();
        let settled = |state: &State| match state {
            State::Up(link) => !link.is_lost(),
            State::Seeking => false,
            State::Away(_) | State::Closed => true,
        };
        let found = tokio::select! {
            biased;
            found = state.wait_for(settled) => found.map_or(State::Closed, |found| found.clone()),
            () = self.clock.sleep(self.options.patience) => State::Seeking,
        };
        match found {
            State::Up(link) => Ok(link),
            State::Away(failure) => Err(failure),
            State::Seeking => Err(Failure::Unavailable(format!(
                "the owner of bus file {} does not answer yet",
                self.path.display()
            ))),
            State::Closed => Err(Failure::Failed("the bus was closed: open it again".to_owned())),
        }
    }

    /// Waits as long as patience lasts until there is a link again; false if there is none then.
    pub(crate) async fn is_back(&self) -> bool {
        let mut state = self.state.clone();
        let is_up = |state: &State| matches!(state, State::Up(link) if !link.is_lost());
        tokio::select! {
            biased;
            found = state.wait_for(|state| is_up(state) || matches!(state, State::Closed)) => {
                found.is_ok_and(|found| is_up(&found))
            }
            () = self.clock.sleep(self.options.patience) => false,
        }
    }

    /// Asks over the present link.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        let link = self.link().await?;
        answered(link.ask(request, None).await)
    }

    /// Asks for something that may be asked twice: when the link is lost meanwhile, because its
    /// owner ends or is killed, the next owner is asked.
    pub(crate) async fn ask_anyone(&self, request: Request) -> Result<Reply, Failure> {
        for _ in 1..OWNERS {
            let link = self.link().await?;
            let asked = link.ask(request.clone(), None).await;
            if asked.is_ok() || !link.is_lost() {
                return answered(asked);
            }
        }
        self.ask(request).await
    }

    /// Closes the bus and waits until it is closed.
    pub(crate) async fn close(&self) {
        self.stop();
        let mut state = self.state.clone();
        // An error means that the keeper is gone, which is the same.
        drop(state.wait_for(|state| matches!(state, State::Closed)).await);
    }
}

impl Shared {
    /// Tells the keeper to close.
    fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answered(asked: Result<Reply, Lost>) -> Result<Reply, Failure> {
    match asked? {
        Reply::Failed(failure) => Err(failure),
        reply => Ok(reply),
    }
}

/// An answer that does not fit the question: the two ends are not of one program.
pub(crate) fn unexpected(reply: &Reply) -> Failure {
    let kind = format!("{reply:?}");
    let kind = kind.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
    Failure::Failed(format!("the owner of the bus gave an answer of another kind ({kind})"))
}
