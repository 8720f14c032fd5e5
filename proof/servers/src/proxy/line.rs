//! One connection through the proxy, with its two directions.

use std::io;
use std::ops::ControlFlow;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Counts, Cut, Direction, Ending, PORTION, Switches};

/// Counts a connection as open for as long as it lives.
struct Open(watch::Sender<Counts>);

impl Open {
    fn new(counts: &watch::Sender<Counts>) -> Self {
        counts.send_modify(|counts| {
            counts.connections += 1;
            counts.open += 1;
        });
        Self(counts.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|counts| counts.open -= 1);
    }
}

/// Passes bytes between a client and the server until one of them, or an order, ends it.
pub(super) async fn serve(
    mut client: TcpStream,
    mut seen: watch::Receiver<Switches>,
    counts: watch::Sender<Counts>,
) {
    let open = Open::new(&counts);
    let Switches { upstream, endings, .. } = *seen.borrow_and_update();
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        drop(end(&client, Ending::Reset));
        return;
    };
    // Both are sockets of this machine: a refusal costs time and breaks nothing.
    drop(client.set_nodelay(true).and_then(|()| server.set_nodelay(true)));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = Pump::new(Direction::ToServer, from_client, to_server, &seen, &counts);
    let down = Pump::new(Direction::ToClient, from_server, to_client, &seen, &counts);
    let ending = tokio::select! {
        ending = both(up.run(), down.run()) => ending,
        order = seen.wait_for(|switches| switches.endings != endings) => {
            order.map_or(Ending::Reset, |switches| switches.ending)
        }
    };
    // A socket that has ended already cannot be told how.
    drop(end(&client, ending));
    drop(end(&server, ending));
    drop((client, server));
    drop(open);
}

fn end(socket: &TcpStream, ending: Ending) -> io::Result<()> {
    match ending {
        Ending::Close => Ok(()),
        Ending::Reset => socket.set_zero_linger(),
    }
}

/// Both directions: closed when both have come to their end, or at once when one was cut or broke.
async fn both(
    up: impl Future<Output = ControlFlow<Ending>>,
    down: impl Future<Output = ControlFlow<Ending>>,
) -> Ending {
    tokio::pin!(up, down);
    let first = tokio::select! {
        end = &mut up => (end, true),
        end = &mut down => (end, false),
    };
    let last = match first {
        (ControlFlow::Break(ending), _) => return ending,
        (ControlFlow::Continue(()), true) => down.await,
        (ControlFlow::Continue(()), false) => up.await,
    };
    match last {
        ControlFlow::Break(ending) => ending,
        ControlFlow::Continue(()) => Ending::Close,
    }
}

/// One direction of a connection.
struct Pump<'a> {
    direction: Direction,
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    seen: watch::Receiver<Switches>,
    counts: watch::Sender<Counts>,
    /// The cut that is counted, and how many bytes it lets pass.
    cut: Option<(Cut, u64)>,
}

impl<'a> Pump<'a> {
    fn new(
        direction: Direction,
        reader: ReadHalf<'a>,
        writer: WriteHalf<'a>,
        seen: &watch::Receiver<Switches>,
        counts: &watch::Sender<Counts>,
    ) -> Self {
        let (seen, counts) = (seen.clone(), counts.clone());
        Self { direction, reader, writer, seen, counts, cut: None }
    }

    /// Until the sender has sent all, which is passed on as well, or something ends the connection.
    async fn run(mut self) -> ControlFlow<Ending> {
        let mut portion = vec![0; PORTION];
        loop {
            self.wait_while_stalled().await;
            let room = self.room();
            if room == 0 {
                return ControlFlow::Break(Ending::Close);
            }
            let size = room.min(PORTION);
            let read = tokio::select! {
                read = self.reader.read(&mut portion[..size]) => read,
                _ = self.seen.changed() => continue,
            };
            let size = match read {
                Ok(0) => break,
                Ok(size) => size,
                Err(_) => return ControlFlow::Break(Ending::Reset),
            };
            if self.pass(&portion[..size]).await.is_err() {
                return ControlFlow::Break(Ending::Reset);
            }
        }
        // The receiver may have ended already.
        drop(self.writer.shutdown().await);
        ControlFlow::Continue(())
    }

    async fn wait_while_stalled(&mut self) {
        let direction = self.direction;
        // If nobody can switch any more, the connection is about to be ended.
        drop(self.seen.wait_for(|switches| !switches.faults(direction).stalled).await);
    }

    /// How many bytes may pass before the connection is cut.
    fn room(&mut self) -> usize {
        let wanted = self.seen.borrow_and_update().faults(self.direction).cut;
        if self.cut.map(|(cut, _)| cut) != wanted {
            self.cut = wanted.map(|cut| (cut, cut.bytes));
        }
        self.cut.map_or(usize::MAX, |(_, left)| usize::try_from(left).unwrap_or(usize::MAX))
    }

    async fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let delay = self.seen.borrow().faults(self.direction).delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        self.wait_while_stalled().await;
        let swallowing = self.seen.borrow().faults(self.direction).swallowing;
        if !swallowing {
            self.writer.write_all(bytes).await?;
        }
        if let Some((_, left)) = &mut self.cut {
            *left = left.saturating_sub(size);
        }
        let direction = self.direction;
        self.counts.send_modify(|counts| {
            match direction {
                Direction::ToServer => counts.to_server += size,
                Direction::ToClient => counts.to_client += size,
            }
            counts.swallowed += if swallowing { size } else { 0 };
        });
        Ok(())
    }
}
