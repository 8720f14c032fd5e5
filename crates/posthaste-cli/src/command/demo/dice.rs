//! Chance that can be repeated.

use std::time::Duration;

use posthaste_core::retry::Jitter;

/// Draws the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(Jitter);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Jitter::new(seed))
    }

    /// Another generator that goes its own way.
    pub(super) fn split(&mut self) -> Self {
        Self::new(self.0.draw())
    }

    /// A number from 0 to `limit` - 1; 0 if the limit is 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0.draw() % limit.max(1)
    }

    /// True this often in a hundred times.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Up to this long.
    pub(super) fn up_to(&mut self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(micros))
    }
}
