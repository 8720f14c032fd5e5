//! What befalls processes and servers.

use std::collections::BTreeSet;

use crate::consumer::ToConsumer;
use crate::database::Act;
use crate::fault::Calamity;
use crate::marker::sometimes;
use crate::message::number_of;
use crate::note::Actor;
use crate::relay::ToRelay;
use crate::scenario::KINDS;
use crate::world::{Event, World};

impl World {
    pub(crate) fn befall(&mut self, what: Calamity) {
        let relays = self.relays.len();
        let consumers = self.consumers.len();
        match what {
            Calamity::RelayCrash { node, down } => {
                self.relay_crash(node % relays);
                self.plan(down, Event::RelayUp(node % relays));
            }
            Calamity::RelayPause { node, pause } => {
                let node = node % relays;
                self.note(Actor::Relay(node, 0), "is paused", Vec::new(), 0);
                self.relays[node].paused_until = self.now.plus(pause);
            }
            Calamity::RelayStop { node } => {
                let node = node % relays;
                let incarnation = self.relays[node].incarnation;
                self.tell_relay(node, incarnation, ToRelay::Stop);
            }
            Calamity::ConsumerCrash { node, down } => {
                self.consumer_crash(node % consumers);
                self.plan(down, Event::ConsumerUp(node % consumers));
            }
            Calamity::ConsumerPause { node, pause } => {
                let node = node % consumers;
                self.note(Actor::Consumer(node), "is paused", Vec::new(), 0);
                self.consumers[node].paused_until = self.now.plus(pause);
            }
            Calamity::ConsumerStop { node } => {
                let node = node % consumers;
                let incarnation = self.consumers[node].incarnation;
                self.tell_consumer(node, incarnation, ToConsumer::Stop);
            }
            Calamity::DatabaseCrash { down } => {
                self.note(Actor::Database, "crashes", Vec::new(), 0);
                self.server_ends();
                self.database.crash();
                self.plan(down, Event::DatabaseUp);
            }
            Calamity::Failover { down, .. } => {
                self.fail_over();
                self.plan(down, Event::DatabaseUp);
            }
            Calamity::CalendarJump { millis } => {
                self.note(Actor::Database, "sets its calendar", Vec::new(), 0);
                self.database.ahead += millis * 1000;
                sometimes!(self, CalendarJumped);
            }
            Calamity::InboxCrash { down } => {
                self.note(Actor::Inbox(0), "crashes, and all others", Vec::new(), 0);
                self.inboxes.iter_mut().for_each(crate::inbox::Inbox::crash);
                self.plan(down, Event::InboxUp);
            }
            Calamity::BrokerCrash { down } => {
                self.note(Actor::Broker(0), "crashes, and all others", Vec::new(), 0);
                self.broker.is_up = false;
                self.plan(down, Event::BrokerUp);
            }
            Calamity::Unbound { kind, gone } => {
                self.note(Actor::Operator, "unbinds a kind", Vec::new(), 0);
                self.broker.unbound.insert(KINDS[kind]);
                self.plan(gone, Event::Rebind(kind));
            }
            Calamity::Divide { lanes } => self.database.want_lanes(lanes),
            Calamity::Operator { act } => self.operate(act),
        }
    }

    /// The server is lost, and what had not reached the standby with it.
    fn fail_over(&mut self) {
        self.note(Actor::Database, "is lost; the standby takes over", Vec::new(), 0);
        self.server_ends();
        let held = self.database.state.held.len() + self.database.state.letters.len();
        let checkpoints = self.database.state.checkpoints.clone();
        self.database.fail_over();
        let state = &self.database.state;
        let unsettled =
            checkpoints != state.checkpoints || held != state.held.len() + state.letters.len();
        sometimes!(self, FailoverForgotSettlement, if unsettled);
        let rows = self.database.state.outbox.values();
        let kept: BTreeSet<u32> = rows.filter_map(|row| number_of(row.message.id)).collect();
        let forgot = self.witness.failed_over(&kept);
        sometimes!(self, FailoverForgot, if forgot);
        self.settled.clear();
    }

    fn server_ends(&mut self) {
        let in_flight = self.relays.iter().any(|relay| relay.has_aboard());
        sometimes!(self, FailoverInFlight, if in_flight);
    }

    /// An operator acts on the oldest dead letter.
    fn operate(&mut self, act: Act) {
        let Some(seq) = self.database.state.letters.keys().next().copied() else { return };
        if !self.database.is_up || self.database.is_locked() {
            return;
        }
        self.database.act(seq, act);
        let row = self.database.state.outbox.get(&seq);
        let Some(number) = row.and_then(|row| number_of(row.message.id)) else { return };
        let what = match act {
            Act::Repost => {
                self.witness.excuse([number]);
                self.witness.fate(number).attempts = 0;
                sometimes!(self, Reposted);
                "reposts"
            }
            Act::Discard => {
                self.witness.fate(number).given_up = true;
                sometimes!(self, Discarded);
                "discards"
            }
        };
        self.note(Actor::Operator, what, vec![number], 0);
        self.hint();
    }
}
