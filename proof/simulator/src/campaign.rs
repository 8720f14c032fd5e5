//! Many seeds on several threads, and what they add up to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::marker::Markers;
use crate::sabotage::Sabotage;
use crate::scenario::{Mode, Scenario};
use crate::verdict::Violation;
use crate::world::World;

/// Of so many seeds one is run twice, to see that it is the same.
const TWICE: u64 = 100;

/// Which seeds, and how.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// No more are begun after this.
    pub longest: Option<Duration>,
    /// Without one each seed chooses.
    pub mode: Option<Mode>,
    /// A deliberate mistake in all of them.
    pub sabotage: Option<Sabotage>,
    /// How many run at once.
    pub threads: usize,
}

/// What the seeds of a campaign add up to.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Seeds that were run.
    pub seeds: u64,
    /// Messages that were committed in them.
    pub messages: u64,
    /// Things that happened in them.
    pub events: u64,
    /// Where they came by.
    pub markers: Markers,
    /// The lowest seed that went wrong, and how.
    pub failed: Option<(u64, Violation)>,
    /// A seed that did not do the same when it was run again.
    pub differed: Option<u64>,
}

impl Campaign {
    /// These seeds on two threads.
    pub fn new(first: u64, seeds: u64) -> Self {
        Self { first, seeds, longest: None, mode: None, sabotage: None, threads: 2 }
    }

    /// Runs the seeds; ends early if one fails.
    pub fn run(&self) -> Sum {
        let begun = Instant::now();
        let next = AtomicU64::new(0);
        let worst = AtomicU64::new(u64::MAX);
        let sums = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads.max(1))
                .map(|_| scope.spawn(|| self.work(begun, &next, &worst)))
                .collect();
            workers.into_iter().map(|worker| worker.join()).collect::<Vec<_>>()
        });
        let mut total = Sum::default();
        for sum in sums {
            match sum {
                Ok(sum) => total = total.with(sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        total
    }

    fn work(&self, begun: Instant, next: &AtomicU64, worst: &AtomicU64) -> Sum {
        let mut sum = Sum::default();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let late = self.longest.is_some_and(|longest| begun.elapsed() >= longest);
            if place >= self.seeds || late || place > worst.load(Ordering::Relaxed) {
                return sum;
            }
            let seed = self.first.wrapping_add(place);
            let run = || World::run(Scenario::new(seed, self.mode), self.sabotage, false);
            let verdict = run();
            if place.is_multiple_of(TWICE) && run().digest != verdict.digest {
                sum.differed = Some(seed);
            }
            sum.seeds += 1;
            sum.messages += verdict.committed;
            sum.events += verdict.events;
            sum.markers = sum.markers.with(verdict.markers);
            if let Some(violation) = verdict.violation {
                worst.fetch_min(place, Ordering::Relaxed);
                sum.failed = earlier(sum.failed, Some((seed, violation)));
            }
        }
    }
}

impl Sum {
    fn with(self, other: Self) -> Self {
        Self {
            seeds: self.seeds + other.seeds,
            messages: self.messages + other.messages,
            events: self.events + other.events,
            markers: self.markers.with(other.markers),
            failed: earlier(self.failed, other.failed),
            differed: self.differed.or(other.differed),
        }
    }
}

fn earlier(
    one: Option<(u64, Violation)>,
    other: Option<(u64, Violation)>,
) -> Option<(u64, Violation)> {
    [one, other].into_iter().flatten().min_by_key(|(seed, _)| *seed)
}
