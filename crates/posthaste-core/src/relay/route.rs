//! Routes that are closed: topics and kinds of which a message in the window was unroutable.
//!
//! From the moment one message is set aside until all of its topic and kind in memory are settled,
//! only the relay knows that later ones have to be set aside too; after that the database does.

use std::collections::BTreeSet;

use crate::Message;

/// See the module. Nearly always empty, and then it costs nothing.
#[derive(Debug, Default)]
pub(super) struct ClosedRoutes(BTreeSet<(String, String)>);

impl ClosedRoutes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether messages of this one's topic and kind are to be set aside.
    pub(super) fn holds(&self, message: &Message) -> bool {
        !self.0.is_empty() && self.0.contains(&route(message))
    }

    pub(super) fn close(&mut self, message: &Message) {
        self.0.insert(route(message));
    }

    /// Forgets the routes of which none of these messages is.
    pub(super) fn keep<'a>(&mut self, messages: impl Iterator<Item = &'a Message>) {
        if self.0.is_empty() {
            return;
        }
        let present: BTreeSet<_> = messages.map(route).collect();
        self.0.retain(|route| present.contains(route));
    }
}

fn route(message: &Message) -> (String, String) {
    (message.topic.clone(), message.kind.clone())
}
