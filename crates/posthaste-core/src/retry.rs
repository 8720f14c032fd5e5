//! How often and how long apart a failed message is tried again.

use std::time::Duration;

/// Exponential backoff with jitter and a limit on counted attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts before the message becomes a dead letter; at least 1.
    pub limit: u32,
    /// Wait after the first failure; no later wait is shorter than half of it.
    pub first: Duration,
    /// No wait is longer.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    /// Ten attempts over about twenty minutes: 1 s, 2 s, 4 s … up to 5 min apart.
    fn default() -> Self {
        Self { limit: 10, first: Duration::from_secs(1), longest: Duration::from_secs(300) }
    }
}

impl RetryPolicy {
    /// Whether `attempts` counted failures are the last that are allowed.
    pub fn is_exhausted(&self, attempts: u32) -> bool {
        attempts >= self.limit.max(1)
    }

    /// The wait after the `attempts`-th failure (counted from 1): doubled each time up to the
    /// longest, of which half is fixed and half is drawn from `jitter` (any number; its low bits
    /// decide), so that many failures at once do not come back at once.
    pub fn delay(&self, attempts: u32, jitter: u64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(40);
        let full = self.first.saturating_mul(2u32.saturating_pow(doublings.min(31)));
        let full = full.min(self.longest.max(self.first));
        let half = full / 2;
        let drawn = u128::from(jitter % 1024) * half.as_nanos() / 1023;
        half + Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX))
    }
}

/// A small deterministic number generator (SplitMix64, Steele, Lea and Flood 2014) for jitter. It
/// is seeded by the shell, so a simulator decides what it says; never use it for secrets.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A generator that says the same for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_bounds() {
        let policy = RetryPolicy::default();
        let mut jitter = Jitter::new(7);
        for attempts in 1..200 {
            let wait = policy.delay(attempts, jitter.draw());
            assert!(wait >= policy.first / 2 && wait <= policy.longest, "{attempts}: {wait:?}");
        }
        assert_eq!(policy.delay(1, 1023), Duration::from_secs(1));
        assert_eq!(policy.delay(3, 0), Duration::from_secs(2));
        assert_eq!(policy.delay(3, 1023), Duration::from_secs(4));
    }

    #[test]
    fn a_limit_of_zero_still_allows_one_attempt() {
        let policy = RetryPolicy { limit: 0, ..RetryPolicy::default() };
        assert!(!policy.is_exhausted(0) && policy.is_exhausted(1));
    }
}
