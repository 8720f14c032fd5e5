//! A TCP proxy that misbehaves on demand: it passes bytes between clients and a server until it is
//! told to be slow, silent, forgetful or gone.
//!
//! It holds at most one portion of [`PORTION`] bytes per connection and direction; what does not
//! fit waits with the sender, as on a real line.

mod line;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::port;

/// The most that is read at once.
const PORTION: usize = 16 * 1024;
/// How long the port may be somebody else's when clients are to be accepted again.
const REOPEN: Duration = Duration::from_secs(10);
/// How often that is tried.
const LOOK: Duration = Duration::from_millis(10);

/// One of the two ways that bytes take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the clients to the server: questions.
    ToServer,
    /// From the server to the clients: replies.
    ToClient,
}

/// What is wrong in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    delay: Duration,
    stalled: bool,
    swallowing: bool,
    cut: Option<Cut>,
}

/// After so many bytes from its order on, or from the connection's begin if that is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    order: u64,
    bytes: u64,
}

/// How connections are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Close,
    Reset,
}

/// What all connections look at.
#[derive(Clone, Copy, Debug)]
struct Switches {
    upstream: SocketAddr,
    refusing: bool,
    to_server: Faults,
    to_client: Faults,
    /// How many times connections were ended; those that are older than the last time end so.
    endings: u64,
    ending: Ending,
    orders: u64,
}

impl Switches {
    fn faults(&self, direction: Direction) -> &Faults {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn faults_mut(&mut self, direction: Direction) -> &mut Faults {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

/// What has passed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that clients have made, ever.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes that came from clients, swallowed or not.
    pub to_server: u64,
    /// Bytes that came from the server, swallowed or not.
    pub to_client: u64,
    /// Bytes, of both directions, that were swallowed.
    pub swallowed: u64,
}

impl Counts {
    /// Bytes that came in one direction, swallowed or not.
    pub fn bytes(&self, direction: Direction) -> u64 {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }
}

/// A running proxy. Faults count for connections that are there and for those that come, until
/// [`heal`](Self::heal). Dropping it resets all connections and frees the port.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    switches: watch::Sender<Switches>,
    counts: watch::Sender<Counts>,
    /// Whether the port is open.
    door: watch::Receiver<bool>,
    doorman: JoinHandle<()>,
}

impl Proxy {
    /// Opens a port of its own for a server.
    ///
    /// # Errors
    /// If no port can be opened.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port::free_port())).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                opened => break opened?,
            }
        };
        let address = listener.local_addr()?;
        let (switches, seen) = watch::channel(Switches {
            upstream,
            refusing: false,
            to_server: Faults::default(),
            to_client: Faults::default(),
            endings: 0,
            ending: Ending::Close,
            orders: 0,
        });
        let counts = watch::Sender::new(Counts::default());
        let (opened, door) = watch::channel(true);
        let guarded = Door { address, listener: Some(listener), opened };
        let doorman = tokio::spawn(guarded.keep(seen, counts.clone()));
        Ok(Self { address, switches, counts, door, doorman })
    }

    /// In front of a server on a port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be opened.
    pub async fn before(port: u16) -> io::Result<Self> {
        Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of a server with the proxy in its place: `127.0.0.1:PORT` or `localhost:PORT`
    /// of the server is replaced, wherever it stands.
    pub fn url(&self, url: &str) -> String {
        let port = self.switches.borrow().upstream.port();
        let own = self.address.port();
        ["127.0.0.1", "localhost"].iter().fold(url.to_owned(), |url, host| {
            url.replace(&format!("{host}:{port}"), &format!("{host}:{own}"))
        })
    }

    /// Connections that come from now on go to another server.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.switches.send_modify(|switches| switches.upstream = upstream);
    }

    /// Passes each portion on only after this time.
    pub fn delay(&self, direction: Direction, time: Duration) {
        self.switches.send_modify(|switches| switches.faults_mut(direction).delay = time);
    }

    /// Neither reads nor passes anything, and keeps the connections open.
    pub fn stall(&self, direction: Direction) {
        self.switches.send_modify(|switches| switches.faults_mut(direction).stalled = true);
    }

    /// Reads everything and passes nothing. A connection that has lost bytes is of no use any more:
    /// [`reset`](Self::reset) it before healing.
    pub fn swallow(&self, direction: Direction) {
        self.switches.send_modify(|switches| switches.faults_mut(direction).swallowing = true);
    }

    /// Closes each connection after exactly so many more bytes in a direction; connections that
    /// come later are counted from their begin.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.switches.send_modify(|switches| {
            switches.orders += 1;
            switches.faults_mut(direction).cut = Some(Cut { order: switches.orders, bytes });
        });
    }

    /// Resets all connections that are open, on both sides, with nothing said before.
    pub fn reset(&self) {
        self.end(Ending::Reset);
    }

    /// Closes all connections that are open, on both sides, in order.
    pub fn close(&self) {
        self.end(Ending::Close);
    }

    fn end(&self, ending: Ending) {
        self.switches.send_modify(|switches| {
            switches.endings += 1;
            switches.ending = ending;
        });
    }

    /// Refuses connections that come from now on, as if no server was there. Returns when the port
    /// is closed.
    pub async fn refuse(&self) {
        self.switches.send_modify(|switches| switches.refusing = true);
        self.door_is(false).await;
    }

    /// Ends all faults. Connections that are open go on; bytes that were swallowed stay lost.
    /// Returns when connections are accepted again.
    ///
    /// # Panics
    /// If the port cannot be opened again because another process has taken it.
    pub async fn heal(&self) {
        self.switches.send_modify(|switches| {
            switches.refusing = false;
            switches.to_server = Faults::default();
            switches.to_client = Faults::default();
        });
        self.door_is(true).await;
    }

    async fn door_is(&self, open: bool) {
        let mut door = self.door.clone();
        let so = timeout(REOPEN, door.wait_for(|now| *now == open)).await;
        assert!(so.is_ok_and(|door| door.is_ok()), "the port of a proxy was taken meanwhile");
    }

    /// What has passed so far.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// How many connections clients have made, ever.
    pub fn connections(&self) -> u64 {
        self.counts().connections
    }

    /// How many bytes came in a direction, swallowed or not.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.counts().bytes(direction)
    }

    /// Waits until the counts are as wanted and returns them.
    ///
    /// # Panics
    /// If they are not so in time.
    pub async fn wait_for(&self, within: Duration, wanted: impl Fn(&Counts) -> bool) -> Counts {
        let mut seen = self.counts.subscribe();
        match timeout(within, seen.wait_for(|counts| wanted(counts))).await {
            // The proxy holds a sender, so that the channel is open.
            Ok(counts) => *counts.expect("the channel is open"),
            Err(_) => panic!("not within {within:?}; it is {:?}", self.counts()),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.doorman.abort();
    }
}

/// What clients come through.
struct Door {
    address: SocketAddr,
    /// Nothing while connections are refused.
    listener: Option<TcpListener>,
    opened: watch::Sender<bool>,
}

impl Door {
    /// Accepts connections and starts a line for each, until nobody can switch any more.
    async fn keep(mut self, mut seen: watch::Receiver<Switches>, counts: watch::Sender<Counts>) {
        let mut lines = JoinSet::new();
        loop {
            let refusing = seen.borrow_and_update().refusing;
            self.open_or_close(refusing).await;
            tokio::select! {
                changed = seen.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(_) = lines.join_next(), if !lines.is_empty() => {}
                // A client that was gone before it was accepted is no matter.
                client = self.next(refusing) => if let Ok(client) = client {
                    lines.spawn(line::serve(client, seen.clone(), counts.clone()));
                }
            }
        }
    }

    async fn open_or_close(&mut self, refusing: bool) {
        if refusing {
            self.listener = None;
        } else if self.listener.is_none() {
            // If the port is taken it is tried again soon; who waits for it has a deadline.
            self.listener = TcpListener::bind(self.address).await.ok();
        }
        self.opened.send_replace(self.listener.is_some());
    }

    async fn next(&self, refusing: bool) -> io::Result<TcpStream> {
        match &self.listener {
            Some(listener) => listener.accept().await.map(|(client, _)| client),
            None if refusing => std::future::pending().await,
            None => {
                sleep(LOOK).await;
                Err(io::ErrorKind::AddrInUse.into())
            }
        }
    }
}
