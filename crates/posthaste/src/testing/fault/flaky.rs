//! Chance with a seed: calls fail now and then, before or after their effect.

use std::sync::{Mutex, PoisonError};

use posthaste_core::retry::Jitter;

use super::{Call, Fault, Strike, When};

/// Fails a share of the calls. The same seed and the same calls give the same failures.
///
/// Breaks no rule: an error says that the effect is unknown, and callers must repeat themselves
/// harmlessly. Loss, phantoms or double effects under it are mistakes of the caller.
pub struct Flaky {
    per_thousand_before: u64,
    per_thousand_after: u64,
    only: Option<Vec<Call>>,
    jitter: Mutex<Jitter>,
}

impl Flaky {
    /// Of a thousand calls, fails about so many before and so many after their effect.
    pub fn seeded(seed: u64, per_thousand_before: u64, per_thousand_after: u64) -> Self {
        let jitter = Mutex::new(Jitter::new(seed));
        Self { per_thousand_before, per_thousand_after, only: None, jitter }
    }

    /// The same for these calls only.
    #[must_use]
    pub fn only(mut self, calls: impl IntoIterator<Item = Call>) -> Self {
        self.only = Some(calls.into_iter().collect());
        self
    }
}

impl Fault for Flaky {
    fn strike(&self, call: Call, when: When) -> Strike {
        if self.only.as_ref().is_some_and(|only| !only.contains(&call)) {
            return Strike::Pass;
        }
        let share = match when {
            When::Before => self.per_thousand_before,
            When::After => self.per_thousand_after,
        };
        let drawn = self.jitter.lock().unwrap_or_else(PoisonError::into_inner).draw() % 1000;
        if drawn < share { Strike::Fail } else { Strike::Pass }
    }
}
