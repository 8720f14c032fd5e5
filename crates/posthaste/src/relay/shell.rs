//! The shell around the machine of one lane: it steps the machine and starts what that asks for.
//!
//! Every call runs in a task of its own and comes back as an input, so that nothing that holds
//! state is ever dropped half way.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use posthaste_core::Moment;
use posthaste_core::relay::{self, Effect, Input};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::hands::Hands;

/// One lane at work.
pub(super) struct Shell {
    hands: Hands,
    machine: relay::Relay,
    calls: JoinSet<Input>,
    started: Instant,
}

impl Shell {
    pub(super) fn new(hands: Hands, machine: relay::Relay) -> Self {
        Self { hands, machine, calls: JoinSet::new(), started: Instant::now() }
    }

    /// Relays until `stop` is ready and what was taken is brought home.
    pub(super) async fn run(&mut self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        let mut stopping = false;
        let database = Arc::clone(&self.hands.database);
        let mut changed = pin!(database.changed());
        let mut input = Input::Tick;
        while self.step(input) {
            let deadline = self.machine.deadline();
            let at = deadline.map(|at| self.started + at.elapsed());
            input = tokio::select! {
                biased;
                () = &mut stop, if !stopping => {
                    stopping = true;
                    Input::Stop
                }
                Some(answer) = self.calls.join_next() => match answer {
                    Ok(input) => input,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // A call is cancelled only together with the whole runtime.
                        Err(_) => return,
                    },
                },
                () = &mut changed => {
                    changed.set(database.changed());
                    Input::Changed
                }
                () = sleep_until(at) => Input::Tick,
            };
        }
    }

    fn now(&self) -> Moment {
        Moment::after_start(self.started.elapsed())
    }

    /// Steps the machine and starts what it asks for; whether to go on.
    fn step(&mut self, input: Input) -> bool {
        let mut effects = Vec::new();
        self.machine.step(self.now(), input, &mut effects);
        let progress = &self.hands.progress;
        let (lane, leading) = (&self.hands.lane, self.machine.is_leading());
        if progress.set_lane(lane.index, leading, self.machine.window()) {
            let (destination, index, of) = (&*lane.destination, lane.index, lane.of);
            tracing::info!(destination, lane = index, of, leading, "the relay {}", role(leading));
        }
        for effect in effects {
            if effect == Effect::Finish {
                return false;
            }
            self.calls.spawn(self.hands.clone().carry_out(effect));
        }
        true
    }
}

fn role(leading: bool) -> &'static str {
    if leading { "leads" } else { "stands by" }
}

pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
