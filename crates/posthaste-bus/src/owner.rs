//! Who owns the file: the one process that holds the lock on `FILE.lock`. The operating system
//! gives the lock up when that process ends, however it ends. What is written in the lock file
//! tells the others where to find the owner; only the lock itself decides.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{self, Failure};

/// Bytes of a lock file that are looked at.
const CARD_BYTES: u64 = 16 * 1024;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Ownership {
    file: File,
    path: PathBuf,
}

/// What an owner says of itself in the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Its process.
    pub(crate) pid: u32,
    /// A number that no other start of an owner has.
    pub(crate) instance: String,
    /// Where it listens; `None` while it starts or ends.
    pub(crate) socket: Option<PathBuf>,
}

impl Ownership {
    /// Takes the lock, unless another has it.
    pub(crate) fn claim(database: &Path) -> Result<Option<Self>, Failure> {
        let path = beside(database, "lock");
        let failed = |error: &_| error::in_file(&path, "could not open", error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(|error| failed(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file, path })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error::in_file(&path, "could not lock", &error)),
        }
    }

    /// Says who owns the file and where it listens.
    pub(crate) fn announce(&mut self, card: &Card) -> Result<(), Failure> {
        let text = serde_json::to_string(card)
            .map_err(|error| Failure::Failed(format!("could not write a card: {error}")))?;
        let written = self.file.set_len(0).and_then(|()| {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(text.as_bytes())
        });
        written.map_err(|error| error::in_file(&self.path, "could not write", &error))
    }
}

/// What the present or the last owner wrote; `None` if that cannot be read.
pub(crate) fn read_card(database: &Path) -> Option<Card> {
    let file = File::open(beside(database, "lock")).ok()?;
    let mut text = String::new();
    file.take(CARD_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The name of a file that belongs to the bus file.
pub(crate) fn beside(database: &Path, extension: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time_and_its_card_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("bus.db");
        assert_eq!(read_card(&database), None);
        let mut first = Ownership::claim(&database).expect("a lock file").expect("free");
        assert!(Ownership::claim(&database).expect("a lock file").is_none());
        let long = Card { pid: 7, instance: "a".repeat(200), socket: Some("x".into()) };
        first.announce(&long).expect("written");
        let card = Card { pid: 7, instance: "a".into(), socket: None };
        first.announce(&card).expect("written");
        assert_eq!(read_card(&database), Some(card));
        drop(first);
        assert!(Ownership::claim(&database).expect("a lock file").is_some());
    }
}
