//! What the processes of a world note while they run: one line each of a history, appended with one
//! write to one file, so that lines of killed processes are whole and the order of lines is the
//! order of events.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use posthaste_history::event::{Commit, CommitAnswer, Format};
use posthaste_history::{Event, History, Journal, Line, read};

use crate::Failure;

/// Nanoseconds on a clock that all processes share and that never goes back.
pub fn moment() -> i64 {
    i64::try_from(posthaste_history::moment()).unwrap_or(i64::MAX)
}

/// A writer's commit was answered with success.
pub fn acknowledged(ids: Vec<String>) -> Commit {
    Commit { transaction: None, ids, answer: CommitAnswer::Committed }
}

/// A writer rolled back.
pub fn rolled_back(ids: Vec<String>) -> Commit {
    Commit { transaction: None, ids, answer: CommitAnswer::RolledBack }
}

/// The file, open for appending; clones share it.
#[derive(Clone, Debug)]
pub struct Evidence {
    path: PathBuf,
    journal: Arc<Journal>,
}

impl Evidence {
    /// The file in this folder.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("evidence.jsonl");
        let node = format!("process {}", std::process::id());
        let journal = Arc::new(Journal::open(&path, &node, Format::default())?);
        Ok(Self { path, journal })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&self, event: impl Into<Event>) -> Result<(), Failure> {
        Ok(self.journal.note(event)?)
    }

    /// What was noted so far.
    ///
    /// # Errors
    /// If the file cannot be read or a line is not whole.
    pub fn history(&self) -> Result<History, Failure> {
        Ok(read(&[&self.path])?)
    }

    /// All lines so far, in their order.
    ///
    /// # Errors
    /// As [`Evidence::history`].
    pub fn lines(&self) -> Result<Vec<Line>, Failure> {
        Ok(self.history()?.lines().to_vec())
    }

    /// How many messages were acknowledged so far.
    ///
    /// # Errors
    /// As [`Evidence::history`].
    pub fn acknowledged(&self) -> Result<usize, Failure> {
        let of_line = |line: &Line| match &line.event {
            Event::Commit(Commit { ids, answer: CommitAnswer::Committed, .. }) => ids.len(),
            _ => 0,
        };
        Ok(self.history()?.lines().iter().map(of_line).sum())
    }

    /// How often handlers were entered with this message.
    ///
    /// # Errors
    /// As [`Evidence::history`].
    pub fn attempts(&self, message: &str) -> Result<usize, Failure> {
        let history = self.history()?;
        let of_message = |line: &&Line| matches!(&line.event, Event::Handling(handling) if handling.id == message);
        Ok(history.lines().iter().filter(of_message).count())
    }

    /// How many bytes of evidence there are.
    ///
    /// # Errors
    /// If the file cannot be looked at.
    pub fn size(&self) -> Result<u64, Failure> {
        Ok(std::fs::metadata(&self.path)?.len())
    }
}
