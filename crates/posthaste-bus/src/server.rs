//! The owner's end of the socket: lets other processes ask the engine. A client that says nonsense
//! or does not listen loses its connection or waits; it never holds up the engine or the others.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::engine::call::{Answer, Call, Outbound, Parting, Sink};
use crate::error::{self, Failure};
use crate::owner::{Card, beside};
use crate::protocol::Request;
use crate::wire::{self, Down, Up};

/// Bytes of requests of one client that may be on their way, in KiB.
const ROOM: u32 = 2 * (wire::MOST / 1024);
/// Bytes of a path that every system takes for a socket.
const PATH: usize = 100;
/// How long a client may take to say who it is, and to read the last answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket that is listened on.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Which file it is, whatever has its name later.
    node: (u64, u64),
    /// Whose processes may connect.
    user: u32,
    instance: String,
}

impl Server {
    /// Listens beside the file, or under a short name elsewhere if that path is too long. What an
    /// owner that was killed has left behind is replaced.
    pub(crate) fn listen(
        database: &Path,
        instance: &str,
        before: Option<Card>,
    ) -> Result<Self, Failure> {
        let wanted = beside(database, "sock");
        let path = if wanted.as_os_str().len() <= PATH {
            wanted
        } else {
            let folder =
                std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
            folder.join(short_name(instance))
        };
        remove_stale(before);
        remove_socket(&path, None);
        let failed = |error: &io::Error| error::in_file(&path, "could not listen on", error);
        let listener = UnixListener::bind(&path).map_err(|error| failed(&error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| failed(&error))?;
        let found = std::fs::metadata(&path).map_err(|error| failed(&error))?;
        let instance = instance.to_owned();
        Ok(Self { listener, path, node: (found.dev(), found.ino()), user: found.uid(), instance })
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until told to end, then lets the clients read what they were answered.
    pub(crate) async fn run(
        self,
        calls: mpsc::UnboundedSender<Call>,
        closing: watch::Receiver<bool>,
    ) {
        let mut is_closing = closing.clone();
        let mut connections = JoinSet::new();
        let mut client = 0;
        loop {
            tokio::select! {
                biased;
                () = told(&mut is_closing) => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        client += 1;
                        let calls = calls.clone();
                        let (instance, user) = (self.instance.clone(), self.user);
                        let closing = closing.clone();
                        connections.spawn(async move {
                            if let Some(halves) = greet(stream, user, &instance).await {
                                serve(halves, client, calls, closing).await;
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(calls);
        remove_socket(&self.path, Some(self.node));
        while connections.join_next().await.is_some() {}
    }
}

/// Waits until the bus closes. An error means that its keeper is gone, which is the same.
async fn told(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closing| *closing).await);
}

/// Removes the socket under a short name that an owner that was killed has left behind. What the
/// card says of other places is not believed: it may have been copied with the bus file.
fn remove_stale(before: Option<Card>) {
    let Some(Card { instance, socket: Some(path), .. }) = before else { return };
    let is_short = path.file_name().is_some_and(|name| *name == *short_name(&instance));
    let refuses = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_short && std::os::unix::net::UnixStream::connect(&path).is_err_and(refuses) {
        remove_socket(&path, None);
    }
}

fn short_name(instance: &str) -> String {
    format!("posthaste-{instance}.sock")
}

/// Removes a socket, if it is still this one, and nothing that is not a socket.
fn remove_socket(path: &Path, node: Option<(u64, u64)>) {
    match std::fs::symlink_metadata(path) {
        Ok(found)
            if found.file_type().is_socket()
                && node.is_none_or(|node| node == (found.dev(), found.ino())) =>
        {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(%error, path = %path.display(), "could not remove a socket");
            }
        }
        _ => {}
    }
}

type Halves = (BufReader<OwnedReadHalf>, BufWriter<OwnedWriteHalf>);

/// Says who is here and hears who is there; `None` if that is nobody we talk to.
async fn greet(stream: UnixStream, user: u32, instance: &str) -> Option<Halves> {
    let peer = stream.peer_cred().map(|peer| peer.uid());
    if !peer.as_ref().is_ok_and(|uid| *uid == user || *uid == 0) {
        tracing::warn!(?peer, "a process of another user tried to reach the bus");
        return None;
    }
    let (reader, writer) = stream.into_split();
    let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
    let greeted = tokio::time::timeout(PATIENCE, async {
        wire::greet(&mut writer, std::process::id()).await?;
        wire::tell(&mut writer, instance).await?;
        wire::hear(&mut reader).await
    });
    match greeted.await {
        Ok(Ok(greeting)) if greeting.version == wire::VERSION => Some((reader, writer)),
        other => {
            tracing::warn!(?other, "a client of the bus did not greet as this version does");
            None
        }
    }
}

/// Tells the engine that a client is gone, also where the task that serves it panics.
struct Presence {
    client: u64,
    calls: mpsc::UnboundedSender<Call>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        // An engine that is gone has nothing to take back.
        self.calls.send(Call::Gone { client: self.client }).unwrap_or_default();
    }
}

/// Serves one client until it is gone, says nonsense, or the bus closes.
async fn serve(
    (mut reader, writer): Halves,
    client: u64,
    calls: mpsc::UnboundedSender<Call>,
    mut closing: watch::Receiver<bool>,
) {
    let presence = Presence { client, calls: calls.clone() };
    let (outbound, partings) = Outbound::new();
    let meter = outbound.meter();
    let engine = calls.clone();
    let mut writing = tokio::spawn(async move {
        let written = write_all(writer, partings, |bytes| {
            if meter.sent(bytes) {
                // An engine that is gone has nothing to hand out.
                engine.send(Call::Drained).unwrap_or_default();
            }
        });
        written.await
    });
    let ended = tokio::select! {
        biased;
        () = told(&mut closing) => Ok(true),
        read = read_all(&mut reader, client, &calls, outbound) => read.map(|()| true),
        written = &mut writing => {
            written.unwrap_or_else(|error| Err(io::Error::other(error))).map(|()| false)
        }
    };
    // Where the bus closes the engine still answers; a client that is at its end is gone after
    // what it has asked, and waits for its answers.
    let is_closing = *closing.borrow();
    let presence = if is_closing {
        Some(presence)
    } else {
        drop(presence);
        None
    };
    match ended {
        Ok(true) => drop(tokio::time::timeout(PATIENCE, &mut writing).await),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(%error, client, "the connection of a client of the bus was closed");
        }
    }
    writing.abort();
    drop(presence);
}

async fn read_all(
    reader: &mut BufReader<OwnedReadHalf>,
    client: u64,
    calls: &mpsc::UnboundedSender<Call>,
    outbound: Outbound,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(usize::try_from(ROOM).unwrap_or(usize::MAX)));
    while let Some((Up { number, request }, size)) = wire::read(reader).await? {
        let kilobytes = u32::try_from(size / 1024).unwrap_or(ROOM).saturating_add(1).min(ROOM);
        let permit = Arc::clone(&room).acquire_many_owned(kilobytes).await;
        let permit = permit.map_err(io::Error::other)?;
        let sink = match &request {
            Request::Attach { consumer, .. } => Some(Sink::There(*consumer, outbound.clone())),
            _ => None,
        };
        let answer = Answer::There(number, outbound.clone(), permit);
        if calls.send(Call::Request { client, request, answer, sink }).is_err() {
            break;
        }
        outbound.room().await;
    }
    Ok(())
}

async fn write_all(
    mut writer: BufWriter<OwnedWriteHalf>,
    mut partings: mpsc::UnboundedReceiver<Parting>,
    sent: impl Fn(usize),
) -> io::Result<()> {
    while let Some(parting) = partings.recv().await {
        let size = parting.size();
        let down = match parting {
            Parting::Reply(number, reply) => Down::Reply { number, reply },
            Parting::Batch(consumer, batch) => Down::Batch { consumer, batch },
        };
        writer.write_all(&wire::frame(&down)?).await?;
        if partings.is_empty() {
            writer.flush().await?;
        }
        sent(size);
    }
    writer.flush().await?;
    writer.shutdown().await
}

#[cfg(test)]
mod tests;
