//! Waiting for something that is away: how long until the next try, and when to say so again.

use std::time::{Duration, Instant};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const FIRST_SILENCE: Duration = Duration::from_secs(10);
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// The state of waiting for one thing. It speaks at once, when the reason changes, and then at
/// growing intervals.
#[derive(Debug)]
pub(crate) struct Patience {
    wait: Duration,
    silence: Duration,
    said: Option<(Instant, String)>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { wait: FIRST_WAIT, silence: FIRST_SILENCE, said: None }
    }
}

impl Patience {
    /// Notes that it is away at `now`, for this reason; whether that is worth saying.
    pub(crate) fn is_news(&mut self, now: Instant, reason: &str) -> bool {
        if let Some((at, before)) = &self.said
            && before == reason
        {
            if now.duration_since(*at) < self.silence {
                return false;
            }
            self.silence = (self.silence * 2).min(LONGEST_SILENCE);
        }
        self.said = Some((now, reason.to_owned()));
        true
    }

    /// How long to wait before the next try; longer each time.
    pub(crate) fn wait(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait
    }

    /// Notes that it is there again; whether its absence had been told.
    pub(crate) fn is_over(&mut self) -> bool {
        std::mem::take(self).said.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_and_again_at_growing_intervals() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let mut said = Vec::new();
        for second in 0..100 {
            if patience.is_news(start + Duration::from_secs(second), "gone") {
                said.push(second);
            }
        }
        assert_eq!(said, [0, 10, 30, 70]);
        assert!(patience.is_news(start + Duration::from_secs(100), "another reason"));
        assert!(patience.is_over());
        assert!(!patience.is_over());
    }

    #[test]
    fn waits_grow_to_a_limit() {
        let mut patience = Patience::default();
        let waits: Vec<Duration> = (0..9).map(|_| patience.wait()).collect();
        assert_eq!(waits.first(), Some(&FIRST_WAIT));
        assert_eq!(waits.last(), Some(&LONGEST_WAIT));
    }
}
