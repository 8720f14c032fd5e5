//! A folder with everything that a campaign needs, made anew for each, and the places of its
//! database and its broker: files in the folder, or servers elsewhere.

use std::io::Write;
use std::path::{Path, PathBuf};

use posthaste_sqlite::Sqlite;
use tempfile::TempDir;

use crate::evidence::Evidence;
use crate::eye::Eye;
use crate::ground::Ground;
use crate::node::{BusTuning, RabbitTuning};
use crate::process::program;
use crate::{Failure, Job, Node, Process};

/// The URL of the bus in a folder.
fn bus_url(folder: &Path) -> String {
    format!("bus://{}", folder.join("bus.db").display())
}

/// See the [module](self). If a test panics or fails the folder stays, and its place is told.
#[derive(Debug)]
pub struct World<D = Sqlite> {
    folder: Option<TempDir>,
    path: PathBuf,
    program: PathBuf,
    /// The database, for whoever uses it from outside.
    pub database: D,
    /// A look into it from outside.
    pub eye: Eye,
    /// What the nodes have noted.
    pub evidence: Evidence,
    /// The URL of the database, as nodes get it.
    pub database_url: String,
    /// The URL of the broker, as nodes get it.
    pub broker_url: String,
    /// How the bus behaves, whichever node owns it.
    pub bus: BusTuning,
    /// How nodes behave towards a RabbitMQ server.
    pub rabbit: RabbitTuning,
    seed: u64,
}

impl World {
    /// A new world of files.
    ///
    /// # Errors
    /// If the folder or the database cannot be made, or there is no program for its nodes.
    pub async fn create(seed: u64) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let database = format!("sqlite://{}", folder.path().join("app.db").display());
        let broker = bus_url(folder.path());
        Self::found(folder, seed, database, broker).await
    }
}

impl<D: Ground> World<D> {
    /// A new world on a database and a broker that are there.
    ///
    /// # Errors
    /// If the folder or the tables cannot be made.
    pub async fn on(seed: u64, database_url: String, broker_url: String) -> Result<Self, Failure> {
        Self::found(tempfile::tempdir()?, seed, database_url, broker_url).await
    }

    async fn found(
        folder: TempDir,
        seed: u64,
        database_url: String,
        broker_url: String,
    ) -> Result<Self, Failure> {
        let path = folder.path().to_path_buf();
        let database = D::at(&database_url)?;
        database.migrate().await?;
        let eye = database.eye(&database_url)?;
        eye.execute(D::tables()).await?;
        let evidence = Evidence::open(&path)?;
        Ok(Self {
            folder: Some(folder),
            path,
            program: program()?,
            database,
            eye,
            evidence,
            database_url,
            broker_url,
            bus: BusTuning::default(),
            rabbit: RabbitTuning::default(),
            seed,
        })
    }

    /// Opens the database again, at the same place: what was there before is gone.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn reopen(&mut self) -> Result<(), Failure> {
        self.database = D::at(&self.database_url)?;
        self.eye = self.database.eye(&self.database_url)?;
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its chance comes from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A node of this world.
    pub fn node(&self, name: &str, jobs: impl IntoIterator<Item = Job>) -> Node {
        let letters = name
            .bytes()
            .fold(self.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Node {
            name: name.to_owned(),
            folder: self.path.clone(),
            seed: letters,
            jobs: jobs.into_iter().collect(),
            database: self.database_url.clone(),
            broker: self.broker_url.clone(),
            bus: self.bus,
            rabbit: self.rabbit,
            death: None,
            sabotage: None,
        }
    }

    /// Starts a node.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub async fn start(&self, node: Node) -> Result<Process, Failure> {
        Process::start(&self.program, node).await
    }

    /// Starts a node with these jobs.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub async fn launch(
        &self,
        name: &str,
        jobs: impl IntoIterator<Item = Job>,
    ) -> Result<Process, Failure> {
        self.start(self.node(name, jobs)).await
    }
}

impl<D> World<D> {
    /// The campaign went well: the folder is not needed any more.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(mut self) -> Result<(), Failure> {
        self.folder.take().map_or(Ok(()), |folder| Ok(folder.close()?))
    }
}

impl<D> Drop for World<D> {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            let kept = folder.keep();
            let text = format!("seed {}; look at {}\n", self.seed, kept.display());
            // Nowhere is left to say that it could not be said.
            drop(std::io::stderr().lock().write_all(text.as_bytes()));
        }
    }
}
