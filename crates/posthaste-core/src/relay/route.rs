//! Routes that are closed: topics and kinds of which a message in the window is set aside.
//!
//! From the moment one message is set aside until its verdict is settled, only the relay knows
//! that later ones of its topic and kind would overtake it. From then on the database says so of
//! what is read; what was read before is still for the relay to hold back. Those with a lower
//! position may pass: one that is tried on behalf of its route, and those that are let go after it.

use std::collections::{BTreeMap, BTreeSet};

use super::window::Ticket;
use crate::{Message, Position};

/// See the module. Nearly always empty, and then it costs nothing.
#[derive(Debug, Default)]
pub(super) struct ClosedRoutes(BTreeMap<(String, String), Closed>);

#[derive(Debug, Default)]
struct Closed {
    /// Set aside and not settled yet.
    aside: BTreeSet<Position>,
    /// Of each settlement the lowest that was set aside, and the first ticket that was given out
    /// after it: what has a lower ticket was read when the database did not know of it.
    settled: Vec<(Position, Ticket)>,
}

impl ClosedRoutes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this message has to be set aside because of its topic and kind.
    pub(super) fn holds(&self, ticket: Ticket, position: &Position, message: &Message) -> bool {
        !self.0.is_empty()
            && self.0.get(&route(message)).is_some_and(|closed| {
                let unseen =
                    |(first, until): &(Position, Ticket)| first < position && ticket < *until;
                closed.aside.first().is_some_and(|first| first < position)
                    || closed.settled.iter().any(unseen)
            })
    }

    /// A message is set aside.
    pub(super) fn close(&mut self, position: &Position, message: &Message) {
        self.0.entry(route(message)).or_default().aside.insert(position.clone());
    }

    /// A message that was set aside is settled; `next` is the next ticket.
    pub(super) fn settled(&mut self, position: &Position, message: &Message, next: Ticket) {
        if let Some(closed) = self.0.get_mut(&route(message)) {
            closed.aside.remove(position);
            match closed.settled.last_mut() {
                Some((first, until)) if *until == next => {
                    if position < first {
                        *first = position.clone();
                    }
                }
                _ => closed.settled.push((position.clone(), next)),
            }
        }
    }

    /// Forgets what concerns no ticket from `first` on.
    pub(super) fn forget(&mut self, first: Option<Ticket>) {
        self.0.retain(|_, closed| {
            closed.settled.retain(|(_, until)| first.is_some_and(|first| first < *until));
            !closed.aside.is_empty() || !closed.settled.is_empty()
        });
    }
}

fn route(message: &Message) -> (String, String) {
    (message.topic.clone(), message.kind.clone())
}
