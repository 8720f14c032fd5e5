//! The hint that something was committed: at once for commits through this handle, and within
//! some milliseconds for all others, by asking SQLite for its data version.
//!
//! The data version is a number that SQLite changes for one connection whenever another
//! connection, of whatever process, has committed. One connection that never writes therefore sees
//! every commit. Asking wakes a thread twice, so it is done when the files look touched, and now
//! and then regardless. One of those who wait does it; what was last seen is kept outside of their
//! futures, so that dropping one loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::outbox::Signal;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::{Mutex, watch};

use crate::Sqlite;
use crate::watch::Watch;

/// How long to wait before looking for a file again that could not be opened.
const ABSENT: Duration = Duration::from_millis(250);

/// How far one handle has taken note of the changes.
#[derive(Debug, Default)]
pub(crate) struct Seen(AtomicU64);

impl Clone for Seen {
    /// The copy starts where the original is.
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Acquire)))
    }
}

/// The changes of one database, counted.
#[derive(Debug)]
pub(crate) struct Changes {
    count: watch::Sender<u64>,
    observer: Arc<Mutex<Observer>>,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self { count: watch::Sender::new(1), observer: Arc::default() }
    }

    /// Counts a change.
    pub(crate) fn wake(&self) {
        self.count.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until there is a change that `seen` has not noted, and notes it.
    async fn next(&self, seen: &Seen, options: &SqliteConnectOptions) {
        let mut count = self.count.subscribe();
        loop {
            let now = *count.borrow_and_update();
            if seen.0.swap(now, Ordering::AcqRel) != now {
                return;
            }
            tokio::select! {
                // The sender lives as long as this handle, so an error cannot happen; looking
                // again would be the right answer to it.
                _ = count.changed() => {}
                () = self.observe(options) => {}
            }
        }
    }

    /// Asks SQLite until it names another version, unless another waiter does so already.
    async fn observe(&self, options: &SqliteConnectOptions) {
        let mut observer = self.observer.lock().await;
        loop {
            match observer.look(options).await {
                Ok(true) => return self.wake(),
                Ok(false) => observer.rest().await,
                Err(error) => {
                    tracing::debug!(%error, "the data version cannot be read");
                    observer.connection = None;
                    tokio::time::sleep(ABSENT).await;
                }
            }
        }
    }
}

/// The connection that sees the commits of all others.
#[derive(Debug, Default)]
struct Observer {
    connection: Option<SqliteConnection>,
    watch: Option<Watch>,
    /// What it last said; `None` until it has been asked once.
    version: Option<i64>,
}

impl Observer {
    /// Whether something was committed since the last look. What was committed before the first
    /// look of a connection is not known, so that one says yes.
    async fn look(&mut self, options: &SqliteConnectOptions) -> Result<bool, sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.version = None;
                let connection = options.clone().create_if_missing(false).connect().await?;
                self.watch = Some(Watch::start(options.get_filename())?);
                none.insert(connection)
            }
        };
        let version = sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await?;
        Ok(self.version.replace(version) != Some(version))
    }

    /// Waits until it is worth asking again.
    async fn rest(&self) {
        match &self.watch {
            Some(watch) => watch.touched().await,
            None => tokio::time::sleep(ABSENT).await,
        }
    }
}

#[async_trait]
impl Signal for Sqlite {
    async fn changed(&self) {
        let options = self.store.connect_options();
        self.store.changes.next(&self.seen, &options).await;
    }

    fn wake(&self) {
        self.store.changes.wake();
    }
}
