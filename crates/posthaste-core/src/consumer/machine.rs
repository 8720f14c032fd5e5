//! The machine that groups deliveries into runs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::Moment;
use crate::retry::{Jitter, RetryPolicy};

/// How a consumer groups and repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most deliveries of one transaction.
    pub batch: usize,
    /// How long a run waits for more deliveries than there are; zero takes what is there.
    pub linger: Duration,
    /// Runs at once.
    pub concurrency: usize,
    /// Waits while the database is away; its limit is not used.
    pub database_backoff: RetryPolicy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: 64,
            linger: Duration::ZERO,
            concurrency: 1,
            database_backoff: RetryPolicy {
                limit: u32::MAX,
                first: Duration::from_millis(100),
                longest: Duration::from_secs(2),
            },
        }
    }
}

/// Names a delivery in hand; the shell counts them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The moment that [`Consumer::deadline`] named has come.
    Tick,
    /// A delivery came in.
    Arrived {
        /// Its name from now on.
        ticket: Ticket,
        /// Whether it was delivered before: then it runs alone.
        alone: bool,
    },
    /// A run has ended.
    Ran {
        /// Which.
        run: RunId,
        /// How.
        result: Ran,
    },
    /// Finish the runs under way, and end.
    Stop,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// Committed: every message of it is done, was done before, or is a dead letter.
    Done,
    /// A run of several was rolled back because one of them failed; nothing was counted.
    Failed,
    /// The message of a run alone failed, was counted, and comes again.
    Retry {
        /// After this long.
        delay: Duration,
    },
    /// The database could not be reached; nothing was counted.
    Away,
}

/// Something for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Handle these in one transaction; answered by [`Input::Ran`].
    Run {
        /// Names the run.
        run: RunId,
        /// In this order.
        tickets: Vec<Ticket>,
        /// Whether it is a single message whose attempt is counted before it is made.
        alone: bool,
    },
    /// Tell the broker that it is done.
    Complete(Ticket),
    /// Tell the broker to deliver it again.
    Retry {
        /// Which.
        ticket: Ticket,
        /// After this long.
        delay: Duration,
    },
    /// Let go of it unsettled.
    Drop(Ticket),
    /// Nothing more comes: the shell can end.
    Finish,
}

/// See the [module](super).
#[derive(Debug)]
pub struct Consumer {
    settings: Settings,
    jitter: Jitter,
    waiting: VecDeque<(Ticket, bool)>,
    runs: BTreeMap<RunId, Vec<Ticket>>,
    next_run: u64,
    /// When the oldest waiting delivery has waited for company long enough.
    linger_until: Option<Moment>,
    failures: u32,
    away_until: Moment,
    stepped_at: Moment,
    stopping: bool,
    finished: bool,
}

impl Consumer {
    /// A consumer with nothing in hand. `seed` feeds the jitter.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            jitter: Jitter::new(seed),
            waiting: VecDeque::new(),
            runs: BTreeMap::new(),
            next_run: 0,
            linger_until: None,
            failures: 0,
            away_until: Moment::START,
            stepped_at: Moment::START,
            stopping: false,
            finished: false,
        }
    }

    /// Takes in what happened and says what to do.
    pub fn step(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        self.stepped_at = now;
        match input {
            Input::Tick => {}
            Input::Arrived { ticket, alone } => {
                if self.waiting.is_empty() {
                    self.linger_until = Some(now.plus(self.settings.linger));
                }
                self.waiting.push_back((ticket, alone));
            }
            Input::Ran { run, result } => self.ran(now, run, result, out),
            Input::Stop => self.stopping = true,
        }
        if self.stopping {
            self.wind_up(out);
        } else {
            self.start_runs(now, out);
        }
    }

    /// When to call [`Consumer::step`] with [`Input::Tick`] if nothing else happens before. Always
    /// after the last step, and perhaps passed when this is called.
    pub fn deadline(&self) -> Option<Moment> {
        if self.waiting.is_empty() || self.finished {
            return None;
        }
        [Some(self.away_until), self.linger_until]
            .into_iter()
            .flatten()
            .filter(|at| *at > self.stepped_at)
            .min()
    }

    /// Deliveries in hand, running or waiting.
    pub fn in_hand(&self) -> usize {
        self.waiting.len() + self.runs.values().map(Vec::len).sum::<usize>()
    }

    fn ran(&mut self, now: Moment, run: RunId, result: Ran, out: &mut Vec<Effect>) {
        let tickets = self.runs.remove(&run).unwrap_or_default();
        if result != Ran::Away {
            self.failures = 0;
        }
        match result {
            Ran::Done => out.extend(tickets.into_iter().map(Effect::Complete)),
            Ran::Retry { delay } => {
                out.extend(tickets.into_iter().map(|ticket| Effect::Retry { ticket, delay }));
            }
            Ran::Failed => self.put_back(tickets, true),
            Ran::Away => {
                self.failures = self.failures.saturating_add(1);
                let wait = self.settings.database_backoff.delay(self.failures, self.jitter.draw());
                self.away_until = now.plus(wait);
                // Whether the run was committed is not known; alone, each finds out for itself.
                self.put_back(tickets, true);
            }
        }
    }

    fn put_back(&mut self, tickets: Vec<Ticket>, alone: bool) {
        for ticket in tickets.into_iter().rev() {
            self.waiting.push_front((ticket, alone));
        }
    }

    fn start_runs(&mut self, now: Moment, out: &mut Vec<Effect>) {
        while self.runs.len() < self.settings.concurrency.max(1) && now >= self.away_until {
            let Some(&(_, alone)) = self.waiting.front() else { return };
            let most = if alone { 1 } else { self.settings.batch.max(1) };
            let fresh = self.waiting.iter().take(most).take_while(|(_, other)| *other == alone);
            let count = fresh.count();
            let complete = count == most || count < self.waiting.len();
            if !complete && self.linger_until.is_some_and(|until| now < until) {
                return;
            }
            let tickets: Vec<Ticket> =
                self.waiting.drain(..count).map(|(ticket, _)| ticket).collect();
            self.linger_until = None;
            let run = RunId(self.next_run);
            self.next_run += 1;
            self.runs.insert(run, tickets.clone());
            out.push(Effect::Run { run, tickets, alone });
        }
    }

    fn wind_up(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.waiting.drain(..).map(|(ticket, _)| Effect::Drop(ticket)));
        if self.runs.is_empty() && !self.finished {
            self.finished = true;
            out.push(Effect::Finish);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stepped(consumer: &mut Consumer, at: u64, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        consumer.step(Moment::after_start(Duration::from_millis(at)), input, &mut out);
        out
    }

    fn arrived(ticket: u64, alone: bool) -> Input {
        Input::Arrived { ticket: Ticket(ticket), alone }
    }

    fn run(run: u64, tickets: &[u64], alone: bool) -> Effect {
        let tickets = tickets.iter().copied().map(Ticket).collect();
        Effect::Run { run: RunId(run), tickets, alone }
    }

    #[test]
    fn what_arrives_during_a_run_runs_together_and_redelivered_ones_alone() {
        let mut consumer = Consumer::new(Settings::default(), 1);
        assert_eq!(stepped(&mut consumer, 0, arrived(1, false)), [run(0, &[1], false)]);
        for (ticket, alone) in [(2, false), (3, false), (4, true), (5, false)] {
            assert_eq!(stepped(&mut consumer, 0, arrived(ticket, alone)), []);
        }
        let done = |run| Input::Ran { run: RunId(run), result: Ran::Done };
        assert_eq!(
            stepped(&mut consumer, 1, done(0)),
            [Effect::Complete(Ticket(1)), run(1, &[2, 3], false)]
        );
        assert_eq!(stepped(&mut consumer, 2, done(1))[2..], [run(2, &[4], true)]);
        assert_eq!(stepped(&mut consumer, 3, done(2))[1..], [run(3, &[5], false)]);
        assert_eq!(consumer.in_hand(), 1);
    }

    #[test]
    fn a_failed_run_of_several_is_repeated_one_by_one_in_order() {
        let settings = Settings { linger: Duration::from_millis(5), ..Settings::default() };
        let mut consumer = Consumer::new(settings, 1);
        assert_eq!(stepped(&mut consumer, 0, arrived(1, false)), []);
        assert_eq!(stepped(&mut consumer, 1, arrived(2, false)), []);
        assert_eq!(stepped(&mut consumer, 5, Input::Tick), [run(0, &[1, 2], false)]);
        let ran = |run, result| Input::Ran { run: RunId(run), result };
        assert_eq!(stepped(&mut consumer, 6, ran(0, Ran::Failed)), [run(1, &[1], true)]);
        let delay = Duration::from_secs(1);
        assert_eq!(
            stepped(&mut consumer, 7, ran(1, Ran::Retry { delay })),
            [Effect::Retry { ticket: Ticket(1), delay }, run(2, &[2], true)]
        );
        assert_eq!(stepped(&mut consumer, 8, Input::Stop), []);
        assert_eq!(
            stepped(&mut consumer, 9, ran(2, Ran::Done)),
            [Effect::Complete(Ticket(2)), Effect::Finish]
        );
    }

    #[test]
    fn while_the_database_is_away_nothing_runs_and_nothing_is_lost() {
        let mut consumer = Consumer::new(Settings::default(), 1);
        stepped(&mut consumer, 0, arrived(1, false));
        let away = Input::Ran { run: RunId(0), result: Ran::Away };
        assert_eq!(stepped(&mut consumer, 0, away), []);
        assert_eq!(stepped(&mut consumer, 1, arrived(2, false)), []);
        let at = consumer.deadline();
        assert!(at.is_some_and(|at| at.elapsed() >= Duration::from_millis(50)));
        assert_eq!(stepped(&mut consumer, 200, Input::Tick), [run(1, &[1], true)]);
        assert_eq!(stepped(&mut consumer, 201, Input::Stop), [Effect::Drop(Ticket(2))]);
    }
}
