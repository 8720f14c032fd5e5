//! The window: entries that were read and are not settled yet, and which of them may fly.
//!
//! Tickets number the entries in the order of reading, which is the order of sending.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::effect::FlightId;
use super::line::Line;
use super::route::ClosedRoutes;
use crate::judge::{Circumstances, Judgement};
use crate::outbox::{Entry, Feed, Settled};
use crate::verdict::DeadReason;
use crate::{Checkpoint, Message, Outcome, Position, Verdict};

/// Numbers the entries of the window in the order of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Topic and key, shared between the slots of a line and the map of lines.
type Address = Arc<(String, String)>;

#[derive(Debug)]
struct Slot {
    position: Position,
    feed: Feed,
    message: Option<Message>,
    address: Option<Address>,
    attempts: u32,
    /// How many calls that it flew in ended with nobody knowing.
    unknowns: u32,
    /// How often the broker had answered when the last of these ended.
    answers_before: u64,
    verdict: Option<Verdict>,
}

impl Slot {
    fn size(&self) -> usize {
        self.message.as_ref().map_or(0, Message::size)
    }

    /// After two calls that broke with it on board it may be what breaks them.
    fn is_suspect(&self) -> bool {
        self.unknowns >= 2 && self.verdict.is_none()
    }
}

/// Entries that were read together and whose checkpoint moves together.
#[derive(Debug)]
struct Taken {
    feed: Feed,
    checkpoint: Option<Checkpoint>,
    tickets: Vec<Ticket>,
    open: usize,
}

/// Calls without an answer after which a message is counted even if the broker has not answered
/// anybody since: it may be the only one there is to send.
const UNKNOWNS_WITHOUT_PROOF: u32 = 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Window {
    next: u64,
    slots: BTreeMap<Ticket, Slot>,
    taken: VecDeque<Taken>,
    lines: BTreeMap<Address, Line>,
    sendable: BTreeSet<Ticket>,
    flights: BTreeMap<FlightId, Vec<Ticket>>,
    routes: ClosedRoutes,
    suspects: usize,
    /// How many calls the broker has answered.
    answers: u64,
    bytes: usize,
    settling: usize,
}

impl Window {
    pub(super) fn messages(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn flights(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn is_flying(&self, flight: FlightId) -> bool {
        self.flights.contains_key(&flight)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Whether entries of the side table are in the window: it must not be read again until they
    /// are settled, or they would be taken twice.
    pub(super) fn holds_ready(&self) -> bool {
        self.taken.iter().any(|taken| taken.feed == Feed::Ready)
    }

    /// Takes entries in, in the order in which they were read.
    pub(super) fn take(&mut self, feed: Feed, checkpoint: Option<Checkpoint>, entries: Vec<Entry>) {
        let mut taken =
            Taken { feed, checkpoint, tickets: Vec::with_capacity(entries.len()), open: 0 };
        for entry in entries {
            let ticket = Ticket(self.next);
            self.next += 1;
            taken.tickets.push(ticket);
            taken.open += usize::from(self.admit(ticket, feed, entry));
        }
        self.taken.push_back(taken);
    }

    /// Takes one entry in; whether it still needs a verdict.
    fn admit(&mut self, ticket: Ticket, feed: Feed, entry: Entry) -> bool {
        let Entry { position, body, attempts, due_in, blocked, unroutable } = entry;
        let (message, mut verdict) = match body {
            Ok(message) => (Some(message), None),
            Err(malformed) => {
                let (reason, detail) = (DeadReason::Malformed, malformed.detail);
                (None, Some(Verdict::Dead { attempts, reason, detail, park: false }))
            }
        };
        if verdict.is_none() && due_in.is_some_and(|wait| wait > Duration::ZERO) {
            verdict = Some(Verdict::Due);
        }
        let aside = message
            .as_ref()
            .is_some_and(|it| unroutable || self.routes.holds(ticket, &position, it));
        let address = message
            .as_ref()
            .and_then(|message| Some(Address::new((message.topic.clone(), message.key.clone()?))));
        match &address {
            None if verdict.is_none() && aside => verdict = Some(set_aside()),
            None if verdict.is_none() => {
                self.sendable.insert(ticket);
            }
            None => {}
            Some(address) => {
                let line = self.lines.entry(address.clone()).or_default();
                line.members += 1;
                // A line in memory is blocked for what comes from past the checkpoint; the head
                // of the side table's line is what unblocks it, so that may pass.
                if verdict.is_none() && (blocked || (line.blocked && feed == Feed::New)) {
                    line.blocked = true;
                    verdict = Some(Verdict::Behind);
                } else if verdict.is_none() && aside {
                    verdict = Some(set_aside());
                } else if verdict.is_none() && line.is_free() {
                    line.ahead += 1;
                    self.sendable.insert(ticket);
                } else if verdict.is_none() {
                    line.waiting.push_back(ticket);
                }
            }
        }
        if let (Some(Verdict::Unroutable { .. }), Some(message)) = (&verdict, &message) {
            self.routes.close(&position, message);
        }
        let open = verdict.is_none();
        let slot = Slot {
            position,
            feed,
            message,
            address,
            attempts,
            unknowns: 0,
            answers_before: 0,
            verdict,
        };
        self.bytes += slot.size();
        self.slots.insert(ticket, slot);
        open
    }

    /// Puts together the next publish call, in the order of tickets. With suspects in the window
    /// everything goes alone, those first that have seen the fewest calls break: whoever gets an
    /// answer proves that the broker works, and only then is a suspect to blame.
    pub(super) fn depart(
        &mut self,
        flight: FlightId,
        messages: usize,
        bytes: usize,
        prefix_per_key: bool,
    ) -> Option<Vec<Message>> {
        let alone = self.suspects > 0;
        if alone && !self.flights.is_empty() {
            return None;
        }
        let most = if alone { 1 } else { messages.max(1) };
        let mut chosen: Vec<Ticket> = Vec::new();
        let mut size = 0;
        let unknowns = |ticket: &Ticket| self.slots.get(ticket).map_or(0, |slot| slot.unknowns);
        let first = self.sendable.iter().min_by_key(|ticket| (unknowns(ticket), **ticket));
        if let Some(&ticket) = first.filter(|_| alone) {
            chosen.push(ticket);
        }
        for &ticket in &self.sendable {
            if chosen.len() == most || (!chosen.is_empty() && size >= bytes) {
                break;
            }
            size += self.slots.get(&ticket).map_or(0, Slot::size);
            chosen.push(ticket);
        }
        for ticket in &chosen {
            self.sendable.remove(ticket);
        }
        if prefix_per_key {
            self.let_followers_on(&mut chosen, most, bytes, size);
        }
        if chosen.is_empty() {
            return None;
        }
        chosen.sort_unstable();
        let messages = chosen
            .iter()
            .filter_map(|ticket| self.slots.get(ticket).and_then(|slot| slot.message.clone()))
            .collect();
        self.flights.insert(flight, chosen);
        Some(messages)
    }

    /// Lets those who wait behind the chosen ones fly in the same call: a broker that accepts a
    /// call as a prefix per key keeps them in order.
    fn let_followers_on(
        &mut self,
        chosen: &mut Vec<Ticket>,
        most: usize,
        bytes: usize,
        size: usize,
    ) {
        let mut size = size;
        for index in 0..chosen.len() {
            let Some(address) = self.address(chosen[index]) else { continue };
            while chosen.len() < most && size < bytes {
                let Some(line) = self.lines.get_mut(&address) else { break };
                let Some(follower) = line.waiting.pop_front() else { break };
                if self.is_closed(follower) {
                    self.give(follower, set_aside());
                    continue;
                }
                if let Some(line) = self.lines.get_mut(&address) {
                    line.ahead += 1;
                }
                size += self.slots.get(&follower).map_or(0, Slot::size);
                chosen.push(follower);
            }
        }
    }

    fn address(&self, ticket: Ticket) -> Option<Address> {
        self.slots.get(&ticket)?.address.clone()
    }

    /// Takes back a call of which nothing left this process: all may fly again, nothing counted.
    pub(super) fn return_unsent(&mut self, flight: FlightId) {
        let tickets = self.flights.remove(&flight).unwrap_or_default();
        self.fly_again(&tickets);
        self.set_aside_sendable();
    }

    /// Takes in the outcomes of a call. `judge` is asked for each message in order; what follows a
    /// failure of its key in the same call steps behind it, whatever was said of it.
    pub(super) fn arrive(
        &mut self,
        flight: FlightId,
        outcomes: &[Outcome],
        mut judge: impl FnMut(&Message, Circumstances, &Outcome) -> Judgement,
    ) {
        let tickets = self.flights.remove(&flight).unwrap_or_default();
        let alone = tickets.len() == 1 && self.flights.is_empty();
        let known = |outcome: &Outcome| !matches!(outcome, Outcome::Unknown { .. });
        self.answers += u64::from(outcomes.iter().any(known));
        let missing = Outcome::unknown("the broker gave no outcome for this message");
        let mut failed: BTreeSet<Address> = BTreeSet::new();
        let mut again = Vec::new();
        for (index, &ticket) in tickets.iter().enumerate() {
            let outcome = outcomes.get(index).unwrap_or(&missing);
            let Some(slot) = self.slots.get(&ticket) else { continue };
            let Some(message) = &slot.message else { continue };
            let address = slot.address.clone();
            let follows = address.as_ref().is_some_and(|address| failed.contains(address));
            let verdict = if follows && !matches!(outcome, Outcome::Accepted(_)) {
                Verdict::Behind
            } else {
                let keyed = address.is_some();
                let proven =
                    self.answers > slot.answers_before || slot.unknowns >= UNKNOWNS_WITHOUT_PROOF;
                let alone = alone && slot.is_suspect() && proven;
                let circumstances = Circumstances { attempts: slot.attempts, keyed, alone };
                match judge(message, circumstances, outcome) {
                    Judgement::Settle(verdict) => verdict,
                    Judgement::Again => {
                        again.push(ticket);
                        continue;
                    }
                }
            };
            if let Some(address) = address.filter(|_| blocks_its_key(&verdict)) {
                failed.insert(address);
            }
            self.leave(ticket, verdict);
        }
        for ticket in &again {
            if let Some(slot) = self.slots.get_mut(ticket) {
                slot.unknowns = slot.unknowns.saturating_add(1);
                slot.answers_before = self.answers;
                self.suspects += usize::from(slot.unknowns == 2);
            }
        }
        self.fly_again(&again);
        self.set_aside_sendable();
    }

    /// An entry that was ahead in its line leaves it with a verdict; its followers move up, or
    /// step aside if the verdict blocks the key.
    fn leave(&mut self, ticket: Ticket, verdict: Verdict) {
        let blocks = blocks_its_key(&verdict);
        self.give(ticket, verdict);
        let Some(address) = self.address(ticket) else { return };
        let Some(line) = self.lines.get_mut(&address) else { return };
        line.ahead = line.ahead.saturating_sub(1);
        if blocks {
            line.blocked = true;
            for follower in std::mem::take(&mut line.waiting) {
                self.give(follower, Verdict::Behind);
            }
            return;
        }
        if line.ahead == 0
            && let Some(next) = line.waiting.pop_front()
        {
            line.ahead += 1;
            self.sendable.insert(next);
        }
    }

    /// Takes those out of what may fly whose route was found closed, and lets those behind them
    /// move up.
    fn set_aside_sendable(&mut self) {
        if self.routes.is_empty() {
            return;
        }
        while let Some(&ticket) = self.sendable.iter().find(|ticket| self.is_closed(**ticket)) {
            self.leave(ticket, set_aside());
        }
    }

    fn is_closed(&self, ticket: Ticket) -> bool {
        self.slots.get(&ticket).is_some_and(|slot| {
            let message = slot.message.as_ref();
            message.is_some_and(|message| self.routes.holds(ticket, &slot.position, message))
        })
    }

    /// Lets entries fly again that already are ahead in their lines: the first of each key, and
    /// the others of the key behind it again.
    fn fly_again(&mut self, tickets: &[Ticket]) {
        let mut keys = BTreeSet::new();
        let mut followers = Vec::new();
        for &ticket in tickets {
            match self.address(ticket) {
                Some(address) if !keys.insert(address.clone()) => followers.push((ticket, address)),
                _ => {
                    self.sendable.insert(ticket);
                }
            }
        }
        for (ticket, address) in followers.into_iter().rev() {
            if let Some(line) = self.lines.get_mut(&address) {
                line.ahead = line.ahead.saturating_sub(1);
                line.waiting.push_front(ticket);
            }
        }
    }

    fn give(&mut self, ticket: Ticket, verdict: Verdict) {
        let Some(slot) = self.slots.get_mut(&ticket) else { return };
        if slot.is_suspect() {
            self.suspects = self.suspects.saturating_sub(1);
        }
        if let (Verdict::Unroutable { .. }, Some(message)) = (&verdict, &slot.message) {
            self.routes.close(&slot.position, message);
        }
        slot.verdict = Some(verdict);
        self.sendable.remove(&ticket);
        let holder = self.taken.iter_mut().find(|taken| {
            taken.tickets.first() <= Some(&ticket) && Some(&ticket) <= taken.tickets.last()
        });
        if let Some(taken) = holder {
            taken.open = taken.open.saturating_sub(1);
        }
    }

    /// Gives everything that does not fly a verdict that puts it back into the side table as it
    /// was, so that what has been sent can be settled.
    pub(super) fn put_back(&mut self) {
        let flying: BTreeSet<Ticket> = self.flights.values().flatten().copied().collect();
        let waiting: Vec<Ticket> = self
            .slots
            .iter()
            .filter(|(ticket, slot)| slot.verdict.is_none() && !flying.contains(ticket))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in waiting {
            let Some(slot) = self.slots.get(&ticket) else { continue };
            let attempts = slot.attempts;
            let back = Verdict::Retry { attempts, delay: Duration::ZERO, detail: String::new() };
            let line = slot.address.clone().and_then(|address| self.lines.get_mut(&address));
            if let Some(line) = line {
                line.waiting.retain(|other| *other != ticket);
                line.blocked = true;
                self.give(ticket, Verdict::Behind);
            } else {
                self.give(ticket, back);
            }
        }
        self.sendable.clear();
    }

    /// Verdicts of the batches at the front that are wholly decided, and the checkpoint after
    /// them. They stay in the window until [`Window::settled`]; the same is not given out twice.
    pub(super) fn settlement(&mut self) -> Option<(Option<Checkpoint>, Vec<Settled>)> {
        let decided = self.taken.iter().take_while(|taken| taken.open == 0).count();
        if decided == 0 {
            return None;
        }
        self.settling = decided;
        let mut checkpoint = None;
        let mut verdicts = Vec::new();
        for taken in self.taken.iter().take(decided) {
            checkpoint = taken.checkpoint.clone().or(checkpoint);
            for slot in taken.tickets.iter().filter_map(|ticket| self.slots.get(ticket)) {
                let Some(verdict) = slot.verdict.clone() else { continue };
                let address = slot
                    .message
                    .as_ref()
                    .map(|message| (message.topic.clone(), message.key.clone()));
                let (position, feed) = (slot.position.clone(), slot.feed);
                verdicts.push(Settled { position, feed, address, verdict });
            }
        }
        Some((checkpoint, verdicts))
    }

    /// Forgets what the last settlement held.
    pub(super) fn settled(&mut self) {
        for taken in self.taken.drain(..self.settling) {
            for ticket in taken.tickets {
                let Some(slot) = self.slots.remove(&ticket) else { continue };
                self.bytes = self.bytes.saturating_sub(slot.size());
                if let (Some(Verdict::Unroutable { .. }), Some(message)) =
                    (&slot.verdict, &slot.message)
                {
                    self.routes.settled(&slot.position, message, Ticket(self.next));
                }
                let Some(address) = slot.address else { continue };
                if let Some(line) = self.lines.get_mut(&address) {
                    line.members -= 1;
                    if line.members == 0 {
                        self.lines.remove(&address);
                    }
                }
            }
        }
        self.settling = 0;
        self.routes.forget(self.slots.keys().next().copied());
    }
}

/// The verdict on an entry that joins those of its route without being tried. The first of them
/// says when they are probed.
fn set_aside() -> Verdict {
    Verdict::Unroutable { probe_in: Duration::ZERO, detail: String::new() }
}

/// Whether later entries of the key have to step aside until this verdict is settled. A dead
/// letter does so even where the policy skips it: if the relay died before the settlement, the
/// next one would send it again, after its followers.
fn blocks_its_key(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Retry { .. } | Verdict::Behind | Verdict::Dead { .. } => true,
        Verdict::Sent | Verdict::Due | Verdict::Unroutable { .. } => false,
    }
}
