//! SIGINT and SIGTERM: the first asks for an orderly end, the second gets an immediate one.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
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
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            either(&mut interrupt, &mut terminate).await;
            sender.send_replace(true);
            either(&mut interrupt, &mut terminate).await;
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

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
