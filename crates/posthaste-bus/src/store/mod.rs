//! The bus file. Everything that knows SQL is in this folder; nothing here decides.
//!
//! One connection, used by the engine alone. Every change of a group of requests is made in one
//! transaction, so that one sync to the disk serves all of them.

mod clean;
mod dead;
mod messages;
mod open;
mod subscriptions;

use std::path::{Path, PathBuf};

use rusqlite::Connection;

pub(crate) use dead::DeadRow;
pub(crate) use messages::AddressRow;
pub(crate) use subscriptions::{PageRow, SubscriptionRow};

/// An open bus file.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
}

impl Store {
    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins the transaction of a group.
    pub(crate) fn begin(&self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
    }

    /// Commits it: on return it is on the disk.
    pub(crate) fn commit(&self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("COMMIT")?.execute([]).map(drop)
    }

    /// Undoes it, also where SQLite has done so by itself already.
    pub(crate) fn roll_back(&self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.prepare_cached("ROLLBACK")?.execute([]).map(drop)
    }

    /// Moves the log into the file and ends it, for a file that stands alone after a close.
    pub(crate) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}
