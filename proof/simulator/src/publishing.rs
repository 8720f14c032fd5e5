//! A relay's calls at the broker: what it says, and what reaches its queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::judge::OnUnroutable;
use posthaste_core::relay::{FlightId, Input};
use posthaste_core::{Message, Outcome};

use crate::broker::Epoch;
use crate::chance::Chance;
use crate::fault::Calamity;
use crate::marker::sometimes;
use crate::message::{number_of, numbers};
use crate::note::Actor;
use crate::relay::ToRelay;
use crate::settlement::ToQueue;
use crate::verdict::Wrong;
use crate::witness::audience;
use crate::world::{Event, World, travel};

/// A publish call that is under way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) node: usize,
    pub(crate) incarnation: u32,
    pub(crate) lane: u16,
    pub(crate) born: u64,
    pub(crate) flight: FlightId,
    pub(crate) messages: Vec<Message>,
    /// The lease under which it was made.
    pub(crate) epoch: Epoch,
}

impl World {
    pub(crate) fn at_broker(&mut self, call: Flight) {
        let node = call.node;
        let relay = &mut self.relays[node];
        let is_gone = !relay.is_up || relay.incarnation != call.incarnation;
        if is_gone && relay.chance.percent(50) {
            return;
        }
        if !is_gone && relay.paused_until > self.now && relay.chance.percent(50) {
            let until = relay.paused_until;
            return self.plan_at(until, Event::Broker(call));
        }
        if !self.broker.is_up || relay.chance.percent(self.rates.broker_away) {
            sometimes!(self, BrokerAway);
            return self.answer_call(&call, None);
        }
        if !self.is_under_lease(&call) {
            // Whoever leads now sends these as well.
            self.witness.excuse(numbers(&call.messages));
        }
        let epoch = call.epoch;
        let overtaken = call.messages.iter().any(|it| self.broker.is_overtaken(it, epoch));
        sometimes!(self, LateCallOfOldLease, if overtaken);
        let outcomes = if overtaken && self.broker.personality.fences {
            sometimes!(self, ShutOut);
            all_unknown(&call.messages, "another one writes now")
        } else {
            self.say(&call)
        };
        let unknown =
            |(_, outcome): &(&Message, &Outcome)| matches!(outcome, Outcome::Unknown { .. });
        let again = call.messages.iter().zip(&outcomes).filter(unknown);
        let again: Vec<u32> = numbers(again.map(|(message, _)| message));
        self.witness.excuse(again);
        self.answer_call(&call, Some(outcomes));
    }

    fn answer_call(&mut self, call: &Flight, outcomes: Option<Vec<Outcome>>) {
        let is_unknown = outcomes
            .as_ref()
            .is_some_and(|all| all.iter().any(|it| matches!(it, Outcome::Unknown { .. })));
        let relay = &mut self.relays[call.node];
        let mut wait = travel(&mut relay.chance, &self.rates);
        if is_unknown {
            wait += relay.chance.millis(0, 15);
        }
        let input = Input::Published { flight: call.flight, outcomes };
        let answer = ToRelay::Answer { lane: call.lane, born: call.born, input };
        self.plan(wait, Event::Relay(call.node, call.incarnation, answer));
    }

    /// Whether the lease under which a call was made is the current one of its lane.
    fn is_under_lease(&self, call: &Flight) -> bool {
        let name = format!("relay/{}/{}", crate::database::DESTINATION, call.lane);
        let grant = self.database.state.leases.get(&name);
        call.epoch.0 == self.divisions && grant.is_some_and(|grant| grant.token == call.epoch.1)
    }

    /// What the broker does with the messages of a call, and says of them.
    fn say(&mut self, call: &Flight) -> Vec<Outcome> {
        let rates = self.rates;
        let chance = &mut self.relays[call.node].chance;
        let silent = chance.percent(rates.silent);
        let cut = chance.percent(rates.confirm_lost);
        let poisoned = call.messages.iter().filter_map(|message| number_of(message.id));
        let poisoned = poisoned.into_iter().any(|number| self.is_poison(number));
        let mut had_not = Vec::new();
        let outcomes = if silent || poisoned {
            had_not.extend(call.messages.iter().cloned().map(Arc::new));
            all_unknown(&call.messages, "no answer")
        } else {
            self.say_each(call, cut, &mut had_not)
        };
        let chance = &mut self.relays[call.node].chance;
        let late = !poisoned && !self.broker.personality.fences && chance.percent(rates.late);
        if late && !had_not.is_empty() {
            let wait = chance.millis(4, 120);
            self.plan(wait, Event::Late(had_not, call.epoch));
        }
        outcomes
    }

    fn say_each(
        &mut self,
        call: &Flight,
        cut: bool,
        had_not: &mut Vec<Arc<Message>>,
    ) -> Vec<Outcome> {
        let prefix = self.broker.personality.prefix_per_key;
        let mut failed: BTreeMap<(String, String), End> = BTreeMap::new();
        let mut aboard: BTreeSet<(String, String)> = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(call.messages.len());
        for message in &call.messages {
            let address = message.key.clone().map(|key| (message.topic.clone(), key));
            let second = address.clone().is_some_and(|address| !aboard.insert(address));
            sometimes!(self, FollowedInOneCall, if second);
            let before = address.as_ref().and_then(|address| failed.get(address)).copied();
            let (answer, end) = self.say_one(call, message, cut, before.filter(|_| prefix));
            if end == End::InTheLines {
                had_not.push(Arc::new(message.clone()));
            }
            if end != End::Taken && !matches!(answer, Outcome::Unroutable { .. }) {
                failed.extend(address.map(|address| (address, end)));
            }
            let unknown = || Outcome::unknown("the line was cut");
            outcomes.push(if cut { unknown() } else { answer });
        }
        outcomes
    }

    /// What the broker says of one message, if its answer is heard, and where the message ends:
    /// where one of its key ended that failed before it in this call, if the broker keeps to that.
    fn say_one(
        &mut self,
        call: &Flight,
        message: &Message,
        cut: bool,
        follows: Option<End>,
    ) -> (Outcome, End) {
        let rates = self.rates;
        let chance = &mut self.relays[call.node].chance;
        // Drawn always, so that each message has the same luck whatever becomes of the others.
        let half = chance.percent(50);
        let never = chance.percent(rates.refused_for_good);
        let not_now = chance.percent(rates.refused);
        if let Some(end) = follows {
            (Outcome::refused("it follows one that failed"), end)
        } else if cut && half {
            (Outcome::refused("it did not get there"), End::InTheLines)
        } else if self.broker.unbound.contains(message.kind.as_str()) {
            (self.unroutable(message, cut), End::Refused)
        } else if never {
            (Outcome::refused_for_good("never"), End::Refused)
        } else if not_now {
            (Outcome::refused("not now"), End::Refused)
        } else {
            self.broker.note_epoch(message, call.epoch);
            self.arrive(&Arc::new(message.clone()));
            sometimes!(self, ConfirmLost, if cut);
            (Outcome::accepted(), End::Taken)
        }
    }

    fn unroutable(&mut self, message: &Message, cut: bool) -> Outcome {
        if !cut
            && self.scenario.settings.policy.unroutable == OnUnroutable::Accept
            && let Some(number) = number_of(message.id)
        {
            self.witness.fate(number).unwanted = true;
        }
        Outcome::unroutable("nobody is bound to it")
    }

    /// What was in the lines arrives after all, in its order.
    pub(crate) fn arrive_late(&mut self, messages: &[Arc<Message>], epoch: Epoch) {
        if !self.broker.is_up {
            return;
        }
        sometimes!(self, ArrivedLate);
        for message in messages {
            if !self.broker.unbound.contains(message.kind.as_str()) {
                self.broker.note_epoch(message, epoch);
                self.arrive(message);
            }
        }
    }

    /// The broker takes a message.
    fn arrive(&mut self, message: &Arc<Message>) {
        let number = number_of(message.id).unwrap_or(0);
        if self.broker.drops(message, self.now) {
            sometimes!(self, DroppedByWindow);
            return self.note(Actor::Broker(0), "drops a copy of", vec![number], 0);
        }
        self.check_time(message, number);
        for queue in audience(&message.topic) {
            self.note(Actor::Broker(queue), "takes", vec![number], 0);
            self.witness.arrived(queue, message);
            self.broker.queues[queue].push(Arc::clone(message));
            self.plan(Duration::ZERO, Event::Queue(queue, ToQueue::HandOut));
        }
    }

    fn check_time(&mut self, message: &Message, number: u32) {
        let jumps = |what: &Calamity| matches!(what, Calamity::CalendarJump { .. });
        let jumps = self.scenario.incidents.iter().any(|incident| jumps(&incident.what));
        let early = message.due_at.is_some_and(|due| due > self.database.now());
        if early && !jumps {
            let detail = format!("m{number} was sent before its time");
            self.witness.blame(Wrong::Early, Some(number), detail);
        }
    }

    /// Whether a message breaks the connection whenever it is sent.
    pub(crate) fn is_poison(&self, number: u32) -> bool {
        is_chosen(self.scenario.seed, 7, number, self.rates.poison)
    }

    pub(crate) fn broker_up(&mut self) {
        if self.broker.is_up {
            return;
        }
        self.broker.is_up = true;
        for queue in 0..self.broker.queues.len() {
            self.broker.queues[queue].take_all_back(None, self.now);
            self.plan(Duration::from_millis(1), Event::Queue(queue, ToQueue::HandOut));
        }
    }
}

/// Where a message ends that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The broker has it.
    Taken,
    /// The broker does not have it.
    Refused,
    /// It is in the lines of a connection that was cut.
    InTheLines,
}

/// Whether a message is one of those that have a lasting property, in so many of a hundred cases.
pub(crate) fn is_chosen(seed: u64, property: u64, number: u32, rate: u64) -> bool {
    Chance::stream(seed ^ u64::from(number) << 20, property).percent(rate)
}

fn all_unknown(messages: &[Message], why: &str) -> Vec<Outcome> {
    messages.iter().map(|_| Outcome::unknown(why)).collect()
}
