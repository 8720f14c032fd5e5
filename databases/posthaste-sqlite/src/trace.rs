//! The traces that a commit leaves on the files of a database: lengths and times of change.
//!
//! They are only looked at, never opened: closing a database file would take away the locks that
//! SQLite holds on it in the same process. They are a hint to ask SQLite and never the answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Two changes closer than the clock of a file system ticks can look like one, so for this long
/// after a change SQLite is asked each time. Kernels tick every 1 to 10 ms.
const WARM: Duration = Duration::from_millis(50);

/// SQLite is asked at least this often, whatever the files look like.
const REGARDLESS: Duration = Duration::from_millis(250);

/// Length and time of change.
type Mark = Option<(u64, SystemTime)>;

/// What the files of one database looked like.
#[derive(Debug)]
pub(crate) struct Trace {
    file: PathBuf,
    log: PathBuf,
    marks: (Mark, Mark),
    changed: Instant,
    asked: Instant,
}

impl Trace {
    /// Of the database in `file`.
    pub(crate) fn of(file: &Path) -> Self {
        // SQLite puts its log beside the file that a link points to.
        let file = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
        let mut log = file.clone().into_os_string();
        log.push("-wal");
        let now = Instant::now();
        Self { file, log: log.into(), marks: (None, None), changed: now, asked: now }
    }

    /// Whether SQLite should be asked now.
    pub(crate) fn is_warm(&mut self) -> bool {
        let now = Instant::now();
        let marks = (mark(&self.file), mark(&self.log));
        if marks != self.marks || is_coarse(marks.0) || is_coarse(marks.1) {
            self.marks = marks;
            self.changed = now;
        }
        let warm = marks.0.is_none()
            || now.duration_since(self.changed) < WARM
            || now.duration_since(self.asked) >= REGARDLESS;
        if warm {
            self.asked = now;
        }
        warm
    }
}

fn mark(path: &Path) -> Mark {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// Whether a time looks like that of a file system which counts whole seconds.
fn is_coarse(mark: Mark) -> bool {
    mark.is_some_and(|(_, changed)| {
        changed.duration_since(UNIX_EPOCH).is_ok_and(|since| since.subsec_nanos() == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_without_a_file_is_always_asked() {
        let mut trace = Trace::of(Path::new("/no/such/file"));
        trace.changed -= WARM;
        assert!(trace.is_warm() && trace.is_warm());
    }

    #[test]
    fn a_touched_file_is_asked_and_a_quiet_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("app.db");
        fs::write(&file, "x").expect("a file");
        let mut trace = Trace::of(&file);
        assert!(trace.is_warm(), "the first look");
        trace.changed -= WARM;
        assert!(!trace.is_warm(), "nothing happened");
        fs::write(folder.path().join("app.db-wal"), "x").expect("a log");
        assert!(trace.is_warm(), "there is a log now");
        trace.changed -= WARM;
        trace.asked -= REGARDLESS;
        assert!(trace.is_warm(), "long ago");
    }
}
