//! A queue at work: it hands messages out, and hears what became of them.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Tag;
use crate::consumer::ToConsumer;
use crate::marker::sometimes;
use crate::message::number_of;
use crate::note::Actor;
use crate::witness::QUEUES;
use crate::world::{Event, World, travel};

/// What a queue is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ToQueue {
    /// There may be something to hand out.
    HandOut,
    /// A delivery is done.
    Done(Tag),
    /// A delivery is to come again after a while.
    Again(Tag, Duration),
    /// A member needs more time.
    Renew(Tag),
    /// A lock may have run out.
    LockEnds(Tag),
    /// A member is gone, or its line is.
    Gone(usize),
    /// A message that was done with comes once more.
    Copy,
}

impl World {
    pub(crate) fn at_queue(&mut self, queue: usize, what: ToQueue) {
        if !self.broker.is_up && !matches!(what, ToQueue::Gone(_)) {
            // What was said to a broker that is away is lost; it gives everything out again.
            return;
        }
        match what {
            ToQueue::HandOut => self.hand_out(queue),
            ToQueue::Done(tag) => self.delivery_done(queue, tag),
            ToQueue::Again(tag, delay) => {
                let ready_at = self.now.plus(delay);
                self.broker.queues[queue].take_back(tag, ready_at);
                self.hand_out(queue);
            }
            ToQueue::Renew(tag) => {
                if let Some(lock) = self.scenario.personality.lock {
                    let until = self.now.plus(lock);
                    self.broker.queues[queue].renew(tag, until);
                }
            }
            ToQueue::LockEnds(tag) => self.lock_ends(queue, tag),
            ToQueue::Gone(member) => {
                self.broker.queues[queue].take_all_back(Some(member), self.now);
                self.hand_out(queue);
            }
            ToQueue::Copy => self.copy(queue),
        }
    }

    fn hand_out(&mut self, queue: usize) {
        let personality = self.scenario.personality;
        let members: Vec<usize> =
            (0..self.consumers.len()).filter(|node| node % QUEUES == queue).collect();
        let first = self.queues[queue].place(members.len());
        let mut given = true;
        while given {
            given = false;
            for place in 0..members.len() {
                let node = members[(first + place) % members.len()];
                if !self.consumers[node].has_room() {
                    continue;
                }
                let (ordered, lock) = (personality.ordered, personality.lock);
                let member = self.consumers[node].member(node);
                let parcel = self.broker.queues[queue].give(member, ordered, lock, self.now);
                let Some(parcel) = parcel else { continue };
                given = true;
                if let Some(until) = self.broker.queues[queue].locked_until(parcel.tag) {
                    self.plan_at(until, Event::Queue(queue, ToQueue::LockEnds(parcel.tag)));
                }
                self.deliver(node, parcel);
            }
        }
        if let Some(at) = self.broker.queues[queue].next_ready(self.now) {
            self.plan_at(at, Event::Queue(queue, ToQueue::HandOut));
        }
    }

    fn deliver(&mut self, node: usize, parcel: crate::broker::Given) {
        let consumer = &mut self.consumers[node];
        consumer.under_way += 1;
        let incarnation = consumer.incarnation;
        let wait = travel(&mut consumer.chance, &self.rates);
        self.plan(wait, Event::Consumer(node, incarnation, ToConsumer::Delivery(parcel)));
    }

    fn delivery_done(&mut self, queue: usize, tag: Tag) {
        let Some(message) = self.broker.queues[queue].done(tag) else {
            // Its lock had run out; whoever said so has room again.
            return self.hand_out(queue);
        };
        let number = number_of(message.id).unwrap_or(0);
        self.note(Actor::Broker(queue), "is done with", vec![number], 0);
        if self.queues[queue].percent(self.rates.copied) {
            let wait = self.queues[queue].millis(1, 60);
            self.broker.copies[queue].push_back(Arc::clone(&message));
            self.plan(wait, Event::Queue(queue, ToQueue::Copy));
        }
        self.hand_out(queue);
    }

    /// A message that was done with comes once more: any, or where the inbox is small, one that it
    /// still has to know.
    fn copy(&mut self, queue: usize) {
        let Some(mut message) = self.broker.copies[queue].pop_front() else { return };
        if let Some(keep) = self.scenario.inbox {
            let known = self.witness.known(queue, keep);
            let oldest = self.queues[queue].percent(60);
            let place = if oldest { 0 } else { self.queues[queue].place(known.len()) };
            let number = known.get(place).and_then(|id| number_of(*id));
            let own = number.and_then(|number| self.witness.fate(number).message.clone());
            message = own.unwrap_or(message);
        }
        let number = number_of(message.id).unwrap_or(0);
        self.note(Actor::Broker(queue), "has a copy of", vec![number], 0);
        self.broker.queues[queue].push_copy(message);
        self.hand_out(queue);
    }

    fn lock_ends(&mut self, queue: usize, tag: Tag) {
        if self.broker.queues[queue].has_run_out(tag, self.now) {
            sometimes!(self, LockLost);
            self.broker.queues[queue].take_back(tag, self.now);
            self.hand_out(queue);
        } else if let Some(until) = self.broker.queues[queue].locked_until(tag) {
            self.plan_at(until, Event::Queue(queue, ToQueue::LockEnds(tag)));
        }
    }
}
