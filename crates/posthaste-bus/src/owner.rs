//! Who owns the file: the one process that holds the lock on `FILE.lock`. The operating system
//! gives the lock up when that process ends, however it ends. What is written in the lock file
//! tells the others where to find the owner; only the lock itself decides.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{self, Failure};

/// Bytes of a card: more than the longest path that a socket can have takes.
const CARD_BYTES: u16 = 2048;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Ownership {
    file: File,
    path: PathBuf,
    /// Whether there was no lock file before.
    is_new: bool,
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
        loop {
            let (file, is_new) = open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    return Err(error::in_file(&path, "could not lock", &error));
                }
            }
            // A lock on a file that somebody has removed or replaced meanwhile holds nobody off.
            if is_at(&file, &path) {
                return Ok(Some(Self { file, path, is_new }));
            }
        }
    }

    /// Gives up owning a file that turned out not to be ours, without a trace.
    pub(crate) fn abandon(self) {
        if self.is_new
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "could not remove a lock file");
        }
    }

    /// Says who owns the file and where it listens.
    pub(crate) fn announce(&mut self, card: &Card) -> Result<(), Failure> {
        let mut text = serde_json::to_string(card)
            .map_err(|error| Failure::Failed(format!("could not write a card: {error}")))?;
        // Always as long, so that no room is needed once there was room, and nothing is left over.
        let missing = usize::from(CARD_BYTES).saturating_sub(text.len());
        text.extend(std::iter::repeat_n(' ', missing));
        let start = self.file.seek(SeekFrom::Start(0));
        let written = start.and_then(|_| self.file.write_all(text.as_bytes()));
        written.map_err(|error| error::in_file(&self.path, "could not write", &error))
    }
}

/// Opens the lock file, and says whether it was created. Through a link, or where the file is not
/// a plain one of this user, somebody else could make us write elsewhere.
fn open(path: &Path) -> Result<(File, bool), Failure> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(no_follow());
    }
    let created = options.clone().create_new(true).open(path);
    let (file, is_new) = match created {
        Ok(file) => (Ok(file), true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => (options.open(path), false),
        Err(error) => (Err(error), false),
    };
    match file {
        // Removed between the two: the next round creates it.
        Err(error) if error.kind() == ErrorKind::NotFound && !is_new && folder_is_there(path) => {
            open(path)
        }
        Err(error) if is_link(path) => Err(Failure::Failed(format!(
            "lock file {} of the bus is a link ({error}): remove it",
            path.display()
        ))),
        Err(error) => Err(error::in_file(path, "could not open", &error)),
        Ok(file) => match trusted(&file, path) {
            Ok(()) => Ok((file, is_new)),
            Err(failure) => Err(failure),
        },
    }
}

fn folder_is_there(path: &Path) -> bool {
    path.parent().is_some_and(Path::is_dir)
}

fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// Says no to a lock file that was put there by another user or has a second name.
#[cfg(unix)]
fn trusted(file: &File, path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let found =
        file.metadata().map_err(|error| error::in_file(path, "could not look at", &error))?;
    let user = rustix::process::geteuid().as_raw();
    if found.is_file() && found.nlink() <= 1 && (found.uid() == user || user == 0) {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "lock file {} of the bus is not a plain file of this user: remove it, or run all as one \
         user",
        path.display()
    )))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "there is something to look at on other systems")]
fn trusted(_file: &File, _path: &Path) -> Result<(), Failure> {
    Ok(())
}

#[cfg(unix)]
fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

/// Whether the open file is the one that has this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (open, named) = (file.metadata(), std::fs::symlink_metadata(path));
    matches!((open, named), (Ok(open), Ok(named))
        if (open.dev(), open.ino()) == (named.dev(), named.ino()))
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// What the present or the last owner wrote; `None` if that cannot be read.
pub(crate) fn read_card(database: &Path) -> Option<Card> {
    let file = File::open(beside(database, "lock")).ok()?;
    let mut text = String::new();
    file.take(u64::from(CARD_BYTES)).read_to_string(&mut text).ok()?;
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
