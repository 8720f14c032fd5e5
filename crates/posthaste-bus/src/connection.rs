//! A client's end of the socket: takes the calls of this process' handles to the owner and brings
//! the answers back. When it ends, everybody who waits learns that nobody knows.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use crate::engine::call::{Answer, Call, Sink};
use crate::error::Failure;
use crate::owner::read_card;
use crate::protocol::Request;
use crate::wire::{self, Down, Up};

/// How long an owner may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to the owner.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: BufWriter<OwnedWriteHalf>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Routes {
    answers: HashMap<u64, Answer>,
    sinks: HashMap<u64, Sink>,
}

impl Connection {
    /// Connects to whoever says in the lock file that it owns the bus file.
    pub(crate) async fn open(database: &Path) -> Result<Self, Failure> {
        let shown = database.display();
        let Some(card) = read_card(database) else {
            return Err(Failure::Unavailable(format!(
                "another process is about to open bus file {shown}"
            )));
        };
        let pid = card.pid;
        let Some(socket) = &card.socket else {
            return Err(Failure::Unavailable(format!(
                "process {pid} owns bus file {shown} but does not listen: it is starting or \
                 ending, or could not open its socket (its log says why)"
            )));
        };
        let connecting = tokio::time::timeout(PATIENCE, async {
            let stream = UnixStream::connect(socket).await?;
            let (peer, owner) = (stream.peer_cred()?.uid(), std::fs::metadata(database)?.uid());
            if peer != owner && peer != 0 {
                let text = format!("user {peer} listens there, and the file is user {owner}'s");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            let (reader, writer) = stream.into_split();
            let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
            wire::greet(&mut writer, std::process::id()).await?;
            let greeting = wire::hear(&mut reader).await?;
            if greeting.version == wire::VERSION && !wire::is(&mut reader, &card.instance).await? {
                // It has changed since the card was read, or somebody else listens there.
                return Err(io::ErrorKind::NotConnected.into());
            }
            Ok::<_, io::Error>((greeting, Self { reader, writer }))
        });
        let socket = socket.display();
        match connecting.await {
            Ok(Ok((greeting, connection))) if greeting.version == wire::VERSION => Ok(connection),
            Ok(Ok((greeting, _))) => Err(Failure::Failed(format!(
                "process {} owns bus file {shown} and speaks version {} of its protocol, this \
                 program version {}: run the same posthaste in both",
                greeting.pid,
                greeting.version,
                wire::VERSION
            ))),
            Ok(Err(error)) => {
                Err(unreachable(&error, pid, &shown.to_string(), &socket.to_string()))
            }
            Err(_) => Err(Failure::Unavailable(format!(
                "process {pid} owns bus file {shown} and does not answer on {socket}: restart it"
            ))),
        }
    }

    /// Carries calls until the connection ends or the bus is stopped; then what was asked before
    /// is still sent, and answered if that does not take long.
    pub(crate) async fn run(
        self,
        calls: mpsc::UnboundedReceiver<Call>,
        mut stop: watch::Receiver<bool>,
    ) {
        let routes = Mutex::new(Routes::default());
        let mut late = stop.clone();
        let carrying = async {
            let mut reading = pin!(read_all(self.reader, &routes));
            tokio::select! {
                biased;
                written = write_all(self.writer, calls, &routes, &mut stop) => {
                    // The other half stays open: dropping it would close the stream.
                    let _writer = written?;
                    reading.await
                }
                read = &mut reading => read,
            }
        };
        let ended = tokio::select! {
            biased;
            ended = carrying => ended,
            () = async {
                told(&mut late).await;
                tokio::time::sleep(PATIENCE).await;
            } => Ok(()),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "the connection to the owner of the bus was lost");
        }
        // The calls' end is dropped by now, so that nothing can be added to the routes any more.
        let mut routes = lock(&routes);
        routes.answers.clear();
        routes.sinks.clear();
    }
}

/// Waits until the bus is stopped. An error means that no handle is left, which is the same.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

fn unreachable(error: &io::Error, pid: u32, shown: &str, socket: &str) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::Unavailable(format!(
                "process {pid} owns bus file {shown} but its socket {socket} is gone: restart it"
            ))
        }
        io::ErrorKind::PermissionDenied => Failure::Failed(format!(
            "process {pid} of another user owns bus file {shown}: run both as the same user"
        )),
        _ => Failure::Unavailable(format!(
            "process {pid} owns bus file {shown} and cannot be reached on {socket}: {error}"
        )),
    }
}

/// A lock that a panic has left is as good as any: the maps are whole after every step.
fn lock(routes: &Mutex<Routes>) -> MutexGuard<'_, Routes> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_all(
    mut writer: BufWriter<OwnedWriteHalf>,
    mut calls: mpsc::UnboundedReceiver<Call>,
    routes: &Mutex<Routes>,
    stop: &mut watch::Receiver<bool>,
) -> io::Result<BufWriter<OwnedWriteHalf>> {
    let (mut last, mut is_stopped) = (0, false);
    loop {
        let next = tokio::select! {
            biased;
            () = told(stop), if !is_stopped => {
                // What is there already is still sent.
                calls.close();
                is_stopped = true;
                continue;
            }
            next = calls.recv() => next,
        };
        let Some(call) = next else { break };
        let Call::Request { request, answer, sink, .. } = call else { continue };
        let number = match answer {
            Answer::Nowhere => 0,
            answer => {
                last += 1;
                lock(routes).answers.insert(last, answer);
                last
            }
        };
        match (&request, sink) {
            (Request::Attach { consumer, .. }, Some(sink)) => {
                lock(routes).sinks.insert(*consumer, sink);
            }
            (Request::Detach { consumer, .. }, _) => {
                lock(routes).sinks.remove(consumer);
            }
            _ => {}
        }
        writer.write_all(&wire::frame(&Up { number, request })?).await?;
        if calls.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await?;
    Ok(writer)
}

async fn read_all(mut reader: BufReader<OwnedReadHalf>, routes: &Mutex<Routes>) -> io::Result<()> {
    while let Some((down, _)) = wire::read(&mut reader).await? {
        match down {
            Down::Reply { number, reply } => {
                let answer = lock(routes).answers.remove(&number);
                if let Some(answer) = answer {
                    answer.give(reply);
                }
            }
            Down::Batch { consumer, batch } => {
                let sink = lock(routes).sinks.get(&consumer).cloned();
                // A consumer that is gone has said so to the owner, which takes back what it has
                // not taken.
                if let Some(Err(lost)) = sink.map(|sink| sink.send(Instant::now(), batch)) {
                    tracing::debug!(
                        count = lost.len(),
                        "messages came for a consumer that is gone"
                    );
                }
            }
        }
    }
    Ok(())
}
