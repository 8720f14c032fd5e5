//! SIGINT and SIGTERM: the first asks for an orderly end, the second gets an immediate one.

use std::io;

use tokio::sync::watch;

use crate::failure::Failure;

/// Tells when somebody has asked the program to end. Clones tell the same.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let refused =
            |error: io::Error| Failure::failed(format!("cannot listen to signals: {error}"));
        let mut signals = Signals::new().map_err(refused)?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            signals.next().await;
            sender.send_replace(true);
            signals.next().await;
            std::process::exit(1);
        });
        Ok(Self(receiver))
    }

    /// Returns once somebody has asked; at once if that was before.
    pub(crate) async fn requested(&mut self) {
        // The sender lives as long as the program, so an error would mean that the program ends.
        drop(self.0.wait_for(|requested| *requested).await);
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Where there is no SIGTERM, Ctrl-C is all there is.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
