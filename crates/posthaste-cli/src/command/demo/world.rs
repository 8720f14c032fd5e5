//! The folder in which the demo takes place, and the files in it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use posthaste_core::database::Schema;
use posthaste_sqlite::{Options, Sqlite};
use tempfile::TempDir;

use crate::failure::{Failure, sentence};

use super::{ledger, writers};

/// Who receives the messages of the shop.
pub(super) const CONSUMERS: [&str; 2] = ["shipping", "billing"];
/// Where the messages of the shop go.
pub(super) const TOPIC: &str = "orders";

/// How long this process waits for the lock of a file.
const PATIENCE: Duration = Duration::from_secs(10);

/// The folder as this process sees it. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct World {
    files: Files,
    app: Sqlite,
    consumers: [Sqlite; CONSUMERS.len()],
    folder: Arc<Mutex<Option<TempDir>>>,
}

impl World {
    /// Makes a new folder and the databases in it.
    ///
    /// # Errors
    /// If there is no room for it or it cannot be written.
    pub(super) async fn create() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("posthaste-demo-").tempdir();
        let folder = folder.map_err(|error| no_room(&error.to_string()))?;
        let files = Files(folder.path().to_path_buf());
        let app = open(&files.app_url(), true)?;
        prepare(&app, writers::TABLES).await?;
        let consumers = CONSUMERS.map(|name| open(&files.consumer_url(name), true));
        let [shipping, billing] = consumers;
        let consumers = [shipping?, billing?];
        for consumer in &consumers {
            prepare(consumer, ledger::TABLES).await?;
        }
        let folder = Arc::new(Mutex::new(Some(folder)));
        Ok(Self { files, app, consumers, folder })
    }

    /// The names of the files.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// The shop's database.
    pub(super) fn app(&self) -> &Sqlite {
        &self.app
    }

    /// The consumers' databases, with their names.
    pub(super) fn consumers(&self) -> impl Iterator<Item = (&'static str, &Sqlite)> {
        CONSUMERS.into_iter().zip(&self.consumers)
    }

    /// Closes the databases and removes the folder, or returns where it is kept.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) async fn close(&self, keep: bool) -> Result<Option<PathBuf>, Failure> {
        self.app.pool().close().await;
        for consumer in &self.consumers {
            consumer.pool().close().await;
        }
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(folder) = folder else { return Ok(None) };
        if keep {
            return Ok(Some(folder.keep()));
        }
        let path = folder.path().display().to_string();
        folder.close().map_err(|error| {
            Failure::failed(format!("cannot remove {path}: {error}; remove it by hand"))
        })?;
        Ok(None)
    }
}

/// The names of the files, in this process and in the child.
#[derive(Clone, Debug)]
pub(super) struct Files(pub(super) PathBuf);

impl Files {
    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// The shop's database: orders and outbox.
    pub(super) fn app_url(&self) -> String {
        self.url("sqlite", "app.db")
    }

    /// A consumer's database: inbox and ledger.
    pub(super) fn consumer_url(&self, consumer: &str) -> String {
        self.url("sqlite", &format!("{consumer}.db"))
    }

    /// The bus.
    pub(super) fn bus_url(&self) -> String {
        self.url("bus", "bus.db")
    }

    /// What arrived at a consumer.
    pub(super) fn arrivals(&self, consumer: &str) -> PathBuf {
        self.0.join(format!("{consumer}.arrivals"))
    }

    /// Ids of messages whose commit was answered with success.
    pub(super) fn acknowledged(&self) -> PathBuf {
        self.0.join("acknowledged.ids")
    }

    /// Ids of messages whose transaction was rolled back.
    pub(super) fn rolled_back(&self) -> PathBuf {
        self.0.join("rolled-back.ids")
    }

    /// What the child has to say.
    pub(super) fn log(&self) -> PathBuf {
        self.0.join("node.log")
    }

    /// Files that change when something happens: what the killer watches.
    pub(super) fn lively(&self) -> Vec<PathBuf> {
        let wal = |name: &str| self.0.join(format!("{name}.db-wal"));
        let arrivals = CONSUMERS.iter().map(|name| self.arrivals(name));
        // A consumer that has committed and not settled yet is the one that the inbox is for, so
        // these are watched most.
        let commits = CONSUMERS.iter().flat_map(|name| [wal(name), wal(name)]);
        commits.chain(arrivals).chain([wal("app"), wal("bus")]).collect()
    }

    fn url(&self, scheme: &str, name: &str) -> String {
        let path = self.0.join(name).display().to_string();
        let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        format!("{scheme}://{escaped}")
    }
}

/// A handle on a database of the demo.
pub(super) fn open(url: &str, create: bool) -> Result<Sqlite, Failure> {
    let options = Options { create, busy_timeout: PATIENCE, ..Options::default() };
    Sqlite::open(url, options).map_err(Failure::from)
}

/// Makes the tables of Posthaste and those of the application.
async fn prepare(database: &Sqlite, tables: &'static str) -> Result<(), Failure> {
    database.migrate().await.map_err(|error| no_room(&sentence(&error)))?;
    let made = sqlx::raw_sql(tables).execute(database.pool()).await;
    made.map(drop).map_err(|error| no_room(&sentence(&error)))
}

fn no_room(cause: &str) -> Failure {
    let folder = std::env::temp_dir();
    Failure::failed(format!(
        "cannot set up the demo in {}: {cause}; set TMPDIR to a folder with some room",
        folder.display()
    ))
}
