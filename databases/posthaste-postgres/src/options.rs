//! What can be chosen about a database.

use std::time::Duration;

use posthaste_core::limits::PAYLOAD_BYTES_DEFAULT;

/// The schema that holds the tables unless an option says otherwise.
pub(crate) const DEFAULT_SCHEMA: &str = "posthaste";

/// Options of [`Postgres::open`](crate::Postgres::open).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The schema that holds the tables of Posthaste: a lower-case letter or `_`, then up to 40 of
    /// `a-z 0-9 _`. Two services in one database take two schemas. `schema=` in a URL goes first.
    pub schema: String,
    /// Most bytes of a payload, up to 64 MiB. Above 1 MiB, `migrate` has to tell the table.
    pub payload_limit: usize,
    /// Most connections at once.
    pub connections: u32,
    /// How long a call waits for one of them, and for a new one to be made.
    pub acquire_timeout: Duration,
    /// How long a call waits for the server before it gives up and closes its connection, which a
    /// network that drops packets without a word would never do. What takes as long as there are
    /// rows (`migrate`, `adopt`, the upkeep, a division into lanes, `status`, `doctor`) goes on
    /// while the server answers a new connection. Choose more than `lock_timeout`. Zero: as long as
    /// TCP does.
    pub answer_within: Duration,
    /// How long our own statements wait for a lock before they are given up as unavailable, a
    /// migration included. Zero: as long as the server is set to.
    pub lock_timeout: Duration,
    /// Whether processes hint commits to each other by NOTIFY and LISTEN. It takes one more
    /// connection; without it, commits of other processes are seen within a second.
    pub listen: bool,
    /// Rows of each partition of the outbox that the relay makes, at least: where many are kept, new
    /// ones are larger, so that they stay few. Old messages leave a partition at a time; each
    /// partition adds to the cost of a look and to the locks that it takes.
    pub partition_rows: u32,
}

impl Default for Options {
    /// Schema `posthaste`, 1 MiB, 8 connections, 10 s for a connection, 30 s for an answer, 10 s
    /// for a lock, hints, a million rows in a partition.
    fn default() -> Self {
        Self {
            schema: DEFAULT_SCHEMA.to_owned(),
            payload_limit: PAYLOAD_BYTES_DEFAULT,
            connections: 8,
            acquire_timeout: Duration::from_secs(10),
            answer_within: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            listen: true,
            partition_rows: 1_000_000,
        }
    }
}
