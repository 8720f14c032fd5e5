//! From events to files: what a process sees, noted while it runs, and whole histories.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::event::{Event, Format, Line};
use crate::history::History;

/// The moment, in nanoseconds, on a clock that all processes of this machine share and that never
/// goes back.
#[cfg(unix)]
pub fn moment() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, rest) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(rest.unwrap_or(0))
}

/// The moment, in nanoseconds, on the clock of this machine, which somebody may set back.
#[cfg(not(unix))]
pub fn moment() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// The file that a process notes in what it sees. What was noted is there also if the process is
/// killed at once; of the last line a part may be.
#[derive(Debug)]
pub struct Journal {
    file: File,
    node: String,
}

impl Journal {
    /// Opens the file, which several processes may share, and begins in it as this node. A line
    /// that a killed process has left unfinished is ended.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(path: &Path, node: &str, format: Format) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let journal = Self { file, node: node.to_owned() };
        let beginning = serialized([Line::new(moment(), node, format)])?;
        (&journal.file).write_all(format!("\n{beginning}").as_bytes())?;
        Ok(journal)
    }

    /// Notes what was seen now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&self, event: impl Into<Event>) -> io::Result<()> {
        self.note_all([event.into()])
    }

    /// Notes what was seen now, all of it with one write.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note_all(&self, events: impl IntoIterator<Item = Event>) -> io::Result<()> {
        let at = moment();
        let lines = events.into_iter().map(|event| Line::new(at, self.node.as_str(), event));
        (&self.file).write_all(serialized(lines)?.as_bytes())
    }
}

impl History {
    /// Writes it as lines, which [`read`](crate::read) reads.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let mut to = BufWriter::new(to);
        for line in self.lines() {
            serde_json::to_writer(&mut to, line)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }
}

fn serialized(lines: impl IntoIterator<Item = Line>) -> io::Result<String> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(&line)?);
        text.push('\n');
    }
    Ok(text)
}
