//! The machine: lease, reading, flying and settling put together.

use std::time::Duration;

use super::window::Window;
use super::{Effect, Facts, Failure, FlightId, Input, Settings};
use crate::judge::judge;
use crate::lease::{Claim, Lease};
use crate::outbox::{Batch, Feed, ReadLimit, Ready, Settlement};
use crate::retry::Jitter;
use crate::verdict::Verdict;
use crate::{Checkpoint, Moment, Outcome};

/// Time between two rounds of pruning while there is more to remove: the outbox is read meanwhile.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// See the [module](super).
#[derive(Debug)]
pub struct Relay {
    settings: Settings,
    facts: Facts,
    jitter: Jitter,
    role: Role,
    window: Window,
    /// The settlement that is under way or has to be repeated word for word: a repetition with
    /// anything more in it would be taken for the first and lose the rest.
    settlement: Option<Settlement>,
    /// Whether a call to the database is under way.
    calling: bool,
    database: Backoff,
    broker: Backoff,
    next_flight: u64,
    /// Calls to the broker that are still under way from before the lease was lost.
    strays: usize,
    stopping: Option<Moment>,
    stepped_at: Moment,
    released: bool,
    finished: bool,
}

/// What this relay is at the moment.
#[derive(Debug)]
enum Role {
    Standby { claim_at: Moment, asked_at: Moment },
    Leading(Lead),
}

/// What a leader keeps.
#[derive(Debug)]
struct Lead {
    lease: Lease,
    /// When the last granted or renewed lease was asked for: its time counts from there at worst.
    asked_at: Moment,
    renew_at: Moment,
    expires_at: Moment,
    releasing: bool,
    /// Read up to here; `None` until it is loaded.
    cursor: Option<Checkpoint>,
    settlements: u64,
    /// When to look past the checkpoint.
    read_at: Moment,
    /// Looks past the checkpoint in a row that found nothing.
    empty_reads: u32,
    /// Whether it was read past nothing to send, and that is not stored.
    unstored: bool,
    /// When a checkpoint is stored although there is nothing to settle.
    store_at: Moment,
    /// When to look into the side table.
    ready_at: Moment,
    prune_at: Moment,
}

/// Waits between attempts to reach something that is away.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    until: Moment,
}

impl Relay {
    /// A relay that has not begun. `seed` feeds the jitter.
    pub fn new(settings: Settings, facts: Facts, seed: u64) -> Self {
        Self {
            settings,
            facts,
            jitter: Jitter::new(seed),
            role: Role::Standby { claim_at: Moment::START, asked_at: Moment::START },
            window: Window::default(),
            settlement: None,
            calling: false,
            database: Backoff::default(),
            broker: Backoff::default(),
            next_flight: 0,
            strays: 0,
            stopping: None,
            stepped_at: Moment::START,
            released: false,
            finished: false,
        }
    }

    /// Takes in what happened and says what to do. Begin with [`Input::Tick`].
    pub fn step(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        self.stepped_at = now;
        self.take_in(now, input);
        self.drive(now, out);
    }

    /// When to call [`Relay::step`] with [`Input::Tick`] if nothing else happens before. Always
    /// after the last step: what could be done by then was done by it. It may have passed when
    /// this is called; then it is time for the next one.
    pub fn deadline(&self) -> Option<Moment> {
        if self.finished {
            return None;
        }
        let mut at = Vec::new();
        if let Some(stop) = self.stopping {
            at.extend([stop.plus(self.settings.grace), stop.plus(self.last_grace())]);
        }
        match &self.role {
            Role::Standby { claim_at, .. } => at.push(*claim_at),
            Role::Leading(lead) => {
                at.extend([self.broker.until, self.database.until]);
                at.extend([lead.renew_at, lead.read_at, lead.ready_at, lead.prune_at]);
            }
        }
        at.into_iter().filter(|at| *at > self.stepped_at).min()
    }

    /// Whether this relay holds the lease, as far as it knows.
    pub fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leading(_))
    }

    /// Entries in memory.
    pub fn window(&self) -> usize {
        self.window.messages()
    }

    fn take_in(&mut self, now: Moment, input: Input) {
        match input {
            Input::Tick => {}
            Input::Changed => {
                if let Role::Leading(lead) = &mut self.role {
                    lead.read_at = now;
                    lead.ready_at = now;
                }
            }
            Input::Stop => self.stopping = self.stopping.or(Some(now)),
            Input::Published { flight, outcomes } => self.published(now, flight, outcomes),
            Input::Claimed(answer) => {
                self.answered(now, answer.as_ref().err());
                self.claimed(now, answer);
            }
            Input::Renewed(answer) => {
                self.answered(now, answer.as_ref().err());
                if answer.is_ok()
                    && let Role::Leading(lead) = &mut self.role
                {
                    lead.renewed(&self.settings);
                }
            }
            Input::Released => {
                self.calling = false;
                self.released = true;
            }
            Input::Loaded(answer) => {
                self.answered(now, answer.as_ref().err());
                if let (Ok(checkpoint), Role::Leading(lead)) = (answer, &mut self.role) {
                    lead.cursor = Some(checkpoint);
                }
            }
            Input::Read(answer) => {
                self.answered(now, answer.as_ref().err());
                if let Ok(batch) = answer {
                    self.read(now, batch);
                }
            }
            Input::Ready(answer) => {
                self.answered(now, answer.as_ref().err());
                if let Ok(ready) = answer {
                    self.ready(now, ready);
                }
            }
            Input::Settled(answer) => {
                self.answered(now, answer.as_ref().err());
                if answer.is_ok() {
                    self.settled(now);
                }
            }
            Input::Pruned(answer) => {
                self.answered(now, answer.as_ref().err());
                if let Role::Leading(lead) = &mut self.role {
                    let more = answer.unwrap_or(false);
                    let pause = if more { PRUNE_PAUSE } else { self.settings.prune_every };
                    lead.prune_at = now.plus(pause);
                }
            }
        }
    }

    /// The database has answered: backs off if it could not, steps down if it said no.
    fn answered(&mut self, now: Moment, failure: Option<&Failure>) {
        self.calling = false;
        match failure {
            None => self.database = Backoff::default(),
            Some(Failure::Fenced) => self.step_down(now),
            Some(Failure::Unavailable) => {
                self.database.failures = self.database.failures.saturating_add(1);
                let policy = &self.settings.database_backoff;
                let wait = policy.delay(self.database.failures, self.jitter.draw());
                self.database.until = now.plus(wait);
            }
        }
    }

    fn claimed(&mut self, now: Moment, answer: Result<Claim, Failure>) {
        let Role::Standby { claim_at, asked_at } = &mut self.role else { return };
        match answer {
            Ok(Claim::Granted(lease)) => {
                self.role = Role::Leading(Lead::new(lease, *asked_at, now, &self.settings));
            }
            Ok(Claim::Held { remaining, .. }) => {
                // Looked at well before it runs out too: a holder that ends gives it back early.
                let often = self.settings.lease_ttl / 4;
                *claim_at = now.plus(remaining.min(often).max(Duration::from_millis(10)));
            }
            Err(_) => *claim_at = self.database.until.max(now),
        }
    }

    /// Someone else leads: everything in memory is theirs now.
    fn step_down(&mut self, now: Moment) {
        self.strays += self.window.flights();
        self.window = Window::default();
        self.settlement = None;
        self.broker = Backoff::default();
        // Soon: perhaps nobody has it, and the database only went on in another life.
        let claim_at = now.plus(self.settings.lease_ttl / 20);
        self.role = Role::Standby { claim_at, asked_at: now };
    }

    fn read(&mut self, now: Moment, batch: Batch) {
        let Role::Leading(lead) = &mut self.role else { return };
        let empty = batch.entries.is_empty();
        lead.empty_reads = if empty { lead.empty_reads.saturating_add(1) } else { 0 };
        let pause = self.settings.pace.after(lead.empty_reads.saturating_sub(1));
        lead.read_at = if batch.more { now } else { now.plus(pause) };
        lead.unstored |= lead.cursor.as_ref() != Some(&batch.checkpoint);
        lead.cursor = Some(batch.checkpoint.clone());
        // On a busy database the snapshot moves all the time: that alone is not worth a write each
        // time, because a relay that starts again only looks at a little more.
        if !empty || (lead.unstored && now >= lead.store_at) {
            lead.unstored = false;
            lead.store_at = now.plus(self.settings.store_checkpoint_every);
            self.window.take(Feed::New, Some(batch.checkpoint), batch.entries);
        }
    }

    fn ready(&mut self, now: Moment, ready: Ready) {
        let Role::Leading(lead) = &mut self.role else { return };
        let longest = self.settings.pace.longest;
        let next = ready.next_in.unwrap_or(longest).min(longest);
        lead.ready_at = if ready.more { now } else { now.plus(next) };
        if !ready.entries.is_empty() {
            self.window.take(Feed::Ready, None, ready.entries);
        }
    }

    fn settled(&mut self, now: Moment) {
        let Some(settlement) = self.settlement.take() else { return };
        self.window.settled();
        let Role::Leading(lead) = &mut self.role else { return };
        // A key whose head is gone has a new one, which is ready at once.
        for settled in &settlement.verdicts {
            let look_at = match &settled.verdict {
                Verdict::Sent if settled.feed == Feed::New => continue,
                Verdict::Retry { delay, .. } => now.plus(*delay),
                Verdict::Unroutable { probe_in, .. } => now.plus(*probe_in),
                Verdict::Sent | Verdict::Due | Verdict::Behind | Verdict::Dead { .. } => now,
            };
            lead.ready_at = lead.ready_at.min(look_at);
        }
    }

    fn published(&mut self, now: Moment, flight: FlightId, outcomes: Option<Vec<Outcome>>) {
        if !self.window.is_flying(flight) {
            self.strays = self.strays.saturating_sub(1);
            return;
        }
        let known = |outcome: &Outcome| !matches!(outcome, Outcome::Unknown { .. });
        if outcomes.as_ref().is_some_and(|outcomes| outcomes.iter().any(known)) {
            self.broker = Backoff::default();
        } else {
            // Away, or there and silent: either way it is not asked again at once.
            self.broker.failures = self.broker.failures.saturating_add(1);
            let policy = &self.settings.broker_backoff;
            let wait = policy.delay(self.broker.failures, self.jitter.draw());
            self.broker.until = now.plus(wait);
        }
        let Some(outcomes) = outcomes else { return self.window.return_unsent(flight) };
        let (settings, jitter) = (&self.settings, &mut self.jitter);
        self.window.arrive(flight, &outcomes, |message, circumstances, outcome| {
            let policy = settings.policy_of(&message.topic);
            judge(outcome, circumstances, &policy, jitter)
        });
    }

    fn drive(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if self.finished {
            return;
        }
        if self.released {
            self.finish(out);
            return;
        }
        if let Some(stopped) = self.stopping {
            let away = self.broker.failures > 0;
            if away || now >= stopped.plus(self.settings.grace) {
                self.window.put_back();
            }
            if now >= stopped.plus(self.last_grace()) {
                self.finish(out);
                return;
            }
        }
        self.fly(now, out);
        if !self.calling {
            self.call(now, out);
        }
    }

    /// When a stop ends whatever is still under way: some time after the grace, in which what was
    /// put back is settled and the lease is released.
    fn last_grace(&self) -> Duration {
        self.settings.grace.saturating_mul(3) / 2
    }

    fn finish(&mut self, out: &mut Vec<Effect>) {
        self.finished = true;
        out.push(Effect::Finish);
    }

    /// Hands to the broker what may fly, while the lease is safely held.
    fn fly(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let Role::Leading(lead) = &self.role else { return };
        if now.plus(self.settings.lease_ttl / 4) >= lead.expires_at || now < self.broker.until {
            return;
        }
        // One call is enough to find out whether a broker that was away is back.
        let most = if self.broker.failures > 0 { 1 } else { self.settings.flights.max(1) };
        while self.window.flights() < most {
            let flight = FlightId(self.next_flight);
            let messages = self.settings.flight_messages.min(self.facts.max_batch);
            let bytes = self.settings.window_bytes / self.settings.flights.max(1);
            let prefix = self.facts.prefix_per_key;
            let Some(messages) = self.window.depart(flight, messages, bytes, prefix) else { break };
            self.next_flight += 1;
            out.push(Effect::Publish { flight, messages });
        }
    }

    /// Chooses the next call to the database: the lease before the settlement before reading.
    fn call(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if let Role::Standby { claim_at, asked_at } = &mut self.role {
            if self.stopping.is_some() {
                // What still flies from an earlier lease is not waited for: it cannot be settled.
                self.finish(out);
            } else if now >= *claim_at && self.strays == 0 {
                *asked_at = now;
                let name = self.settings.lane.lease_name();
                self.calling = true;
                out.push(Effect::Acquire { name, ttl: self.settings.lease_ttl });
            }
            return;
        }
        if now < self.database.until {
            return;
        }
        let effect = self
            .renewal(now)
            .or_else(|| self.next_settlement())
            .or_else(|| if self.stopping.is_some() { self.release() } else { self.next_read(now) });
        if let Some(effect) = effect {
            self.calling = true;
            out.push(effect);
        }
    }

    fn renewal(&mut self, now: Moment) -> Option<Effect> {
        let Role::Leading(lead) = &mut self.role else { return None };
        if now < lead.renew_at {
            return None;
        }
        lead.asked_at = now;
        Some(Effect::Renew { lease: lead.lease.clone(), ttl: self.settings.lease_ttl })
    }

    fn next_settlement(&mut self) -> Option<Effect> {
        let Role::Leading(lead) = &mut self.role else { return None };
        if self.settlement.is_none() {
            let (checkpoint, verdicts) = self.window.settlement()?;
            lead.settlements += 1;
            let (lane, number) = (self.settings.lane.clone(), lead.settlements);
            self.settlement = Some(Settlement { lane, number, checkpoint, verdicts });
        }
        let settlement = self.settlement.clone()?;
        Some(Effect::Settle { lease: lead.lease.clone(), settlement })
    }

    fn release(&mut self) -> Option<Effect> {
        let Role::Leading(lead) = &mut self.role else { return None };
        if !self.window.is_empty() || lead.releasing {
            return None;
        }
        lead.releasing = true;
        Some(Effect::Release { lease: lead.lease.clone() })
    }

    fn next_read(&mut self, now: Moment) -> Option<Effect> {
        let room = self.has_room();
        let messages = self.settings.window_messages.saturating_sub(self.window.messages());
        let bytes = self.settings.window_bytes.saturating_sub(self.window.bytes());
        let limit = ReadLimit { messages: self.settings.read_messages.min(messages), bytes };
        let holds_ready = self.window.holds_ready();
        let Role::Leading(lead) = &mut self.role else { return None };
        if now >= lead.expires_at {
            return None;
        }
        let Some(cursor) = &lead.cursor else { return Some(Effect::Load) };
        // One bounded round now and then, before reading: under steady load there is always
        // something to read.
        if now >= lead.prune_at && self.settings.lane.index == 0 {
            return Some(Effect::Prune { lease: lead.lease.clone() });
        }
        if room && now >= lead.ready_at && !holds_ready {
            return Some(Effect::Ready { limit });
        }
        if room && now >= lead.read_at {
            return Some(Effect::Read { from: cursor.clone(), limit });
        }
        None
    }

    /// Whether a read is worth it: at least half of one fits.
    fn has_room(&self) -> bool {
        let free = self.settings.window_messages.saturating_sub(self.window.messages());
        let worth = (self.settings.read_messages / 2).min(self.settings.window_messages).max(1);
        free >= worth && self.window.bytes() < self.settings.window_bytes
    }
}

impl Lead {
    fn new(lease: Lease, asked_at: Moment, now: Moment, settings: &Settings) -> Self {
        let mut lead = Self {
            lease,
            asked_at,
            renew_at: now,
            expires_at: now,
            releasing: false,
            cursor: None,
            settlements: 0,
            read_at: now,
            empty_reads: 0,
            unstored: false,
            store_at: now,
            ready_at: now,
            prune_at: now.plus(settings.prune_every),
        };
        lead.renewed(settings);
        lead
    }

    fn renewed(&mut self, settings: &Settings) {
        self.renew_at = self.asked_at.plus(settings.lease_ttl / 3);
        self.expires_at = self.asked_at.plus(settings.lease_ttl);
    }
}
