//! What the driver's errors mean: the only place that knows SQLite's result codes.

use std::path::Path;

use posthaste_core::StoreError;
use sqlx::error::DatabaseError;

use crate::schema;

/// Names the consequence of a driver's error that came up when `doing` was tried on `path`.
pub(crate) fn classify(doing: &str, path: &Path, error: sqlx::Error) -> StoreError {
    let file = path.display();
    match &error {
        sqlx::Error::Database(database) => {
            let code = code(database.as_ref());
            let message = database.message().to_owned();
            by_code(doing, path, code, &message, error)
        }
        sqlx::Error::PoolTimedOut => unavailable(
            format!(
                "{doing}: all connections to {file} are in use; look for a transaction that \
                is left open, or allow more connections"
            ),
            error,
        ),
        sqlx::Error::PoolClosed => {
            failed(format!("{doing}: the connection pool of {file} was closed"), error)
        }
        sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed | sqlx::Error::Io(_) => {
            unavailable(format!("{doing}: the connection to {file} was lost"), error)
        }
        sqlx::Error::Configuration(_) => {
            failed(format!("{doing}: the options for {file} are wrong ({error})"), error)
        }
        _ => failed(format!("{doing}: {error}"), error),
    }
}

fn by_code(doing: &str, path: &Path, code: i32, said: &str, error: sqlx::Error) -> StoreError {
    let file = path.display();
    match code & 0xff {
        // BUSY, LOCKED, NOMEM, INTERRUPT, PROTOCOL, SCHEMA
        5 | 6 | 7 | 9 | 15 | 17 => unavailable(
            format!("{doing}: {file} is busy ({said}); another program holds a transaction open"),
            error,
        ),
        // PERM, AUTH
        3 | 23 => failed(
            format!("{doing}: no permission for {file}; give this user the right to write it"),
            error,
        ),
        8 if code == 1032 => failed(
            format!("{doing}: {file} was moved or replaced while it was open; start again"),
            error,
        ),
        8 => failed(
            format!(
                "{doing}: {file} or its folder cannot be written; give this user the right to \
                write both"
            ),
            error,
        ),
        10 => failed(
            format!("{doing}: reading or writing {file} failed ({said}); look at the disk"),
            error,
        ),
        11 => failed(
            format!("{doing}: {file} is damaged ({said}); stop writing to it and restore a backup"),
            error,
        ),
        13 => failed(
            format!("{doing}: no room for {file} ({said}); free some space on its disk"),
            error,
        ),
        14 => failed(format!("{doing}: {}", cannot_open(path)), error),
        26 => failed(
            format!("{doing}: {file} is not a SQLite database; look at the path in the URL"),
            error,
        ),
        // TOOBIG, CONSTRAINT, MISMATCH, RANGE
        18 | 19 | 20 | 25 => {
            StoreError::Rejected { reason: refusal(said), source: Some(Box::new(error)) }
        }
        1 if is_incomplete(said) => schema::missing(said),
        _ => failed(format!("{doing}: {said}"), error),
    }
}

/// The extended result code.
fn code(error: &dyn DatabaseError) -> i32 {
    error.code().and_then(|code| code.parse().ok()).unwrap_or(1)
}

/// Whether the driver's error is that the file is busy with someone else.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| matches!(code(error) & 0xff, 5 | 6))
}

/// Whether a table or a column is missing: statements of this crate name only its own.
fn is_incomplete(said: &str) -> bool {
    said.starts_with("no such table")
        || said.starts_with("no such column")
        || said.contains("has no column named")
}

/// The sentence in a refusal of the tables.
fn refusal(said: &str) -> String {
    if said.ends_with("posthaste_outbox.id") {
        return "a message with this id is in the outbox already".to_owned();
    }
    match said.find("posthaste: ") {
        Some(start) => said[start + "posthaste: ".len()..].to_owned(),
        None => said.to_owned(),
    }
}

/// Why a file cannot be opened, and what to do.
fn cannot_open(path: &Path) -> String {
    let file = path.display();
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return format!("{file} is a folder; name a file in it");
    }
    if !folder.is_dir() {
        let folder = folder.display();
        return format!("{file} cannot be opened: there is no folder {folder}; create it");
    }
    if !path.exists() {
        return format!(
            "there is no file {file}; run `posthaste migrate` to create it, or look at \
            the path"
        );
    }
    format!("{file} cannot be opened; give this user the right to read and write it and its folder")
}

fn unavailable(context: String, error: sqlx::Error) -> StoreError {
    StoreError::Unavailable { context, source: Some(Box::new(error)) }
}

fn failed(context: String, error: sqlx::Error) -> StoreError {
    StoreError::Failed { context, source: Some(Box::new(error)) }
}
