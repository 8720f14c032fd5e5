//! Opening the file: recognises what is not ours before anything is changed, creates the tables in
//! an empty file, and switches to a log that is synced at every commit.

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Read};
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
    /// Looks at the header of the file, so that nothing is ever written to one that is not ours. A
    /// file whose creation was cut off is left to SQLite, which undoes that.
    pub(crate) fn recognise(path: &Path) -> Result<(), Failure> {
        let mut header = Vec::with_capacity(100);
        match File::open(path) {
            Ok(file) => file
                .take(100)
                .read_to_end(&mut header)
                .map_err(|error| error::in_file(path, "could not read the bus file", &error))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error::in_file(path, "could not open the bus file", &error)),
        };
        let mut journal = path.as_os_str().to_owned();
        journal.push("-journal");
        if header.is_empty() || Path::new(&journal).exists() {
            return Ok(());
        }
        if header.len() < 100 || header[..16] != MAGIC[..] {
            return Err(Failure::Failed(format!(
                "{} is not a SQLite database: name another file for the bus",
                path.display()
            )));
        }
        if header[68..72] != APPLICATION.to_be_bytes() {
            return Err(not_ours(path));
        }
        Ok(())
    }

    /// Opens the file, creating it if it is absent or empty, and writes into it who owns it now.
    /// `max_pages` bounds its size.
    pub(crate) fn open(
        path: &Path,
        max_pages: Option<u32>,
        instance: &str,
    ) -> Result<Self, Failure> {
        let failed = |error| error::in_store(path, "could not open the bus file", &error);
        let mut connection = connect(path, max_pages).map_err(failed)?;
        let (application, version) = create_if_empty(&mut connection).map_err(failed)?;
        if application != APPLICATION {
            return Err(not_ours(path));
        }
        if version != VERSION {
            return Err(Failure::Failed(format!(
                "bus file {} has schema version {version} and this program knows {VERSION}: use a \
                 newer posthaste",
                path.display()
            )));
        }
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
            .map_err(failed)?;
        // Whoever owned it before finds this in its next transaction and ends.
        connection
            .execute("INSERT OR REPLACE INTO owner (id, instance) VALUES (1, ?1)", [instance])
            .map_err(failed)?;
        let (path, instance) = (path.to_owned(), instance.to_owned());
        Ok(Self { connection, path, instance, damaged: RefCell::default() })
    }
}

fn not_ours(path: &Path) -> Failure {
    Failure::Failed(format!(
        "{} is a SQLite database but not a bus file: give the bus a file of its own",
        path.display()
    ))
}

fn connect(path: &Path, max_pages: Option<u32>) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    if let Some(most) = max_pages {
        connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(()))?;
    }
    Ok(connection)
}

/// Creates the tables in an empty file and says whose file it is. This is done before the switch to
/// a log, so that the header of the file says it from the start.
fn create_if_empty(connection: &mut Connection) -> rusqlite::Result<(u32, u32)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let read = |sql: &str| transaction.query_row(sql, [], |row| row.get::<_, u32>(0));
    // An empty one that says it is an application's is that application's.
    if read("SELECT count(*) FROM sqlite_schema")? == 0 && read("PRAGMA application_id")? == 0 {
        transaction.execute_batch(include_str!("schema.sql"))?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    let found = (read("PRAGMA application_id")?, read("PRAGMA user_version")?);
    transaction.commit()?;
    Ok(found)
}
