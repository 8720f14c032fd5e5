//! From files to a history: one file for each process, merged by the moments of their lines.
//!
//! The lines of a file keep their order, whatever their moments say; among the next lines of all
//! files the earliest is taken, and of several the one of the file that was named first. At any
//! time one line of each file is held beside the history itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::event::{Event, Line, VERSION};
use crate::history::History;

/// Why files are no history.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line is not what the format says, and it is not the last one of a killed process.
    #[error("{} line {line}: {what}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Reads a history from the files of its processes.
///
/// The last line of a file may be unfinished, and so may one that stands before the line with
/// which a process begins: whoever wrote it was killed.
///
/// # Errors
/// [`ReadError`], with file and line.
pub fn read<P: AsRef<Path>>(files: &[P]) -> Result<History, ReadError> {
    let mut history = History::new();
    let mut sources = Vec::with_capacity(files.len());
    for file in files {
        sources.push(Source::open(file.as_ref())?);
    }
    let mut heads = BinaryHeap::new();
    let mut waiting: Vec<Option<Line>> = Vec::new();
    for (number, source) in sources.iter_mut().enumerate() {
        let line = source.next(&mut history)?;
        heads.extend(line.as_ref().map(|line| Reverse((line.at, number))));
        waiting.push(line);
    }
    while let Some(Reverse((_, number))) = heads.pop() {
        let next = sources[number].next(&mut history)?;
        heads.extend(next.as_ref().map(|line| Reverse((line.at, number))));
        let line = std::mem::replace(&mut waiting[number], next);
        history.extend(line);
    }
    Ok(history)
}

/// A file that is being read.
struct Source {
    path: PathBuf,
    file: BufReader<File>,
    line: u64,
    has_begun: bool,
    /// A line that makes no sense, unless the next one says that its writer was killed.
    torn: Option<ReadError>,
}

impl Source {
    fn open(path: &Path) -> Result<Self, ReadError> {
        let path = path.to_path_buf();
        match File::open(&path) {
            Ok(file) => {
                let file = BufReader::new(file);
                Ok(Self { path, file, line: 0, has_begun: false, torn: None })
            }
            Err(source) => Err(ReadError::Unreadable { file: path, source }),
        }
    }

    /// The next line; `None` at the end.
    fn next(&mut self, history: &mut History) -> Result<Option<Line>, ReadError> {
        loop {
            let mut bytes = Vec::new();
            let read = self.file.read_until(b'\n', &mut bytes);
            let file = &self.path;
            let length =
                read.map_err(|source| ReadError::Unreadable { file: file.clone(), source })?;
            if length == 0 {
                history.torn += u64::from(self.torn.take().is_some());
                return match self.has_begun {
                    true => Ok(None),
                    false => Err(self.malformed("the file holds no history".to_owned())),
                };
            }
            self.line += 1;
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Line>(&bytes) {
                Ok(line) => {
                    if let Some(line) = self.take(line, &bytes, history)? {
                        return Ok(Some(line));
                    }
                }
                Err(error) => {
                    if let Some(torn) = self.torn.take() {
                        return Err(torn);
                    }
                    self.torn = Some(self.malformed(error.to_string()));
                }
            }
        }
    }

    /// Looks whether a line may stand here. One of an unknown kind is counted and left out.
    fn take(
        &mut self,
        line: Line,
        bytes: &[u8],
        history: &mut History,
    ) -> Result<Option<Line>, ReadError> {
        let is_format = matches!(line.event, Event::Format(_));
        if let Some(torn) = self.torn.take() {
            if !is_format {
                return Err(torn);
            }
            history.torn += 1;
        }
        if !self.has_begun && !is_format {
            let what = r#"a history begins with {"at":…,"node":…,"saw":"history","version":1}"#;
            return Err(self.malformed(what.to_owned()));
        }
        match &line.event {
            Event::Format(format) if format.version != VERSION => Err(self.malformed(format!(
                "version {} of the format; this program reads version {VERSION}",
                format.version
            ))),
            Event::Unknown => {
                *history.unknown.entry(name(bytes)).or_default() += 1;
                Ok(None)
            }
            _ => {
                self.has_begun = true;
                Ok(Some(line))
            }
        }
    }

    fn malformed(&self, what: String) -> ReadError {
        ReadError::Malformed { file: self.path.clone(), line: self.line.max(1), what }
    }
}

/// What an event calls itself.
fn name(line: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Named {
        saw: String,
    }
    serde_json::from_slice::<Named>(line).map_or_else(|_| "unknown".to_owned(), |named| named.saw)
}
