//! How the bus fails, in words that name what to do. The only place that knows SQLite's codes and
//! the operating system's kinds of errors.

use std::io;
use std::path::Path;

use posthaste_core::{BrokerError, StoreError};
use rusqlite::ErrorCode;
use serde::{Deserialize, Serialize};

/// A failure as it travels between engine and client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The lock is no more.
    LockLost,
    /// The request makes no sense, and never will.
    Rejected(String),
    /// Not now.
    Unavailable(String),
    /// A person has to look.
    Failed(String),
}

impl Failure {
    /// The words of it.
    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::LockLost => "the lock is lost",
            Self::Rejected(text) | Self::Unavailable(text) | Self::Failed(text) => text,
        }
    }
}

impl From<Failure> for BrokerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::LockLost => Self::LockLost,
            Failure::Rejected(reason) => Self::rejected(reason),
            Failure::Unavailable(context) => Self::unavailable(context),
            Failure::Failed(context) => Self::failed(context),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::LockLost => Self::unavailable(failure.detail()),
            Failure::Rejected(reason) => Self::rejected(reason),
            Failure::Unavailable(context) => Self::unavailable(context),
            Failure::Failed(context) => Self::failed(context),
        }
    }
}

/// Classifies what SQLite said about the bus file.
pub(crate) fn in_store(path: &Path, what: &str, error: &rusqlite::Error) -> Failure {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Failure::Unavailable(format!(
            "there is no room left for bus file {shown}: free space on its disk; nothing that was \
             accepted is lost"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failure::Unavailable(format!(
            "another program holds bus file {shown} locked: end it (only read the file while the \
             bus runs)"
        )),
        Some(ErrorCode::NotADatabase) => Failure::Failed(format!(
            "{shown} is not a SQLite database: name another file for the bus"
        )),
        Some(ErrorCode::DatabaseCorrupt) => Failure::Failed(format!(
            "bus file {shown} is damaged ({error}): restore it, or save what is left with \
             `sqlite3 FILE .recover`"
        )),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            Failure::Failed(format!(
                "cannot write bus file {shown} ({error}): give this user write access to the file \
                 and its folder, or choose another"
            ))
        }
        _ => Failure::Failed(format!("{what} {shown}: {error}")),
    }
}

/// Whether there is no room for what was to be written.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// Whether a commit that failed like this has certainly not happened.
pub(crate) fn is_no(error: &rusqlite::Error) -> bool {
    let codes = [ErrorCode::DiskFull, ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
    error.sqlite_error_code().is_some_and(|code| codes.contains(&code))
}

/// Classifies what the operating system said about a file of the bus.
pub(crate) fn in_file(path: &Path, what: &str, error: &io::Error) -> Failure {
    let shown = path.display();
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::NotFound => Failure::Failed(format!(
            "folder {folder} of the bus file does not exist: create it, or correct the URL"
        )),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Failure::Failed(format!(
                "cannot write {shown} ({error}): give this user write access to folder {folder}, \
                 or choose another"
            ))
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::Failed(format!("there is no room left for {shown}: free space on its disk"))
        }
        _ => Failure::Failed(format!("{what} {shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_names_the_file_and_what_to_do() {
        let path = Path::new("/data/bus.db");
        let cases = [
            (io::ErrorKind::NotFound, "create it"),
            (io::ErrorKind::PermissionDenied, "write access"),
            (io::ErrorKind::ReadOnlyFilesystem, "write access"),
            (io::ErrorKind::StorageFull, "free space"),
            (io::ErrorKind::InvalidInput, "could not open"),
        ];
        for (kind, advice) in cases {
            let failure = in_file(path, "could not open", &io::Error::from(kind));
            assert!(failure.detail().contains("/data"), "{failure:?}");
            assert!(failure.detail().contains(advice), "{failure:?}");
        }
        for (code, advice) in [
            (rusqlite::ffi::SQLITE_FULL, "free space"),
            (rusqlite::ffi::SQLITE_BUSY, "end it"),
            (rusqlite::ffi::SQLITE_NOTADB, "another file"),
            (rusqlite::ffi::SQLITE_CORRUPT, "restore"),
            (rusqlite::ffi::SQLITE_READONLY, "write access"),
            (rusqlite::ffi::SQLITE_IOERR, "could not"),
        ] {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            let failure = in_store(path, "could not write", &error);
            assert!(failure.detail().contains("/data/bus.db"), "{failure:?}");
            assert!(failure.detail().contains(advice), "{failure:?}");
        }
    }
}
