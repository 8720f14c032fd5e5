//! Accounts: where every message is at the end, what keeps a world from its rest, and what a
//! process that stopped has left behind.

use posthaste_core::lease::Lease;

use crate::consumer::ToConsumer;
use crate::database::{Wait, frontier_of, lane_of};
use crate::message::number_of;
use crate::relay::ToRelay;
use crate::verdict::Wrong;
use crate::witness::{Fate, Standing, audience};
use crate::world::World;

impl World {
    /// How many messages were committed and are there.
    pub(crate) fn committed(&self) -> u64 {
        let there = |fate: &&Fate| fate.standing == Standing::Committed;
        self.witness.fates.iter().filter(there).count() as u64
    }

    /// Everything that the stored checkpoints have passed is delivered, or kept where it is seen.
    pub(crate) fn account(&mut self) {
        let lanes = self.database.state.lanes();
        let frontiers: Option<Vec<_>> =
            self.database.state.checkpoints.iter().map(frontier_of).collect();
        let Some(frontiers) = frontiers else {
            let detail = "a stored checkpoint cannot be read".to_owned();
            return self.witness.blame(Wrong::Lost, None, detail);
        };
        let mut lost = None;
        for (seq, row) in &self.database.state.outbox {
            let lane = lane_of(row.hash, lanes);
            let passed = frontiers[usize::from(lane)].has_sent(*seq, row.xid, row.hash);
            let Some(number) = number_of(row.message.id) else { continue };
            if passed && !self.is_accounted_for(*seq, number, &row.message.topic) {
                lost = Some(number);
                break;
            }
        }
        if let Some(number) = lost {
            let detail = format!("m{number} has a verdict, and is neither delivered nor kept");
            self.witness.blame(Wrong::Lost, Some(number), detail);
        }
    }

    fn is_accounted_for(&self, seq: u64, number: u32, topic: &str) -> bool {
        let state = &self.database.state;
        let kept = state.held.contains_key(&seq) || state.letters.contains_key(&seq);
        let Some(fate) = usize::try_from(number).ok().and_then(|it| self.witness.fates.get(it))
        else {
            return false;
        };
        let arrived = audience(topic).all(|queue| fate.arrivals[queue] > 0);
        kept || arrived || fate.given_up || fate.unwanted
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.unrest().is_none()
    }

    /// What has not come to rest, if anything.
    pub(crate) fn unrest(&self) -> Option<String> {
        if !self.database.open.is_empty() || !self.waiting.is_empty() {
            return Some("a transaction is open".to_owned());
        }
        let division = self.database.division();
        if division.now != division.wanted {
            return Some(format!("there are still {} lanes", division.now));
        }
        if let Some(node) = self.relays.iter().position(|relay| !relay.is_up || relay.is_stopping) {
            return Some(format!("relay {node} is down"));
        }
        if let Some(queue) = self.broker.queues.iter().position(|queue| !queue.is_empty()) {
            return Some(format!("queue {queue} is not empty"));
        }
        let state = &self.database.state;
        for (seq, held) in &state.held {
            let waits = state.held.range(..=seq).any(|(_, other)| {
                let line =
                    held.key.is_some() && (&other.topic, &other.key) == (&held.topic, &held.key);
                other.wait == Wait::Parked && (line || std::ptr::eq(other, held))
            });
            if !waits {
                let (number, wait) = (self.number_at(*seq).unwrap_or(0), held.wait);
                return Some(format!("m{number} waits in the side table ({wait:?})"));
            }
        }
        for (number, fate) in self.witness.fates.iter().enumerate() {
            if fate.standing != Standing::Committed {
                continue;
            }
            let Some(message) = &fate.message else { continue };
            for queue in audience(&message.topic) {
                let kept =
                    state.held.contains_key(&fate.seq) || state.letters.contains_key(&fate.seq);
                let given_up = kept || fate.given_up || fate.unwanted;
                if fate.arrivals[queue] == 0 && !given_up {
                    return Some(format!("m{number} never came to queue {queue}"));
                }
                let done = fate.effects[queue] > 0 || fate.buried[queue];
                if fate.arrivals[queue] > 0 && !done {
                    return Some(format!("m{number} came to queue {queue} and had no effect"));
                }
            }
        }
        self.unsettled()
    }

    /// What the next relay would send once more.
    fn unsettled(&self) -> Option<String> {
        let state = &self.database.state;
        let frontiers: Vec<_> = state.checkpoints.iter().filter_map(frontier_of).collect();
        state.outbox.iter().find_map(|(seq, row)| {
            let lane = usize::from(lane_of(row.hash, state.lanes()));
            let sent = frontiers.get(lane)?.has_sent(*seq, row.xid, row.hash);
            let number = number_of(row.message.id)?;
            (!sent).then(|| format!("m{number} is not settled and would be sent once more"))
        })
    }

    pub(crate) fn stop_everything(&mut self) {
        let awake = self.relays.iter().filter(|relay| relay.paused_until <= self.now);
        let leading = awake.flat_map(|relay| relay.lanes.values());
        let leading = leading.filter(|it| it.machine.is_leading() && !it.told_to_stop);
        self.led = leading.filter_map(|worker| worker.lease.clone()).collect();
        self.led.retain(|lease| self.database.is_of_this_life(&lease.name));
        for node in 0..self.relays.len() {
            self.tell_relay(node, self.relays[node].incarnation, ToRelay::Stop);
        }
        for node in 0..self.consumers.len() {
            self.tell_consumer(node, self.consumers[node].incarnation, ToConsumer::Stop);
        }
    }

    pub(crate) fn has_stopped(&self) -> bool {
        let relays = self.relays.iter().any(|relay| relay.is_up);
        let consumers = self.consumers.iter().any(|consumer| consumer.is_up);
        !relays && !consumers
    }

    /// What processes left that were asked to stop while all was well.
    pub(crate) fn left_behind(&self) -> Option<String> {
        if let Some(node) = self.relays.iter().position(|relay| relay.is_up) {
            return Some(format!("relay {node} does not stop"));
        }
        if let Some(node) = self.consumers.iter().position(|consumer| consumer.is_up) {
            return Some(format!("consumer {node} does not stop"));
        }
        let held = self.database.held("relay/");
        let kept =
            |lease: &&Lease| held.contains(&(lease.name.clone(), lease.owner.clone(), lease.token));
        if let Some(Lease { name, owner, .. }) = self.led.iter().find(kept) {
            return Some(format!("{owner} has not given back {name}"));
        }
        self.unsettled()
    }
}
