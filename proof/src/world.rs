//! A folder with everything that a campaign needs, made anew for each.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use posthaste::core::database::Schema;
use posthaste_sqlite::{Options, Sqlite};
use tempfile::TempDir;

use crate::evidence::Evidence;
use crate::node::BusTuning;
use crate::{Failure, Job, Node, Process, shop};

/// The URL of the database in a folder.
pub fn database_url(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("app.db").display())
}

/// The URL of the bus in a folder.
pub fn bus_url(folder: &Path) -> String {
    format!("bus://{}", folder.join("bus.db").display())
}

/// Most connections of one process to the database.
pub const CONNECTIONS: u32 = 4;

/// How the database is opened.
pub fn options() -> Options {
    Options {
        create: true,
        busy_timeout: Duration::from_secs(10),
        connections: CONNECTIONS,
        ..Options::default()
    }
}

/// See the [module](self). If a test panics or fails the folder stays, and its place is told.
#[derive(Debug)]
pub struct World {
    folder: Option<TempDir>,
    path: PathBuf,
    program: PathBuf,
    /// The database, for whoever looks at it from outside.
    pub database: Sqlite,
    /// What the nodes have noted.
    pub evidence: Evidence,
    /// How the bus behaves, whichever node owns it.
    pub bus: BusTuning,
    seed: u64,
}

impl World {
    /// A new world whose nodes run `program`.
    ///
    /// # Errors
    /// If the folder or the database cannot be made.
    pub async fn create(program: &Path, seed: u64) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_path_buf();
        let database = Sqlite::open(&database_url(&path), options())?;
        database.migrate().await?;
        sqlx::raw_sql(shop::SCHEMA).execute(database.pool()).await?;
        let evidence = Evidence::open(&path)?;
        let (program, bus) = (program.to_path_buf(), BusTuning::default());
        Ok(Self { folder: Some(folder), path, program, database, evidence, bus, seed })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
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
            bus: self.bus,
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

    /// The campaign went well: the folder is not needed any more.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(mut self) -> Result<(), Failure> {
        self.folder.take().map_or(Ok(()), |folder| Ok(folder.close()?))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            let kept = folder.keep();
            let text = format!("seed {}; look at {}\n", self.seed, kept.display());
            // Nowhere is left to say that it could not be said.
            drop(std::io::stderr().lock().write_all(text.as_bytes()));
        }
    }
}
