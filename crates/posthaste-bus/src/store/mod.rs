//! The bus file. Everything that knows SQL is in this folder; nothing here decides.
//!
//! One connection, used by the engine alone. Every change of a group of requests is made in one
//! transaction, so that one sync to the disk serves all of them.

mod clean;
mod dead;
#[cfg(test)]
pub(crate) mod fault;
mod messages;
mod open;
mod subscriptions;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{CachedStatement, Connection, OptionalExtension};

pub(crate) use dead::{DeadKey, DeadRow};
pub(crate) use messages::AddressRow;
pub(crate) use subscriptions::{PageRow, SubscriptionRow};

/// An open bus file.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    /// Who we are in the file.
    instance: String,
    /// Messages on pages that are damaged.
    damaged: RefCell<BTreeSet<i64>>,
}

impl Store {
    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every statement that runs while the engine does comes from here.
    fn statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        #[cfg(test)]
        fault::check(&self.path, sql)?;
        self.connection.prepare_cached(sql)
    }

    /// Begins the transaction of a group.
    pub(crate) fn begin(&self) -> rusqlite::Result<()> {
        self.run("BEGIN IMMEDIATE")
    }

    /// Commits it: on return it is on the disk.
    pub(crate) fn commit(&self) -> rusqlite::Result<()> {
        self.run("COMMIT")
    }

    /// Undoes it, also where SQLite has done so by itself already.
    pub(crate) fn roll_back(&self) -> rusqlite::Result<()> {
        if self.is_inside() { self.run("ROLLBACK") } else { Ok(()) }
    }

    /// Whether there is a transaction; an error may have ended it.
    pub(crate) fn is_inside(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// From here on [`Store::undo`] undoes, also where there is no room: SQLite ends the whole
    /// transaction at a statement that finds none, unless that one writes as a SELECT gives it,
    /// which is why every INSERT here does; until [`Store::keep`].
    pub(crate) fn save(&self) -> rusqlite::Result<()> {
        self.run("SAVEPOINT part")
    }

    /// Keeps what was written since [`Store::save`] as a part of the transaction.
    pub(crate) fn keep(&self) -> rusqlite::Result<()> {
        self.run("RELEASE part")
    }

    /// Undoes what was written since [`Store::save`]; the transaction goes on.
    pub(crate) fn undo(&self) -> rusqlite::Result<()> {
        self.run("ROLLBACK TO part")?;
        self.run("RELEASE part")
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.statement(sql)?.execute([]).map(drop)
    }

    /// Whether the file still says that it is ours. Asked inside a transaction it is true until the
    /// commit.
    pub(crate) fn is_ours(&self) -> rusqlite::Result<bool> {
        let owner: Option<String> = self
            .statement("SELECT instance FROM owner")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(owner.is_some_and(|owner| owner == self.instance))
    }

    /// Moves the log into the file and ends it, for a file that stands alone after a close.
    pub(crate) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}
