//! The relay's judgement of one outcome: the only place that knows the policy for failures.

use std::time::Duration;

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

/// What happens to messages of a topic and kind that nobody is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnroutable {
    /// They are set aside, visibly and in order, and are sent when somebody is.
    #[default]
    Hold,
    /// They count as sent: nobody wanted them.
    Accept,
    /// They become dead letters.
    Dead,
}

/// What happens to failures of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicPolicy {
    /// How often and how long apart a message is tried.
    pub retry: RetryPolicy,
    /// What happens to a key when one of its messages is given up.
    pub on_dead: OnDead,
    /// What happens to messages that nobody is bound to.
    pub unroutable: OnUnroutable,
    /// How often the first of those that are set aside is tried again.
    pub probe_every: Duration,
}

impl Default for TopicPolicy {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            on_dead: OnDead::default(),
            unroutable: OnUnroutable::default(),
            probe_every: Duration::from_secs(2),
        }
    }
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

/// Judges an outcome: accepted is sent; unroutable is set aside, or what the topic says; refused for good is dead; refused for now is retried until
/// the limit; unknown is sent again, and is counted only if the message was alone in flight,
/// because then it may be the message that breaks the connection.
pub fn judge(
    outcome: &Outcome,
    circumstances: Circumstances,
    policy: &TopicPolicy,
    jitter: &mut Jitter,
) -> Judgement {
    let attempts = circumstances.attempts.saturating_add(1);
    let park = circumstances.keyed && policy.on_dead == OnDead::Park;
    let dead = |attempts, reason, detail: &str| {
        Judgement::Settle(Verdict::Dead { attempts, reason, detail: detail.to_owned(), park })
    };
    let mut retry = |detail: &str| {
        if policy.retry.is_exhausted(attempts) {
            return dead(attempts, DeadReason::Exhausted, detail);
        }
        let delay = policy.retry.delay(attempts, jitter.draw());
        Judgement::Settle(Verdict::Retry { attempts, delay, detail: detail.to_owned() })
    };
    match outcome {
        Outcome::Accepted(_) => Judgement::Settle(Verdict::Sent),
        Outcome::Refused(refusal) if refusal.permanent => {
            dead(attempts, DeadReason::Refused, &refusal.detail)
        }
        Outcome::Refused(refusal) => retry(&refusal.detail),
        Outcome::Unroutable { detail } => match policy.unroutable {
            OnUnroutable::Hold => {
                // An empty detail would say that it was not tried.
                let said = if detail.is_empty() { "nobody is bound to it" } else { detail };
                let (probe_in, detail) = (policy.probe_every, said.to_owned());
                Judgement::Settle(Verdict::Unroutable { probe_in, detail })
            }
            OnUnroutable::Accept => Judgement::Settle(Verdict::Sent),
            // It was not its fault: nothing is counted.
            OnUnroutable::Dead => dead(circumstances.attempts, DeadReason::Unroutable, detail),
        },
        Outcome::Unknown { detail } if circumstances.alone => retry(detail),
        Outcome::Unknown { .. } => Judgement::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(outcome: Outcome, attempts: u32, alone: bool, on_dead: OnDead) -> Judgement {
        let retry = RetryPolicy { limit: 3, ..RetryPolicy::default() };
        let policy = TopicPolicy { retry, on_dead, ..TopicPolicy::default() };
        let circumstances = Circumstances { attempts, keyed: true, alone };
        judge(&outcome, circumstances, &policy, &mut Jitter::new(1))
    }

    #[test]
    fn what_nobody_takes_is_judged_as_its_topic_says() {
        let judged = |unroutable| {
            let policy = TopicPolicy { unroutable, ..TopicPolicy::default() };
            let circumstances = Circumstances { attempts: 2, keyed: true, alone: true };
            let outcome = Outcome::unroutable("nobody is bound");
            judge(&outcome, circumstances, &policy, &mut Jitter::new(1))
        };
        let Judgement::Settle(held) = judged(OnUnroutable::Hold) else { panic!("not settled") };
        assert!(matches!(held, Verdict::Unroutable { .. }));
        assert_eq!(judged(OnUnroutable::Accept), Judgement::Settle(Verdict::Sent));
        assert!(matches!(
            judged(OnUnroutable::Dead),
            Judgement::Settle(Verdict::Dead { attempts: 2, reason: DeadReason::Unroutable, .. })
        ));
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
