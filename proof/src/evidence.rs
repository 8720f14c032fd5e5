//! What the processes of a world note while they run: one line each, appended with one write to
//! one file, so that lines of killed processes are whole and the order of lines is the order of
//! events.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Nanoseconds on a clock that all processes share and that never goes back.
pub fn moment() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// Something that a process saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum Sight {
    /// A writer's commit was answered with success.
    Acknowledged {
        /// Ids of the messages that it stated.
        ids: Vec<String>,
    },
    /// A writer rolled back.
    RolledBack {
        /// Ids of the messages that it had stated.
        ids: Vec<String>,
    },
    /// A message arrived from the bus.
    Delivered {
        /// At which consumer.
        consumer: String,
        /// Which message.
        id: String,
        /// Of what arrived.
        digest: u64,
        /// Which delivery the bus says it is.
        attempt: u32,
    },
    /// A handler was entered.
    Attempted {
        /// Of which consumer.
        consumer: String,
        /// With which message.
        id: String,
    },
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The process that wrote it.
    pub pid: u32,
    /// When, as [`moment`] says.
    pub at: i64,
    /// What it saw.
    #[serde(flatten)]
    pub sight: Sight,
}

/// The file, open for appending; clones share it.
#[derive(Clone, Debug)]
pub struct Evidence {
    path: PathBuf,
    file: Arc<File>,
}

impl Evidence {
    /// The file in this folder.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("evidence.jsonl");
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        Ok(Self { path, file: Arc::new(file) })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&self, sight: Sight) -> Result<(), Failure> {
        let mut text =
            serde_json::to_string(&Line { pid: std::process::id(), at: moment(), sight })?;
        text.push('\n');
        Ok((&*self.file).write_all(text.as_bytes())?)
    }

    /// All lines so far, in their order.
    ///
    /// # Errors
    /// If the file cannot be read or a line is not whole.
    pub fn lines(&self) -> Result<Vec<Line>, Failure> {
        let text = std::fs::read_to_string(&self.path)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// How many messages were acknowledged so far. A line that is just being written is not there
    /// yet.
    ///
    /// # Errors
    /// As [`Evidence::lines`].
    pub fn acknowledged(&self) -> Result<usize, Failure> {
        let text = std::fs::read_to_string(&self.path)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut messages = 0;
        for line in whole.lines() {
            if let Sight::Acknowledged { ids } = serde_json::from_str::<Line>(line)?.sight {
                messages += ids.len();
            }
        }
        Ok(messages)
    }

    /// How often handlers were entered with this message.
    ///
    /// # Errors
    /// As [`Evidence::lines`].
    pub fn attempts(&self, message: &str) -> Result<usize, Failure> {
        let of_message =
            |line: &Line| matches!(&line.sight, Sight::Attempted { id, .. } if id == message);
        Ok(self.lines()?.iter().filter(|line| of_message(line)).count())
    }

    /// How many bytes of evidence there are.
    ///
    /// # Errors
    /// If the file cannot be looked at.
    pub fn size(&self) -> Result<u64, Failure> {
        Ok(self.file.metadata()?.len())
    }
}
