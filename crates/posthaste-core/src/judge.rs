//! The relay's judgement of one outcome: the only place that knows the policy for failures.

use crate::retry::{Jitter, RetryPolicy};
use crate::verdict::DeadReason;
use crate::{Outcome, Verdict};

/// What happens when a message of a key becomes a dead letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDead {
    /// Later messages of the key wait with it until an operator acts, and are then sent in order.
    #[default]
    Park,
    /// Later messages of the key go on without it.
    Skip,
}

/// What is known of the message beside the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Counted failures before this outcome.
    pub attempts: u32,
    /// Whether it has a key.
    pub keyed: bool,
    /// Whether it was alone in flight, so that whatever broke, it was not another message.
    pub alone: bool,
}

/// A judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The entry is settled with this.
    Settle(Verdict),
    /// It stays in the window and is sent again, with the same id and nothing counted.
    Again,
}

/// Judges an outcome: accepted is sent; refused for good is dead; refused for now is retried until
/// the limit; unknown is sent again, and is counted only if the message was alone in flight,
/// because then it may be the message that breaks the connection.
pub fn judge(
    outcome: &Outcome,
    circumstances: Circumstances,
    policy: &RetryPolicy,
    on_dead: OnDead,
    jitter: &mut Jitter,
) -> Judgement {
    let attempts = circumstances.attempts.saturating_add(1);
    let park = circumstances.keyed && on_dead == OnDead::Park;
    let dead = |reason, detail: &str| {
        Judgement::Settle(Verdict::Dead { attempts, reason, detail: detail.to_owned(), park })
    };
    let mut retry = |detail: &str| {
        if policy.is_exhausted(attempts) {
            return dead(DeadReason::Exhausted, detail);
        }
        let delay = policy.delay(attempts, jitter.draw());
        Judgement::Settle(Verdict::Retry { attempts, delay, detail: detail.to_owned() })
    };
    match outcome {
        Outcome::Accepted(_) => Judgement::Settle(Verdict::Sent),
        Outcome::Refused(refusal) if refusal.permanent => {
            dead(DeadReason::Refused, &refusal.detail)
        }
        Outcome::Refused(refusal) => retry(&refusal.detail),
        Outcome::Unknown { detail } if circumstances.alone => retry(detail),
        Outcome::Unknown { .. } => Judgement::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(outcome: Outcome, attempts: u32, alone: bool, on_dead: OnDead) -> Judgement {
        let policy = RetryPolicy { limit: 3, ..RetryPolicy::default() };
        let circumstances = Circumstances { attempts, keyed: true, alone };
        judge(&outcome, circumstances, &policy, on_dead, &mut Jitter::new(1))
    }

    #[test]
    fn the_table() {
        use Judgement::{Again, Settle};
        let park = OnDead::Park;
        assert_eq!(judged(Outcome::accepted(), 2, false, park), Settle(Verdict::Sent));
        assert!(matches!(
            judged(Outcome::refused("busy"), 0, false, park),
            Settle(Verdict::Retry { attempts: 1, .. })
        ));
        assert!(matches!(
            judged(Outcome::refused("busy"), 2, false, park),
            Settle(Verdict::Dead { attempts: 3, reason: DeadReason::Exhausted, park: true, .. })
        ));
        assert!(matches!(
            judged(Outcome::refused_for_good("too large"), 0, false, OnDead::Skip),
            Settle(Verdict::Dead { attempts: 1, reason: DeadReason::Refused, park: false, .. })
        ));
        assert_eq!(judged(Outcome::unknown("cut"), 99, false, park), Again);
        assert!(matches!(
            judged(Outcome::unknown("cut"), 0, true, park),
            Settle(Verdict::Retry { attempts: 1, .. })
        ));
        assert!(matches!(
            judged(Outcome::unknown("cut"), 2, true, park),
            Settle(Verdict::Dead { reason: DeadReason::Exhausted, .. })
        ));
    }
}
