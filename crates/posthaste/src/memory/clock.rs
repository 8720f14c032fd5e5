//! The clock of a memory backend: a calendar that moves with tokio's time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posthaste_core::Timestamp;
use tokio::time::Instant;

/// Begins at the wall clock's time and then goes with tokio's, which a test may pause and advance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    base: Timestamp,
}

impl Clock {
    /// A clock that begins now, by the wall clock of this machine.
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        Self::starting_at(Timestamp::from_micros(micros))
    }

    /// A clock that begins at `base`.
    pub(crate) fn starting_at(base: Timestamp) -> Self {
        Self { start: Instant::now(), base }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.base.plus(Instant::now().saturating_duration_since(self.start))
    }

    /// How long until `at`; `None` if it has come.
    pub(crate) fn until(&self, at: Timestamp) -> Option<Duration> {
        let left = at.since(self.now());
        (!left.is_zero()).then_some(left)
    }
}
