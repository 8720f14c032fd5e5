//! The file in this process' hands: the lock, the engine's thread, and the socket for the others.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::engine::Engine;
use crate::engine::call::Call;
use crate::error::{self, Failure};
use crate::options::BusOptions;
use crate::owner::{Card, Ownership, read_card};
use crate::store::Store;

/// Time between two attempts to listen.
const AGAIN: Duration = Duration::from_secs(1);

/// The engine of this process, and what makes it the only one.
#[derive(Debug)]
pub(crate) struct Owned {
    ownership: Ownership,
    path: PathBuf,
    card: Card,
    before: Option<Card>,
    calls: mpsc::UnboundedSender<Call>,
    ended: oneshot::Receiver<Result<(), Failure>>,
}

impl Owned {
    /// Owns the file and starts the engine, unless another owns it.
    pub(crate) fn claim(path: &Path, options: &BusOptions) -> Result<Option<Self>, Failure> {
        let Some(mut ownership) = Ownership::claim(path)? else { return Ok(None) };
        // Only its owner opens the file, and in a process that has it open already nobody else
        // does: closing it would end the locks that SQLite has on it.
        if let Err(failure) = Store::recognise(path) {
            ownership.abandon();
            return Err(failure);
        }
        let before = read_card(path);
        let card = Card { pid: std::process::id(), instance: instance()?, socket: None };
        if let Err(failure) = ownership.announce(&card) {
            tracing::warn!(failure = failure.detail(), "could not say who owns the bus");
        }
        let store = Store::open(path, options.max_pages, &card.instance)?;
        let (calls, receiver) = mpsc::unbounded_channel();
        let engine = Engine::new(store, options.clone(), receiver)?;
        let (sender, ended) = oneshot::channel();
        thread::Builder::new()
            .name("posthaste-bus".to_owned())
            .spawn(move || drop(sender.send(engine.run())))
            .map_err(|error| error::in_file(path, "could not start a thread for", &error))?;
        let path = path.to_owned();
        Ok(Some(Self { ownership, path, card, before, calls, ended }))
    }

    /// Where the engine takes calls.
    pub(crate) fn calls(&self) -> mpsc::UnboundedSender<Call> {
        self.calls.clone()
    }

    /// Lets the engine run, and others reach it, until it ends or `stop` does; then closes the
    /// socket and the file in that order, and gives the lock back last.
    pub(crate) async fn serve(mut self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let mut door = Door::open(&mut self);
        let mut stop = pin!(stop);
        let end = loop {
            tokio::select! {
                biased;
                end = &mut self.ended => break end,
                () = &mut stop => {
                    door.closing();
                    // An engine that is gone has ended.
                    self.calls.send(Call::Stop).unwrap_or_default();
                    break (&mut self.ended).await;
                }
                () = tokio::time::sleep(AGAIN), if !door.is_open() => {
                    door = Door::open(&mut self);
                }
            }
        };
        drop(self.calls);
        let card = Card { socket: None, ..self.card };
        let announced = self.ownership.announce(&card);
        door.close().await;
        drop(self.ownership);
        if let Err(failure) = announced {
            tracing::warn!(failure = failure.detail(), "could not say that the bus is closing");
        }
        match end {
            Ok(ended) => ended,
            Err(_) => Err(Failure::Failed("the thread of the bus panicked".to_owned())),
        }
    }
}

/// The socket, where there is one.
#[cfg(unix)]
struct Door {
    server: Option<tokio::task::JoinHandle<()>>,
    closing: tokio::sync::watch::Sender<bool>,
}

#[cfg(unix)]
impl Door {
    /// Listens and says where. Without a socket this process works alone, and says so.
    fn open(owned: &mut Owned) -> Self {
        let (closing, is_closing) = tokio::sync::watch::channel(false);
        let before = owned.before.take();
        let listening = crate::server::Server::listen(&owned.path, &owned.card.instance, before);
        let announced = listening.and_then(|server| {
            let socket = Some(server.path().to_owned());
            let card = Card { socket, ..owned.card.clone() };
            owned.ownership.announce(&card).map(|()| server)
        });
        let server = match announced {
            Ok(server) => Some(tokio::spawn(server.run(owned.calls(), is_closing))),
            Err(failure) => {
                tracing::error!(failure = failure.detail(), "other processes cannot use the bus");
                None
            }
        };
        Self { server, closing }
    }

    fn is_open(&self) -> bool {
        self.server.is_some()
    }

    /// No more is taken from anybody.
    fn closing(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until the clients have their answers.
    async fn close(self) {
        self.closing();
        if let Some(server) = self.server
            && let Err(error) = server.await
        {
            tracing::error!(%error, "the socket of the bus ended badly");
        }
    }
}

#[cfg(not(unix))]
struct Door;

#[cfg(not(unix))]
impl Door {
    fn open(_owned: &mut Owned) -> Self {
        Self
    }

    fn is_open(&self) -> bool {
        true
    }

    fn closing(&self) {}

    #[expect(clippy::unused_async, reason = "there is something to wait for on other systems")]
    async fn close(self) {}
}

/// A number that no other start of an owner has.
fn instance() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::Failed(format!("this system gives no random numbers: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
