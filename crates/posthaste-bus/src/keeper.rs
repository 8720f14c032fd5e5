//! The thread that keeps a bus open: it owns the file and runs the engine, or is connected to the
//! process that does, and when that is lost begins again.

use std::path::PathBuf;
use std::thread;

use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::Engine;
use crate::engine::call::Call;
use crate::error::{self, Failure};
use crate::link::{Clock, Link};
use crate::options::BusOptions;
use crate::owner::{Card, Ownership};
use crate::shared::State;
use crate::store::Store;

/// What the keeper works with.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) path: PathBuf,
    pub(crate) options: BusOptions,
    pub(crate) clock: Clock,
    pub(crate) state: watch::Sender<State>,
    pub(crate) stop: mpsc::UnboundedReceiver<()>,
}

/// The engine of this process.
#[derive(Debug)]
pub(crate) struct Owned {
    ownership: Ownership,
    calls: mpsc::UnboundedSender<Call>,
    ended: oneshot::Receiver<Result<(), Failure>>,
}

impl Owned {
    /// Owns the file and starts the engine, unless another owns it.
    pub(crate) fn claim(
        path: &std::path::Path,
        options: &BusOptions,
    ) -> Result<Option<Self>, Failure> {
        let Some(mut ownership) = Ownership::claim(path)? else { return Ok(None) };
        ownership.announce(&Card {
            pid: std::process::id(),
            instance: instance()?,
            socket: None,
        })?;
        let store = Store::open(path, options.max_pages)?;
        let (calls, receiver) = mpsc::unbounded_channel();
        let engine = Engine::new(store, options.clone(), receiver)?;
        let (sender, ended) = oneshot::channel();
        thread::Builder::new()
            .name("posthaste-bus".to_owned())
            .spawn(move || drop(sender.send(engine.run())))
            .map_err(|error| error::in_file(path, "could not start a thread for", &error))?;
        Ok(Some(Self { ownership, calls, ended }))
    }
}

impl Keeper {
    /// Keeps the bus until it is stopped.
    pub(crate) async fn run(mut self, owned: Option<Owned>) {
        if let Some(owned) = owned {
            self.serve(owned).await;
        }
        self.state.send_replace(State::Closed);
    }

    /// Lets the engine run until it ends or the bus is stopped.
    async fn serve(&mut self, owned: Owned) {
        let Owned { ownership, calls, mut ended } = owned;
        self.state.send_replace(State::Up(Link::new(calls.clone(), self.clock.clone())));
        let end = tokio::select! {
            end = &mut ended => end,
            _ = self.stop.recv() => {
                drop(calls.send(Call::Stop));
                ended.await
            }
        };
        match end {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::error!(failure = failure.detail(), "the bus ended"),
            Err(_) => tracing::error!("the thread of the bus panicked"),
        }
        drop(ownership);
    }
}

/// A number that no other start of an owner has.
fn instance() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::Failed(format!("this system gives no random numbers: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
