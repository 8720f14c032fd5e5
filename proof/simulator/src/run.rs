//! A run of a consumer: one transaction with inbox entries, handlers and their effects, step by
//! step as the shipped one takes them, so that a crash can come between any two.

use std::sync::Arc;
use std::time::Duration;

use posthaste_core::consumer::{Failing, FailureVerdict, Ran, RunId, Ticket, judge_failure};
use posthaste_core::inbox::Acceptance;
use posthaste_core::retry::Jitter;
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Message, MessageId, RetryPolicy};

use crate::consumer::ToConsumer;
use crate::marker::sometimes;
use crate::message::number_of;
use crate::note::Actor;
use crate::publishing::is_chosen;
use crate::sabotage::Sabotage;
use crate::world::{Event, World, travel};

/// See the module.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) tickets: Vec<Ticket>,
    messages: Vec<Arc<Message>>,
    alone: bool,
    stage: Stage,
    /// The number of the attempt, once it is counted.
    pub(crate) attempt: Option<u32>,
    /// What is handled for the first time.
    first: Vec<usize>,
    failing: Option<Failing>,
    kills: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Alone: see whether it is done, so that no attempt is counted.
    Look,
    /// Alone: count the attempt.
    Count,
    /// Begin, take the inbox entries, and let the handlers work.
    Accept,
    /// They are done: commit, or not.
    Commit,
    /// A sabotage: the inbox entries come after the effects.
    InboxAfter,
    /// A single one that failed beside nobody: count the attempt now.
    CountFailure,
    /// Note how it failed.
    Record(FailureVerdict),
    /// Make it a dead letter.
    Bury(DeadReason),
}

impl World {
    pub(crate) fn begin_run(&mut self, node: usize, id: RunId, tickets: Vec<Ticket>, alone: bool) {
        let messages: Vec<_> =
            tickets.iter().filter_map(|ticket| self.message_of(node, *ticket)).collect();
        self.done_too_early(node, &tickets, Sabotage::AckBeforeCommit);
        let attempt = match tickets[..] {
            [ticket] => self.consumers[node].begun.get(&ticket).copied(),
            _ => None,
        };
        let stage = if alone { Stage::Look } else { Stage::Accept };
        let (first, failing, kills) = (Vec::new(), None, false);
        let run = Run { tickets, messages, alone, stage, attempt, first, failing, kills };
        self.consumers[node].runs.insert(id, run);
        self.run_later(node, id, Duration::ZERO);
    }

    fn run_later(&mut self, node: usize, run: RunId, work: Duration) {
        let consumer = &mut self.consumers[node];
        let wait = work + travel(&mut consumer.chance, &self.rates);
        let incarnation = consumer.incarnation;
        self.plan(wait, Event::Consumer(node, incarnation, ToConsumer::Run(run)));
    }

    /// Takes the next step, unless the database cannot be reached; then the run ends.
    pub(crate) fn step_run(&mut self, node: usize, id: RunId) {
        let consumer = &mut self.consumers[node];
        let queue = consumer.queue;
        let lost = consumer.chance.percent(self.rates.database_lost);
        let unanswered = consumer.chance.percent(self.rates.database_unanswered);
        let Some(run) = consumer.runs.get(&id) else { return };
        let stage = run.stage;
        if stage == Stage::Commit && run.kills {
            return self.process_killed(node);
        }
        if lost || !self.inboxes[queue].is_up {
            self.inboxes[queue].end((node, self.consumers[node].incarnation, id.0), false);
            return self.ran(node, id, Ran::Away);
        }
        let next = self.take_step(node, id, stage);
        let writes = !matches!(stage, Stage::Look | Stage::Accept);
        match next {
            // It happened, and nobody was told.
            Next::Ends(_) | Next::Goes(..) if unanswered && writes => {
                sometimes!(self, ConsumerCommitUnknown, if stage == Stage::Commit);
                self.inboxes[queue].end((node, self.consumers[node].incarnation, id.0), false);
                self.ran(node, id, Ran::Away);
            }
            Next::Ends(result) => self.ran(node, id, result),
            Next::Goes(stage, work) => {
                if let Some(run) = self.consumers[node].runs.get_mut(&id) {
                    run.stage = stage;
                }
                self.run_later(node, id, work);
            }
        }
    }

    fn take_step(&mut self, node: usize, id: RunId, stage: Stage) -> Next {
        match stage {
            Stage::Look => self.look_whether_done(node, id),
            Stage::Count => self.count_attempt(node, id),
            Stage::Accept => self.accept(node, id),
            Stage::Commit => self.commit_run(node, id),
            Stage::InboxAfter => {
                self.commit_inbox(node, id);
                Next::Ends(Ran::Done)
            }
            Stage::CountFailure => {
                let attempt = self.count(node, id);
                self.judge_run(node, id, attempt)
            }
            Stage::Record(FailureVerdict::Retry { delay }) => Next::Ends(Ran::Retry { delay }),
            Stage::Record(FailureVerdict::Bury { reason }) => {
                let tickets = self.consumers[node].runs[&id].tickets.clone();
                self.done_too_early(node, &tickets, Sabotage::AckBeforeBurial);
                Next::Goes(Stage::Bury(reason), Duration::ZERO)
            }
            Stage::Bury(reason) => self.bury(node, id, reason),
        }
    }

    fn look_whether_done(&mut self, node: usize, id: RunId) -> Next {
        let run = &self.consumers[node].runs[&id];
        let (queue, begun) = (self.consumers[node].queue, run.attempt.is_some());
        let Some(message) = run.messages.first().map(|message| message.id) else {
            return Next::Ends(Ran::Done);
        };
        if self.is_known(queue, message) {
            sometimes!(self, CopyAbsorbed);
            return Next::Ends(Ran::Done);
        }
        let late = self.is_sabotaged(Sabotage::AttemptCountedLate);
        Next::Goes(if begun || late { Stage::Accept } else { Stage::Count }, Duration::ZERO)
    }

    /// Whether the inbox knows a message; marks those that it is about to forget.
    fn is_known(&mut self, queue: usize, id: MessageId) -> bool {
        let known = self.inboxes[queue].is_done(id);
        if let Some(keep) = self.scenario.inbox
            && let Some(after) = self.witness.done_after(queue, id)
            && !self.inboxes[queue].is_dead(id)
        {
            sometimes!(self, WindowEdge, if known && after + 1 == keep);
            if after >= keep && !known {
                self.witness.may_repeat(queue, id);
            }
        }
        known
    }

    fn count(&mut self, node: usize, id: RunId) -> u32 {
        let queue = self.consumers[node].queue;
        let Some(run) = self.consumers[node].runs.get_mut(&id) else { return 0 };
        let Some(message) = run.messages.first() else { return 0 };
        let attempt = self.inboxes[queue].begin_attempt(message.id);
        run.attempt = Some(attempt);
        attempt
    }

    fn count_attempt(&mut self, node: usize, id: RunId) -> Next {
        let attempt = self.count(node, id);
        if attempt > self.scenario.attempts {
            sometimes!(self, BuriedForCrashes);
            return Next::Goes(Stage::Bury(DeadReason::Exhausted), Duration::ZERO);
        }
        Next::Goes(Stage::Accept, Duration::ZERO)
    }

    fn accept(&mut self, node: usize, id: RunId) -> Next {
        let (queue, incarnation) = (self.consumers[node].queue, self.consumers[node].incarnation);
        let messages = self.consumers[node].runs[&id].messages.clone();
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let Some(acceptances) = self.inboxes[queue].accept((node, incarnation, id.0), &ids) else {
            sometimes!(self, RacedForOneMessage);
            let waiting = ids.iter().filter_map(|id| number_of(*id)).collect();
            self.note(Actor::Consumer(node), "waits for another transaction", waiting, id.0);
            return Next::Goes(Stage::Accept, Duration::from_millis(1));
        };
        for id in &ids {
            self.is_known(queue, *id);
        }
        let first = acceptances.iter().enumerate();
        let first = first.filter(|(_, acceptance)| **acceptance == Acceptance::First);
        let first: Vec<usize> = first.map(|(place, _)| place).collect();
        sometimes!(self, CopyAbsorbed, if first.len() < ids.len());
        let (mut work, mut failing, mut kills) = (Duration::ZERO, None, false);
        for place in &first {
            let number = number_of(ids[*place]).unwrap_or(0);
            let chance = &mut self.consumers[node].chance;
            work += travel(chance, &self.rates);
            let fails = chance.percent(self.rates.handler_fails);
            let (seed, salt) = (self.scenario.seed, u64::try_from(queue).unwrap_or(0));
            kills |= is_chosen(seed, 20 + salt, number, self.rates.handler_kills);
            if is_chosen(seed, 30 + salt, number, self.rates.handler_refuses) {
                failing = failing.or(Some(Failing::ForGood(DeadReason::Rejected)));
            } else if fails {
                failing = failing.or(Some(Failing::Passing));
            }
        }
        if let Some(run) = self.consumers[node].runs.get_mut(&id) {
            (run.first, run.failing, run.kills) = (first, failing, kills);
        }
        Next::Goes(Stage::Commit, work)
    }

    fn commit_run(&mut self, node: usize, id: RunId) -> Next {
        let (queue, incarnation) = (self.consumers[node].queue, self.consumers[node].incarnation);
        let run = &self.consumers[node].runs[&id];
        let (single, failing) = (run.messages.len() == 1, run.failing);
        let counted = run.attempt.filter(|_| run.alone);
        let effects: Vec<MessageId> =
            run.first.iter().map(|place| run.messages[*place].id).collect();
        if failing.is_some() {
            self.inboxes[queue].end((node, incarnation, id.0), false);
            return match (single, counted) {
                (true, Some(attempt)) => self.judge_run(node, id, attempt),
                (true, None) => Next::Goes(Stage::CountFailure, Duration::ZERO),
                (false, _) => Next::Ends(Ran::Failed),
            };
        }
        if self.is_sabotaged(Sabotage::CommitBeforeInbox) {
            self.take_effect(node, &effects);
            return Next::Goes(Stage::InboxAfter, Duration::ZERO);
        }
        let held = self.commit_inbox(node, id);
        if held < effects.len() {
            // The server was started again meanwhile: its transactions are gone.
            return Next::Ends(Ran::Away);
        }
        self.take_effect(node, &effects);
        Next::Ends(Ran::Done)
    }

    /// Commits the inbox entries of a run and returns how many there were.
    fn commit_inbox(&mut self, node: usize, id: RunId) -> usize {
        let (queue, incarnation) = (self.consumers[node].queue, self.consumers[node].incarnation);
        let done = self.inboxes[queue].end((node, incarnation, id.0), true);
        for id in &done {
            self.witness.done(queue, *id);
        }
        if let Some(keep) = self.scenario.inbox {
            let less = usize::from(self.is_sabotaged(Sabotage::WindowOffByOne));
            self.inboxes[queue].prune(keep - less);
        }
        done.len()
    }

    fn take_effect(&mut self, node: usize, ids: &[MessageId]) {
        let queue = self.consumers[node].queue;
        let numbers = ids.iter().filter_map(|id| number_of(*id)).collect();
        self.note(Actor::Consumer(node), "commits the effects of", numbers, 0);
        let ordered = self.scenario.personality.ordered;
        for id in ids {
            self.witness.took_effect(queue, *id, ordered);
        }
    }

    fn judge_run(&mut self, node: usize, id: RunId, attempt: u32) -> Next {
        let millis = Duration::from_millis;
        let limit = self.scenario.attempts;
        let policy = RetryPolicy { limit, first: millis(4), longest: millis(30) };
        let run = &self.consumers[node].runs[&id];
        let number = run.messages.first().and_then(|message| number_of(message.id)).unwrap_or(0);
        let failing = run.failing.unwrap_or(Failing::Passing);
        let mut jitter = Jitter::new(u64::from(number) ^ u64::from(attempt));
        let verdict = judge_failure(failing, attempt, &policy, &mut jitter);
        self.note(Actor::Consumer(node), "fails at", vec![number], attempt.into());
        Next::Goes(Stage::Record(verdict), Duration::ZERO)
    }

    fn bury(&mut self, node: usize, id: RunId, reason: DeadReason) -> Next {
        let queue = self.consumers[node].queue;
        let run = &self.consumers[node].runs[&id];
        let Some(message) = run.messages.first().map(|message| message.id) else {
            return Next::Ends(Ran::Done);
        };
        if self.inboxes[queue].bury(message) {
            let number = number_of(message).unwrap_or(0);
            sometimes!(self, Buried, if reason != DeadReason::Exhausted);
            if number_of(message).is_some() {
                self.witness.fate(number).buried[queue] = true;
            }
            self.note(Actor::Consumer(node), "buries", vec![number], 0);
        }
        Next::Ends(Ran::Done)
    }

    /// A handler ended its process.
    fn process_killed(&mut self, node: usize) {
        self.note(Actor::Consumer(node), "is ended by its handler", Vec::new(), 0);
        self.consumer_crash(node);
        self.plan(Duration::from_millis(2), Event::ConsumerUp(node));
    }
}

/// Where a run goes from here.
enum Next {
    Ends(Ran),
    /// To this stage, after this much work.
    Goes(Stage, Duration),
}
