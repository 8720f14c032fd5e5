//! Clocks: the true time of the world, what a process reads, and what a database says.

use std::time::Duration;

use posthaste_core::{Moment, Timestamp};

/// What the database's calendar says when a world begins.
const BEGINNING: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// The database's calendar at a true moment, `ahead` of it in microseconds.
pub(crate) fn calendar(now: Moment, ahead: i64) -> Timestamp {
    let true_time = BEGINNING.plus(now.elapsed());
    Timestamp::from_micros(true_time.as_micros() + ahead)
}

/// The clock of one process, which began with it and goes fast or slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessClock {
    started: Moment,
    /// Millionths by which it goes fast; below zero it goes slow.
    drift: i64,
}

impl ProcessClock {
    pub(crate) fn new(started: Moment, drift: i64) -> Self {
        Self { started, drift }
    }

    /// What it reads at a true moment.
    pub(crate) fn read(&self, now: Moment) -> Moment {
        Moment::after_start(scaled(now.since(self.started), 1_000_000 + self.drift, 1_000_000))
    }

    /// The true moment, or just after it, at which it will read this.
    pub(crate) fn when(&self, reading: Moment) -> Moment {
        let elapsed = scaled(reading.elapsed(), 1_000_000, 1_000_000 + self.drift);
        self.started.plus(elapsed + Duration::from_micros(2))
    }
}

fn scaled(time: Duration, times: i64, by: i64) -> Duration {
    let micros = i128::try_from(time.as_micros()).unwrap_or(i128::MAX);
    let scaled = micros.saturating_mul(i128::from(times)) / i128::from(by.max(1));
    Duration::from_micros(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_has_come_by_then() {
        let started = Moment::after_start(Duration::from_millis(77));
        for drift in [-150_000, 0, 3, 150_000] {
            let clock = ProcessClock::new(started, drift);
            for micros in [0, 1, 999, 1_000_003] {
                let reading = Moment::after_start(Duration::from_micros(micros));
                assert!(clock.read(clock.when(reading)) >= reading, "{drift} {micros}");
            }
        }
    }
}
