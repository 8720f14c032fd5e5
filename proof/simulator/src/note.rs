//! What is told of a world: one line for each thing that matters to somebody who reads a failure.

use std::fmt;

use posthaste_core::Moment;

/// What happened, with the names that identify it. Words are fixed, so that a digest of all notes
/// says whether two runs were the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// When, in the true time of the world.
    pub at: Moment,
    /// Who: `relay 1/0`, `consumer billing 0`, `database`.
    pub who: Actor,
    /// What.
    pub what: &'static str,
    /// Which messages it is about.
    pub messages: Vec<u32>,
    /// A number that belongs to it: a token, a count, an attempt.
    pub number: u64,
}

/// Somebody in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// The transaction of a writer.
    Writer(usize),
    /// A relay process and one of its lanes.
    Relay(usize, u16),
    /// A consumer process.
    Consumer(usize),
    /// The database of the outbox.
    Database,
    /// The broker, or one of its queues.
    Broker(usize),
    /// The database of a consumer.
    Inbox(usize),
    /// An operator.
    Operator,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writer(transaction) => write!(f, "transaction {transaction}"),
            Self::Relay(node, lane) => write!(f, "relay {node} lane {lane}"),
            Self::Consumer(node) => write!(f, "consumer {node}"),
            Self::Database => f.write_str("database"),
            Self::Broker(queue) => write!(f, "queue {queue}"),
            Self::Inbox(database) => write!(f, "inbox {database}"),
            Self::Operator => f.write_str("operator"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.at.elapsed().as_secs_f64() * 1000.0;
        write!(f, "{millis:9.3} ms  {:<18} {}", self.who.to_string(), self.what)?;
        if self.number > 0 {
            write!(f, " ({})", self.number)?;
        }
        if !self.messages.is_empty() {
            f.write_str(":")?;
            for message in &self.messages {
                write!(f, " m{message}")?;
            }
        }
        Ok(())
    }
}
