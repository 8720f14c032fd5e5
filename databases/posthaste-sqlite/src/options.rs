//! What can be chosen about a database.

use std::time::Duration;

use posthaste_core::limits::PAYLOAD_BYTES_DEFAULT;

/// Options of [`Sqlite::open`](crate::Sqlite::open).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether `migrate` creates the file if it is not there. Nothing else ever creates it.
    pub create: bool,
    /// Most bytes of a payload, up to 64 MiB. Above 1 MiB, `migrate` has to tell the table.
    pub payload_limit: usize,
    /// How long a statement waits while another connection writes before it is given up as
    /// unavailable. A relay may wait for its renewal as long as its lease lasts and longer: while
    /// nobody can write, nobody else takes the lease.
    pub busy_timeout: Duration,
    /// Most connections at once.
    pub connections: u32,
    /// How long a call waits for one of them.
    pub acquire_timeout: Duration,
}

impl Default for Options {
    /// Never create the file, 1 MiB, 5 s, 8 connections, 30 s.
    fn default() -> Self {
        Self {
            create: false,
            payload_limit: PAYLOAD_BYTES_DEFAULT,
            busy_timeout: Duration::from_secs(5),
            connections: 8,
            acquire_timeout: Duration::from_secs(30),
        }
    }
}
