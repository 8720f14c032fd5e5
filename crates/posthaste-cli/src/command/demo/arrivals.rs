//! The log of what arrives at a consumer, which outlives the process that writes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use posthaste_core::{Delivery, Headers, Message};
use posthaste_history::{Delivered, Digest};

/// Appends arrivals to a file: one line each, in the order of arrival. What was written is there
/// also if the process is killed at once.
#[derive(Debug)]
pub(super) struct ArrivalLog(File);

impl ArrivalLog {
    /// Opens the log and ends a line that a killed process may have left unfinished.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(b"\n")?;
        Ok(Self(file))
    }

    /// Notes deliveries, before anybody has seen them.
    pub(super) fn note(&mut self, deliveries: &[Delivery]) -> io::Result<()> {
        let lines: String = deliveries.iter().map(|one| line(&one.message)).collect();
        self.0.write_all(lines.as_bytes())
    }
}

fn line(message: &Message) -> String {
    format!("{} {:016x}\n", message.id, digest_of(message))
}

/// Reads the log of one consumer. A line that was left unfinished is an arrival that nobody has
/// seen, and the message comes again.
pub(super) fn read(path: &Path, consumer: &str) -> io::Result<Vec<Delivered>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let parsed = text.lines().filter_map(|line| {
        let (id, digest) = line.split_once(' ')?;
        let digest = u64::from_str_radix(digest, 16).ok().filter(|_| digest.len() == 16)?;
        Some(Delivered { consumer: consumer.to_owned(), id: id.to_owned(), digest })
    });
    Ok(parsed.collect())
}

/// Everything of a message that has to arrive as it was stated, besides its id.
pub(super) struct Content<'m> {
    pub(super) topic: &'m str,
    pub(super) kind: &'m str,
    pub(super) key: Option<&'m str>,
    pub(super) content_type: Option<&'m str>,
    pub(super) headers: &'m Headers,
    pub(super) payload: &'m [u8],
}

impl Content<'_> {
    /// Its digest.
    pub(super) fn digest(&self) -> u64 {
        let start = Digest::new()
            .field(self.topic.as_bytes())
            .field(self.kind.as_bytes())
            .optional(self.key.map(str::as_bytes))
            .optional(self.content_type.map(str::as_bytes))
            .field(self.payload);
        let with_headers = self.headers.iter().fold(start, |digest, (name, value)| {
            digest.field(name.as_bytes()).field(value.as_bytes())
        });
        with_headers.finish()
    }
}

/// The digest of a message as it arrived.
pub(super) fn digest_of(message: &Message) -> u64 {
    let content = Content {
        topic: &message.topic,
        kind: &message.kind,
        key: message.key.as_deref(),
        content_type: message.content_type.as_deref(),
        headers: &message.headers,
        payload: message.payload.as_bytes(),
    };
    content.digest()
}

#[cfg(test)]
mod tests {
    use posthaste_core::{MessageId, Timestamp};

    use super::*;

    #[test]
    fn an_unfinished_line_hides_no_other() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("log");
        assert_eq!(read(&path, "shipping")?, []);
        let message = |n| {
            let id = MessageId::from_bytes([n; 16]);
            Message::new(id, "orders", "order.placed", "{}", Timestamp::from_millis(0))
        };
        let whole = format!("{}{}", line(&message(1)), line(&message(2)));
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        file.write_all(&whole.as_bytes()[..whole.len() - 5])?;
        let mut log = ArrivalLog::open(&path)?;
        log.0.write_all(line(&message(2)).as_bytes())?;
        let read = read(&path, "shipping")?;
        let ids: Vec<&str> = read.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, [message(1).id.to_string(), message(2).id.to_string()]);
        assert_eq!(read[1].digest, digest_of(&message(2)));
        Ok(())
    }
}
