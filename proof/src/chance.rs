//! Chance that can be repeated: a seed decides everything that a campaign leaves to chance.

use std::time::Duration;

use posthaste_core::retry::Jitter;

/// The variable that sets the seed of all campaigns.
pub const VARIABLE: &str = "POSTHASTE_SEED";

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub struct Chance {
    seed: u64,
    numbers: Jitter,
}

impl Chance {
    /// Numbers from this seed, or from the one that the environment names.
    pub fn from_environment(seed: u64) -> Self {
        let named = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
        Self::new(named.unwrap_or(seed))
    }

    /// Numbers from this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, numbers: Jitter::new(seed) }
    }

    /// What to set to see the same again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.numbers.draw() % limit
    }

    /// Whether one of `in_how_many` comes up.
    pub fn one(&mut self, in_how_many: u64) -> bool {
        self.below(in_how_many) == 0
    }

    /// A time between the two.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let span = longest.saturating_sub(shortest).as_micros().max(1);
        shortest + Duration::from_micros(self.below(u64::try_from(span).unwrap_or(u64::MAX)))
    }
}
