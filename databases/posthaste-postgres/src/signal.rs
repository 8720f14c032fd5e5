//! The hint that something was committed.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// How far one handle has taken note of the changes.
#[derive(Debug, Default)]
pub(crate) struct Seen(pub(crate) AtomicU64);

impl Clone for Seen {
    /// The copy starts where the original is.
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Acquire)))
    }
}

/// The changes of one database, counted.
#[derive(Debug)]
pub(crate) struct Changes {
    count: watch::Sender<u64>,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self { count: watch::Sender::new(1) }
    }

    /// A transaction of this process that may have stated messages was committed.
    pub(crate) fn committed(&self) {
        self.count.send_modify(|count| *count = count.wrapping_add(1));
    }
}
