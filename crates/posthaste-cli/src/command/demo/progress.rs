//! What a person sees while the demo runs: one line that is kept up to date on a terminal, a line
//! now and then elsewhere. The figures are for the eye only; nothing is judged by them.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::output::Output;

use super::stage::{Count, Stage};
use super::verdict::grouped;
use super::world::World;

/// Figures as they come.
#[derive(Debug)]
pub(super) struct Board {
    messages: u64,
    planned_kills: u64,
    committed: AtomicU64,
    rolled_back: AtomicU64,
    held_open: AtomicU64,
    kills: AtomicU64,
}

impl Board {
    pub(super) fn new(messages: u64, planned_kills: u64) -> Self {
        let zero = AtomicU64::default;
        let (committed, rolled_back, held_open, kills) = (zero(), zero(), zero(), zero());
        Self { messages, planned_kills, committed, rolled_back, held_open, kills }
    }

    pub(super) fn committed(&self, messages: u64) {
        self.committed.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn rolled_back(&self, messages: u64) {
        self.rolled_back.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn hold_open(&self) {
        self.held_open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn killed(&self, times: u64) {
        self.kills.store(times, Ordering::Relaxed);
    }

    /// How many transactions were held open for a while.
    pub(super) fn held_open(&self) -> u64 {
        self.held_open.load(Ordering::Relaxed)
    }

    fn line(&self, applied: i64, elapsed: Duration) -> String {
        let figure = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "committed {} of {}, applied {}, killed {} of {} times, {:.1} s",
            grouped(figure(&self.committed)),
            grouped(self.messages),
            grouped(u64::try_from(applied).unwrap_or(0)),
            figure(&self.kills),
            self.planned_kills,
            elapsed.as_secs_f64()
        )
    }
}

/// Shows a board until it is ended.
pub(super) struct Display {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Display {
    pub(super) fn start<S: Stage>(board: Arc<Board>, world: World<S>, output: Output) -> Self {
        let (end, ended) = oneshot::channel();
        let manner = match (io::stderr().is_terminal(), output.is_json()) {
            (true, _) => Manner::Live,
            (false, false) => Manner::Lines,
            (false, true) => Manner::Silent,
        };
        let task = tokio::spawn(show(board, world, manner, output, ended));
        Self { end, task }
    }

    /// Takes the line away.
    pub(super) async fn end(self) {
        drop(self.end);
        // It has nothing to tell but what it has shown.
        drop(self.task.await);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Live,
    Lines,
    Silent,
}

async fn show<S: Stage>(
    board: Arc<Board>,
    world: World<S>,
    manner: Manner,
    output: Output,
    mut ended: oneshot::Receiver<()>,
) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(match manner {
        Manner::Live => Duration::from_millis(100),
        Manner::Lines | Manner::Silent => Duration::from_secs(2),
    });
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = &mut ended => break,
            _ = ticks.tick() => {}
        }
        let line = board.line(applied(&world).await, started.elapsed());
        match manner {
            Manner::Live => write_over(&format!("  {line}")),
            Manner::Lines => output.say(&line),
            Manner::Silent => {}
        }
    }
    if manner == Manner::Live {
        write_over("");
    }
}

/// What every consumer has applied; what cannot be read just now counts as nothing.
async fn applied<S: Stage>(world: &World<S>) -> i64 {
    let mut least = i64::MAX;
    for (name, consumer) in world.consumers() {
        least = least.min(consumer.count(Count::Rows, name).await.unwrap_or(0));
    }
    least
}

/// Replaces the last line of a terminal.
fn write_over(line: &str) {
    let mut stderr = io::stderr().lock();
    // A terminal that is gone is no reason to stop.
    drop(write!(stderr, "\r\u{1b}[2K{line}").and_then(|()| stderr.flush()));
}
