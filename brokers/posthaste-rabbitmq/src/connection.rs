//! One AMQP connection: opening it within a time, knowing whether it is up or blocked, and ending
//! it at once, whatever the client library or the broker is waiting for.
//!
//! The library's own recovery is off: a connection that is lost stays lost.

use std::net::Shutdown;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::tcp::{AsyncTcpStream, RustlsConnector, RustlsConnectorConfig};
use lapin::types::LongString;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;

use crate::address::Address;
use crate::error::{self, Failure};
use crate::options::RabbitMqOptions;

/// A second handle of the socket of a connection. The library has no way to end a connection whose
/// other side is silent; shutting the socket down ends it at once.
#[derive(Clone, Debug, Default)]
struct Cutter(Arc<Mutex<Option<std::net::TcpStream>>>);

impl Cutter {
    fn keep(&self, socket: Option<std::net::TcpStream>) {
        if let Ok(mut kept) = self.0.lock() {
            *kept = socket;
        }
    }

    fn cut(&self) {
        let socket = self.0.lock().ok().and_then(|mut kept| kept.take());
        if let Some(socket) = socket
            && let Err(error) = socket.shutdown(Shutdown::Both)
        {
            tracing::trace!(%error, "the socket was closed before");
        }
    }
}

/// Ends an attempt to connect that is given up.
struct Attempt {
    cutter: Cutter,
    is_over: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_over {
            self.cutter.cut();
        }
    }
}

/// A connection that was open once.
pub(crate) struct Wire {
    connection: Connection,
    blocked: Arc<Mutex<Option<String>>>,
    unreadable: Arc<AtomicBool>,
    cutter: Cutter,
    /// How long a request may take; a broker that is silent for longer is lost anyway.
    patience: Duration,
    pub(crate) user: String,
}

impl Wire {
    /// Connects and logs in. `purpose` is shown by the broker's own tools.
    pub(crate) async fn open(
        address: &Address,
        options: &RabbitMqOptions,
        purpose: &str,
    ) -> Result<Self, Failure> {
        let within = address.connect_within.unwrap_or(options.connect_within);
        let heartbeat = address.heartbeat.unwrap_or(options.heartbeat);
        let tls = connector(address, options)?;
        let cutter = Cutter::default();
        let mut attempt = Attempt { cutter: cutter.clone(), is_over: false };
        let runtime = lapin::runtime::default_runtime()
            .map_err(|error| error::in_connecting(&address.to_string(), &address.user, &error))?;
        let properties = ConnectionProperties::default()
            .with_connection_name(LongString::from(format!("posthaste {purpose}")));
        let (host, port) = (address.host.clone(), address.port);
        let kept = cutter.clone();
        let opening = Connection::connector(
            address.uri(heartbeat),
            runtime,
            async move |_, runtime| {
                let mut last = None;
                for place in tokio::net::lookup_host((host.as_str(), port)).await? {
                    match AsyncTcpStream::connect(&runtime, place).await {
                        Ok(plain) => {
                            if let AsyncTcpStream::Plain(stream) = &plain {
                                kept.keep(second_handle(stream.get_ref()));
                            }
                            return match &tls {
                                Some(tls) => Ok(plain.into_rustls(tls, &host).await?),
                                None => Ok(plain),
                            };
                        }
                        Err(error) => last = Some(error),
                    }
                }
                let none = || std::io::Error::other("the host has no address");
                Err(last.unwrap_or_else(none).into())
            },
            properties,
        );
        let connection = match timeout(within, opening).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return Err(error::in_connecting(&address.to_string(), &address.user, &error));
            }
            Err(_) => {
                return Err(Failure::Unavailable(format!(
                    "cannot connect to {address}: it did not answer within {within:?}"
                )));
            }
        };
        attempt.is_over = true;
        let (blocked, unreadable) = watch(&connection);
        let patience = 2 * heartbeat + Duration::from_secs(1);
        Ok(Self { connection, blocked, unreadable, cutter, patience, user: address.user.clone() })
    }

    /// Whether it can be used, as far as this side knows.
    pub(crate) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether it ended because something that the broker sent could not be read, as far as that
    /// is known by now.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Why the broker takes nothing from publishers now, if it does not.
    pub(crate) fn blocked(&self) -> Option<String> {
        if !self.connection.status().blocked() {
            return None;
        }
        let reason = self.blocked.lock().ok().and_then(|reason| reason.clone());
        Some(reason.unwrap_or_else(|| "it gave no reason".to_owned()))
    }

    /// A new channel.
    pub(crate) async fn channel(&self) -> Result<Channel, Failure> {
        self.ask("open a channel", self.connection.create_channel()).await
    }

    /// Waits for the broker's answer to a request, but not for ever.
    pub(crate) async fn ask<T>(
        &self,
        what: &str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Failure> {
        match timeout(self.patience, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error::in_request(what, &error)),
            Err(_) => Err(Failure::Unavailable(format!(
                "the broker did not answer within {:?} when asked to {what}",
                self.patience
            ))),
        }
    }

    /// How long a request may take.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Says goodbye, and does not wait long for the answer.
    pub(crate) async fn close(&self) {
        let bye = self.connection.close(200, "bye".into());
        if let Ok(Err(error)) = timeout(Duration::from_secs(2), bye).await {
            tracing::trace!(%error, "the connection was closed before");
        }
        self.cut();
    }

    /// Ends it on this side at once. The second handle keeps the socket of a lost connection open,
    /// and with it whatever the broker still believes to be in our hands.
    pub(crate) fn cut(&self) {
        self.cutter.cut();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if !self.is_up() {
            self.cut();
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}

/// Keeps the reason of a blockade, and whether the connection ended because something could not be
/// read; ends with the connection.
fn watch(connection: &Connection) -> (Arc<Mutex<Option<String>>>, Arc<AtomicBool>) {
    let (blocked, unreadable) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
    let flag = Arc::clone(&unreadable);
    let (mut events, kept) = (Box::pin(connection.events_listener()), Arc::downgrade(&blocked));
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let Some(kept) = kept.upgrade() else { return };
            let reason = match event {
                Event::ConnectionBlocked(reason) => {
                    tracing::warn!(%reason, "the broker has blocked publishers");
                    Some(reason)
                }
                Event::ConnectionUnblocked => {
                    tracing::info!("the broker takes messages again");
                    None
                }
                Event::Error(error) if crate::error::is_unreadable(&error) => {
                    flag.store(true, Ordering::Relaxed);
                    continue;
                }
                _ => continue,
            };
            if let Ok(mut kept) = kept.lock() {
                *kept = reason;
            }
        }
    });
    (blocked, unreadable)
}

#[cfg(unix)]
fn second_handle(stream: &tokio::net::TcpStream) -> Option<std::net::TcpStream> {
    use std::os::fd::AsFd;
    stream.as_fd().try_clone_to_owned().ok().map(std::net::TcpStream::from)
}

#[cfg(windows)]
fn second_handle(stream: &tokio::net::TcpStream) -> Option<std::net::TcpStream> {
    use std::os::windows::io::AsSocket;
    stream.as_socket().try_clone_to_owned().ok().map(std::net::TcpStream::from)
}

/// What verifies the broker: the system's certificates, or only those of the file that was given.
fn connector(
    address: &Address,
    options: &RabbitMqOptions,
) -> Result<Option<RustlsConnector>, Failure> {
    if !address.is_tls {
        return Ok(None);
    }
    let config = match address.ca_file.as_ref().or(options.ca_file.as_ref()) {
        Some(path) => RustlsConnectorConfig::default().with_parsable_certificates(read(path)?),
        None => RustlsConnectorConfig::new_with_native_certs().map_err(|error| {
            Failure::Failed(format!(
                "this system has no certificates to verify a broker with ({error}): install \
                 ca-certificates, or name a file with the broker's CA"
            ))
        })?,
    };
    config.connector_with_no_client_auth().map(Some).map_err(|error| {
        Failure::Failed(format!("cannot prepare an encrypted connection: {error}"))
    })
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong = |why: String| {
        let shown = path.display();
        Failure::Failed(format!("cannot read certificates from {shown} ({why}): name a PEM file"))
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("there are none in it".to_owned()));
    }
    Ok(certificates)
}
