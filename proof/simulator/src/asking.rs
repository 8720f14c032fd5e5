//! A relay's calls at the database: lost, unanswered, fenced, or carried out and looked at.

use std::time::Duration;

use posthaste_core::frontier::Frontier;
use posthaste_core::lease::{Claim, Lease};
use posthaste_core::outbox::{Batch, Feed, Settlement};
use posthaste_core::relay::{Effect, Failure, Input};
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Checkpoint, Verdict};

use crate::database::{DESTINATION, Settling, frontier_of, seq_of};
use crate::marker::sometimes;
use crate::message::number_of;
use crate::note::Actor;
use crate::relay::{Ask, Call, ToRelay, owner};
use crate::sabotage::Sabotage;
use crate::team::Heard;
use crate::verdict::Wrong;
use crate::world::{Event, World, travel};

/// How soon a writer that finds the only lock taken looks again.
const LOCKED: Duration = Duration::from_micros(400);

impl World {
    pub(crate) fn at_database(&mut self, call: Call) {
        let node = call.node;
        let relay = &mut self.relays[node];
        let is_gone = !relay.is_up || relay.incarnation != call.incarnation;
        if is_gone && relay.chance.percent(50) {
            // It had not left the process.
            return;
        }
        if !is_gone && relay.paused_until > self.now && relay.chance.percent(50) {
            let until = relay.paused_until;
            return self.plan_at(until, Event::Database(call));
        }
        let lost = !self.database.is_up || relay.chance.percent(self.rates.database_lost);
        let unanswered = relay.chance.percent(self.rates.database_unanswered);
        if lost {
            let timeout = self.relays[node].chance.millis(1, 12);
            return self.fail(&call, timeout);
        }
        let writes = match &call.what {
            Ask::Lane { effect, .. } => is_write(effect),
            Ask::Talk(_) => true,
        };
        if writes && self.database.is_locked() {
            return self.plan(LOCKED, Event::Database(call));
        }
        let answered = self.carry_out(call);
        let Some((call, answer)) = answered else { return };
        if unanswered {
            let timeout = self.relays[node].chance.millis(1, 12);
            return self.fail(&call, timeout);
        }
        let wait = travel(&mut self.relays[node].chance, &self.rates);
        self.plan(wait, Event::Relay(node, call.incarnation, answer));
    }

    /// Answers that nobody knows.
    fn fail(&mut self, call: &Call, timeout: Duration) {
        let answer = match &call.what {
            Ask::Talk(_) => ToRelay::Heard(Heard::Away),
            Ask::Lane { lane, born, effect, .. } => {
                ToRelay::Answer { lane: *lane, born: *born, input: unavailable(effect) }
            }
        };
        self.plan(timeout, Event::Relay(call.node, call.incarnation, answer));
    }

    /// What the database does, and its answer; none if it is asked once more within the same call.
    fn carry_out(&mut self, call: Call) -> Option<(Call, ToRelay)> {
        let Call { node, incarnation, what } = call;
        let (lane, born, effect, earlier) = match what {
            Ask::Talk(talk) => {
                let heard = self.answer_talk(node, incarnation, talk.clone());
                let call = Call { node, incarnation, what: Ask::Talk(talk) };
                return Some((call, ToRelay::Heard(heard)));
            }
            Ask::Lane { lane, born, effect, earlier } => (lane, born, effect, earlier),
        };
        if earlier.is_none()
            && self.is_sabotaged(Sabotage::TwoSnapshots)
            && matches!(effect, Effect::Read { .. })
        {
            let earlier = Some(self.database.earlier_snapshot());
            let what = Ask::Lane { lane, born, effect, earlier };
            let between = self.relays[node].chance.millis(0, 4);
            self.plan(between, Event::Database(Call { node, incarnation, what }));
            return None;
        }
        let of = self.relays[node].lanes.get(&lane).map(|worker| worker.of);
        let of = of.unwrap_or(self.database.state.lanes());
        let at = posthaste_core::Lane { destination: DESTINATION.to_owned(), index: lane, of };
        let owner = owner(node, incarnation);
        let input = match &effect {
            Effect::Acquire { name, ttl } => {
                Input::Claimed(Ok(self.acquire(node, name, &owner, *ttl)))
            }
            Effect::Renew { lease, ttl } => Input::Renewed(self.database.renew(lease, *ttl)),
            Effect::Release { lease } => {
                sometimes!(self, LeaseReleased);
                self.database.release(lease);
                Input::Released
            }
            Effect::Load => Input::Loaded(self.database.checkpoint(&at)),
            Effect::Read { from, limit } => {
                let batch = self.database.read_against(&at, from, *limit, earlier.as_ref());
                if let Ok(batch) = &batch {
                    self.mark_reading(from, batch);
                }
                Input::Read(batch)
            }
            Effect::Ready { limit } => Input::Ready(self.database.ready(&at, *limit)),
            Effect::Settle { lease, settlement } => {
                Input::Settled(self.settle(node, born, lease, settlement))
            }
            Effect::Prune { .. } => Input::Pruned(Ok(false)),
            Effect::Publish { .. } | Effect::Finish => Input::Tick,
        };
        let answer = ToRelay::Answer { lane, born, input };
        let what = Ask::Lane { lane, born, effect, earlier };
        Some((Call { node, incarnation, what }, answer))
    }

    pub(crate) fn acquire(&mut self, node: usize, name: &str, owner: &str, ttl: Duration) -> Claim {
        let before = self.database.state.leases.get(name).cloned();
        let is_held = self.database.held(name).iter().any(|(held, ..)| held == name);
        let skew = Duration::from_micros(self.relays[node].skew.unsigned_abs());
        let now = self.database.now();
        let host = match self.relays[node].skew >= 0 {
            true => now.plus(skew),
            false => posthaste_core::Timestamp::from_micros(
                now.as_micros() - i64::try_from(skew.as_micros()).unwrap_or(0),
            ),
        };
        let claim = self.database.acquire(name, owner, ttl, host);
        if let Claim::Granted(lease) = &claim {
            let other = before.as_ref().filter(|before| before.owner != owner);
            if let Some(other) = other.filter(|_| is_held) {
                let detail = format!("{owner} was granted {name}, which {} held", other.owner);
                self.witness.blame(Wrong::Unfenced, None, detail);
            }
            if before.is_none_or(|before| before.token != lease.token) {
                let lane = name.rsplit_once('/').and_then(|(_, lane)| lane.parse().ok());
                if let Some(lane) = lane.filter(|_| name.starts_with("relay/")) {
                    self.lease_passes_on(node, lane);
                }
            }
        }
        claim
    }

    /// The next holder sends again what the others have aboard.
    pub(crate) fn lease_passes_on(&mut self, to: usize, lane: u16) {
        for node in (0..self.relays.len()).filter(|node| *node != to) {
            let aboard = self.relays[node].aboard(Some(lane));
            self.witness.excuse(aboard);
        }
    }

    fn mark_reading(&mut self, from: &Checkpoint, batch: &Batch) {
        let through = frontier_of(from).as_ref().map_or(0, Frontier::through);
        let positions = || batch.entries.iter().map(|entry| seq_of(&entry.position));
        sometimes!(self, LateRow, if positions().any(|seq| seq <= through));
        let next = frontier_of(&batch.checkpoint);
        let cut = next.is_some_and(|next| next.catching_up().is_some());
        sometimes!(self, LateRowsCut, if cut);
        let gap = positions().zip(positions().skip(1)).any(|(a, b)| b > a + 1);
        sometimes!(self, GapReadPast, if gap);
        let waits = batch.entries.iter().any(|entry| entry.due_in.is_some());
        sometimes!(self, WaitedForItsTime, if waits);
    }

    fn settle(
        &mut self,
        node: usize,
        born: u64,
        lease: &Lease,
        settlement: &Settlement,
    ) -> Result<(), Failure> {
        let grant = self.database.state.leases.get(&lease.name);
        let is_current =
            grant.is_some_and(|grant| grant.token == lease.token && grant.owner == lease.owner);
        let (lane, number) = (settlement.lane.index, settlement.number);
        let done = match self.database.settle(lease, settlement) {
            Ok(done) => done,
            Err(failure) => {
                sometimes!(self, Fenced);
                self.note(Actor::Database, "fences a settlement", Vec::new(), lease.token);
                return Err(failure);
            }
        };
        let numbers: Vec<u32> = settlement
            .verdicts
            .iter()
            .filter_map(|settled| self.number_at(seq_of(&settled.position)))
            .collect();
        self.settled(node, lane, born, &numbers);
        if done == Settling::Repeated {
            sometimes!(self, SettlementRepeated);
            return Ok(());
        }
        self.note(Actor::Relay(node, lane), "settles", numbers, number);
        if !is_current {
            let detail =
                format!("{} settled under token {}, which was over", lease.owner, lease.token);
            self.witness.blame(Wrong::Unfenced, None, detail);
        }
        if !self.settled.insert((lease.name.clone(), lease.token, number)) {
            let detail = format!("settlement {number} under token {} was done twice", lease.token);
            self.witness.blame(Wrong::Resettled, None, detail);
        }
        for settled in &settlement.verdicts {
            if let Some(number) = self.number_at(seq_of(&settled.position)) {
                self.note_verdict(number, settled.feed, &settled.verdict);
            }
        }
        Ok(())
    }

    pub(crate) fn number_at(&self, seq: u64) -> Option<u32> {
        let row = self.database.state.outbox.get(&seq)?;
        number_of(row.message.id)
    }

    fn note_verdict(&mut self, number: u32, feed: Feed, verdict: &Verdict) {
        match verdict {
            Verdict::Dead { attempts, reason, park, .. } => {
                self.note(Actor::Database, "files a dead letter", vec![number], (*attempts).into());
                let poison = self.is_poison(number) && *reason == DeadReason::Exhausted;
                sometimes!(self, PoisonFound, if poison);
                sometimes!(self, KeyParked, if *park);
                sometimes!(self, KeyWentOn, if !park);
                if !park {
                    self.witness.fate(number).given_up = true;
                }
            }
            Verdict::Retry { attempts, detail, .. } => {
                self.note(Actor::Database, "files a retry", vec![number], (*attempts).into());
                let before = &mut self.witness.fate(number).attempts;
                let counted = *attempts > *before;
                *before = *attempts;
                if !counted && !detail.is_empty() {
                    let detail = format!("m{number} failed again and is at {attempts} attempts");
                    self.witness.blame(Wrong::Uncounted, Some(number), detail);
                }
            }
            Verdict::Unroutable { .. } => sometimes!(self, SetAside),
            Verdict::Sent if feed == Feed::Ready => {
                let aside = self.database.state.held.values().any(|held| {
                    held.wait == crate::database::Wait::Unroutable
                        && held.ready_at == Some(posthaste_core::Timestamp::from_millis(0))
                });
                sometimes!(self, RouteReopened, if aside);
            }
            _ => {}
        }
    }
}

fn is_write(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Acquire { .. }
            | Effect::Renew { .. }
            | Effect::Release { .. }
            | Effect::Settle { .. }
    )
}

fn unavailable(effect: &Effect) -> Input {
    let failure = Failure::Unavailable;
    match effect {
        Effect::Acquire { .. } => Input::Claimed(Err(failure)),
        Effect::Renew { .. } => Input::Renewed(Err(failure)),
        Effect::Release { .. } => Input::Released,
        Effect::Load => Input::Loaded(Err(failure)),
        Effect::Read { .. } => Input::Read(Err(failure)),
        Effect::Ready { .. } => Input::Ready(Err(failure)),
        Effect::Settle { .. } => Input::Settled(Err(failure)),
        Effect::Prune { .. } => Input::Pruned(Err(failure)),
        Effect::Publish { flight, .. } => Input::Published { flight: *flight, outcomes: None },
        Effect::Finish => Input::Tick,
    }
}
