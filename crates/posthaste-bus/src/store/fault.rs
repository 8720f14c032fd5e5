//! Faults at the file, for tests: statements on one file that fail with a code of SQLite before
//! they do anything.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Statements that begin like this fail as long as this is kept and `left` is not 0.
#[derive(Debug)]
pub(crate) struct Fault {
    path: PathBuf,
    beginning: &'static str,
    code: i32,
    left: AtomicU32,
    hits: AtomicU32,
}

/// In place of a code: the process ends there, as if it was killed.
pub(crate) const KILL: i32 = i32::MAX;

static FAULTS: Mutex<Vec<Arc<Fault>>> = Mutex::new(Vec::new());

fn faults() -> std::sync::MutexGuard<'static, Vec<Arc<Fault>>> {
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fault that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Faulty(Arc<Fault>);

impl Faulty {
    /// The next `times` statements on this file that begin like `beginning` fail with `code`.
    pub(crate) fn new(path: &Path, beginning: &'static str, code: i32, times: u32) -> Self {
        let path = path.canonicalize().expect("the file is there");
        let (left, hits) = (AtomicU32::new(times), AtomicU32::new(0));
        let fault = Arc::new(Fault { path, beginning, code, left, hits });
        faults().push(Arc::clone(&fault));
        Self(fault)
    }

    /// How many statements have failed.
    pub(crate) fn hits(&self) -> u32 {
        self.0.hits.load(Ordering::Acquire)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        faults().retain(|fault| !Arc::ptr_eq(fault, &self.0));
    }
}

/// Fails as a test wants it.
pub(super) fn check(path: &Path, sql: &str) -> rusqlite::Result<()> {
    for fault in faults().iter().filter(|one| one.path == path && sql.starts_with(one.beginning)) {
        let spend = |left: u32| left.checked_sub(1);
        if fault.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, spend).is_ok() {
            fault.hits.fetch_add(1, Ordering::AcqRel);
            if fault.code == KILL {
                std::process::abort();
            }
            let error = rusqlite::ffi::Error::new(fault.code);
            return Err(rusqlite::Error::SqliteFailure(error, None));
        }
    }
    Ok(())
}
