//! Opening the file: recognises what is not ours before anything is changed, creates the tables in
//! an empty file, and switches to a log that is synced at every commit.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::Store;
use crate::error::{self, Failure};

/// `application_id` of a bus file.
const APPLICATION: u32 = 0x7068_6275;
/// Schema that this program knows.
const VERSION: u32 = 1;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

impl Store {
    /// Looks at the header of the file, so that nothing is ever written to one that is not ours.
    pub(crate) fn recognise(path: &Path) -> Result<(), Failure> {
        let mut header = Vec::with_capacity(100);
        match File::open(path) {
            Ok(file) => file
                .take(100)
                .read_to_end(&mut header)
                .map_err(|error| error::in_file(path, "could not read the bus file", &error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error::in_file(path, "could not open the bus file", &error)),
        };
        if header.is_empty() {
            return Ok(());
        }
        let shown = path.display();
        if header.len() < 100 || header[..16] != MAGIC[..] {
            return Err(Failure::Failed(format!(
                "{shown} is not a SQLite database: name another file for the bus"
            )));
        }
        if header[68..72] != APPLICATION.to_be_bytes() {
            return Err(Failure::Failed(format!(
                "{shown} is a SQLite database but not a bus file: give the bus a file of its own"
            )));
        }
        Ok(())
    }

    /// Opens the file, creating it if it is absent or empty. `max_pages` bounds its size.
    pub(crate) fn open(path: &Path, max_pages: Option<u32>) -> Result<Self, Failure> {
        let connection = connect(path, max_pages)
            .map_err(|error| error::in_store(path, "could not open the bus file", &error))?;
        let found: u32 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|error| error::in_store(path, "could not read the bus file", &error))?;
        if found != VERSION {
            return Err(Failure::Failed(format!(
                "bus file {} has schema version {found} and this program knows {VERSION}: use a \
                 newer posthaste",
                path.display()
            )));
        }
        Ok(Self { connection, path: path.to_owned() })
    }
}

fn connect(path: &Path, max_pages: Option<u32>) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    if let Some(most) = max_pages {
        connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(()))?;
    }
    // Created before the switch to a log, so that the header says whose file it is from the start.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(include_str!("schema.sql"))?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    Ok(connection)
}
