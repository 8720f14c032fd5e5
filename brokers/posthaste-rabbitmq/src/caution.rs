//! How carefully a subscription is opened again after it was cut off.
//!
//! A message that the client library cannot read ends the whole connection every time that it is
//! delivered, and the broker counts a delivery for everything that was on its way with it. With a
//! prefetch of one that is the message alone, until the broker's own limit takes it out. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Wait after the first loss; doubled with each in a row until the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// What was open for as long as this was not ended by what it was given first.
const LONG: Duration = Duration::from_secs(60);
/// Losses in a row after which only one delivery at a time is asked for.
const MANY: u32 = 2;
/// Deliveries that have to be settled until more than one at a time is asked for again; doubled
/// each time that this turns out to have been too early.
const CALM: u64 = 8;
const CALM_MOST: u64 = 1024;

/// How a consumer ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// How long it was open.
    pub(crate) lived: Duration,
    /// How many of its deliveries were settled.
    pub(crate) settled: u64,
    /// Whether it had something in hand that was delivered often before.
    pub(crate) is_worn: bool,
}

/// What is known of the losses of one subscription.
#[derive(Debug)]
pub(crate) struct Caution {
    losses: u32,
    /// Losses in a row because of something that cannot be read.
    unreadable: u32,
    is_careful: bool,
    /// How many deliveries are to be settled carefully the next time.
    calm: u64,
    not_before: Option<Instant>,
}

impl Default for Caution {
    fn default() -> Self {
        Self { losses: 0, unreadable: 0, is_careful: false, calm: CALM, not_before: None }
    }
}

impl Caution {
    /// Notes that the subscription was cut off.
    pub(crate) fn lost(&mut self, ended: Ended, now: Instant) {
        let is_in_a_row = ended.settled == 0 && ended.lived < LONG;
        if ended.lived >= LONG && !self.is_careful {
            self.calm = CALM;
        }
        self.losses = if is_in_a_row { self.losses.saturating_add(1) } else { 1 };
        let doublings = (self.losses - 1).min(10);
        self.not_before = Some(now + FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT));
        self.is_careful |= ended.is_worn;
    }

    /// Notes why it was. A network that cuts is no reason to be careful: what was in hand goes to
    /// the end of what comes back, so that one at a time would bring a key out of order.
    pub(crate) fn blame(&mut self, is_unreadable: bool) {
        self.unreadable = if is_unreadable { self.unreadable.saturating_add(1) } else { 0 };
        self.is_careful |= self.unreadable >= MANY;
    }

    /// When it may be opened again.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Whether only one delivery at a time is to be asked for, over a connection of its own.
    pub(crate) fn is_careful(&self) -> bool {
        self.is_careful
    }

    /// Whether a consumer that was opened carefully has done well enough to end that: `calm` are
    /// the deliveries that it settled since the last one that was worn. While there may be others
    /// to be delivered again it goes on: what it has in hand would come after them.
    pub(crate) fn is_overcome(&self, calm: u64, is_worn: bool, is_fresh: bool) -> bool {
        self.is_careful && calm >= self.calm && !is_worn && is_fresh
    }

    /// Ends it.
    pub(crate) fn relax(&mut self) {
        let calm = self.calm.saturating_mul(2).min(CALM_MOST);
        *self = Self { calm, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Ended = Ended { lived: Duration::from_secs(1), settled: 0, is_worn: false };

    fn wait(caution: &Caution, now: Instant) -> Duration {
        caution.not_before().expect("a wait") - now
    }

    #[test]
    fn waits_grow_with_losses_in_a_row_up_to_a_limit() {
        let (mut caution, now) = (Caution::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..20 {
            caution.lost(QUICK, now);
            waits.push(wait(&caution, now));
        }
        assert_eq!(waits[..3], [50, 100, 200].map(Duration::from_millis));
        assert!(waits[6..].iter().all(|wait| *wait == LONGEST_WAIT));
        caution.lost(Ended { settled: 1, ..QUICK }, now);
        assert_eq!(wait(&caution, now), FIRST_WAIT);
        assert!(!caution.is_careful(), "nothing says that a message is to blame");
    }

    #[test]
    fn only_what_cannot_be_read_and_what_is_worn_make_careful() {
        let now = Instant::now();
        let mut caution = Caution::default();
        for _ in 0..5 {
            caution.lost(Ended { settled: 3, ..QUICK }, now);
            caution.lost(Ended { lived: LONG, ..QUICK }, now);
        }
        caution.blame(true);
        caution.blame(false);
        caution.blame(true);
        assert!(!caution.is_careful());
        caution.blame(true);
        assert!(caution.is_careful());
        let mut caution = Caution::default();
        caution.lost(Ended { settled: 3, is_worn: true, ..QUICK }, now);
        assert!(caution.is_careful());
        assert!(!caution.is_overcome(CALM, true, true));
        assert!(!caution.is_overcome(CALM - 1, false, true));
        assert!(!caution.is_overcome(CALM, false, false), "others are to be delivered again");
        assert!(caution.is_overcome(CALM, false, true));
        caution.relax();
        assert!(!caution.is_careful() && caution.not_before().is_none());
        caution.blame(true);
        caution.blame(true);
        assert!(!caution.is_overcome(CALM, false, true), "it was too early the last time");
        assert!(caution.is_overcome(2 * CALM, false, true));
    }
}
