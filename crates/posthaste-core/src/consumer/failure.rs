//! The consumer's judgement of one failed attempt: the only place that knows its policy.

use std::time::Duration;

use crate::retry::{Jitter, RetryPolicy};
use crate::verdict::DeadReason;

/// How a handler failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// It may work another time: an error, a panic, a time limit.
    Passing,
    /// It may work after this long.
    PassingAfter(Duration),
    /// It will never work.
    ForGood(DeadReason),
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureVerdict {
    /// It is delivered again after this long.
    Retry {
        /// How long.
        delay: Duration,
    },
    /// It becomes a dead letter of the consumer.
    Bury {
        /// Why.
        reason: DeadReason,
    },
}

/// Judges failed attempt number `attempts` (counted from 1).
pub fn judge_failure(
    failing: Failing,
    attempts: u32,
    policy: &RetryPolicy,
    jitter: &mut Jitter,
) -> FailureVerdict {
    let delay = match failing {
        Failing::ForGood(reason) => return FailureVerdict::Bury { reason },
        Failing::PassingAfter(delay) => delay,
        Failing::Passing => policy.delay(attempts, jitter.draw()),
    };
    if policy.is_exhausted(attempts) {
        FailureVerdict::Bury { reason: DeadReason::Exhausted }
    } else {
        FailureVerdict::Retry { delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let policy = RetryPolicy { limit: 2, ..RetryPolicy::default() };
        let judged =
            |failing, attempts| judge_failure(failing, attempts, &policy, &mut Jitter::new(3));
        let wait = Duration::from_secs(9);
        let rejected = DeadReason::Rejected;
        assert!(matches!(judged(Failing::Passing, 1), FailureVerdict::Retry { .. }));
        assert_eq!(judged(Failing::PassingAfter(wait), 1), FailureVerdict::Retry { delay: wait });
        let exhausted = FailureVerdict::Bury { reason: DeadReason::Exhausted };
        assert_eq!(judged(Failing::Passing, 2), exhausted);
        assert_eq!(judged(Failing::PassingAfter(wait), 2), exhausted);
        assert_eq!(
            judged(Failing::ForGood(rejected), 1),
            FailureVerdict::Bury { reason: rejected }
        );
    }
}
