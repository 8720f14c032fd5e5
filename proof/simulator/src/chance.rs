//! Chance that can be repeated: each actor draws from a stream of its own, so that what one of them
//! does less of leaves the luck of the others as it was. That is what lets a world be shrunk.

use std::time::Duration;

use posthaste_core::retry::Jitter;

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub struct Chance(Jitter);

impl Chance {
    /// The stream with this name below a seed.
    pub fn stream(seed: u64, name: u64) -> Self {
        let mut mixed = Jitter::new(seed ^ name.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self(Jitter::new(mixed.draw()))
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw().checked_rem(limit).unwrap_or(0)
    }

    /// A place in a list of this length; 0 if that is 0.
    pub fn place(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.below(length)).unwrap_or(0)
    }

    /// Whether something happens that does so in this many of a hundred cases.
    pub fn percent(&mut self, rate: u64) -> bool {
        rate > 0 && self.below(100) < rate
    }

    /// A time from `shortest` to just below `longest`.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let span = longest.saturating_sub(shortest).as_micros();
        shortest + Duration::from_micros(self.below(u64::try_from(span).unwrap_or(u64::MAX)))
    }

    /// A number of milliseconds from `shortest` to just below `longest`.
    pub fn millis(&mut self, shortest: u64, longest: u64) -> Duration {
        self.between(Duration::from_millis(shortest), Duration::from_millis(longest))
    }

    /// One of a list that is not empty.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.place(of.len())]
    }
}
