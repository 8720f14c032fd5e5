//! Topics: what was published, and the subscriptions that get it.

use std::collections::BTreeMap;

use posthaste_core::Message;
use tokio::time::Instant;

use super::queue::Queue;

/// All topics of a broker. First use of a name creates it.
#[derive(Default)]
pub(super) struct Topics {
    topics: BTreeMap<String, Topic>,
    /// Everything that was accepted, with the moment it was.
    accepted: Vec<(Instant, Message)>,
    last_holder: u64,
}

#[derive(Default)]
struct Topic {
    subscriptions: BTreeMap<String, Queue>,
    /// What came before there was any subscription: the first one gets it.
    held: Vec<Message>,
}

impl Topics {
    /// Opens a subscription for a new holder of locks, whose number is returned.
    pub(super) fn open(&mut self, topic: &str, name: &str) -> u64 {
        let topic = self.topics.entry(topic.to_owned()).or_default();
        if !topic.subscriptions.contains_key(name) {
            let mut queue = Queue::default();
            for message in topic.held.drain(..) {
                queue.push(message);
            }
            topic.subscriptions.insert(name.to_owned(), queue);
        }
        self.last_holder += 1;
        self.last_holder
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|topic| !topic.subscriptions.is_empty())
    }

    /// Takes a message in and returns its number among all that were accepted.
    pub(super) fn accept(&mut self, message: &Message, now: Instant) -> usize {
        self.accepted.push((now, message.clone()));
        let topic = self.topics.entry(message.topic.clone()).or_default();
        if topic.subscriptions.is_empty() {
            topic.held.push(message.clone());
        }
        for queue in topic.subscriptions.values_mut() {
            queue.push(message.clone());
        }
        self.accepted.len()
    }

    /// Whether a message with this id was accepted at `since` or later.
    pub(super) fn has_since(&self, message: &Message, since: Option<Instant>) -> bool {
        let recent = |at: &Instant| since.is_none_or(|since| *at >= since);
        self.accepted.iter().any(|(at, other)| other.id == message.id && recent(at))
    }

    pub(super) fn queue(&self, topic: &str, name: &str) -> Option<&Queue> {
        self.topics.get(topic)?.subscriptions.get(name)
    }

    pub(super) fn queue_mut(&mut self, topic: &str, name: &str) -> Option<&mut Queue> {
        self.topics.get_mut(topic)?.subscriptions.get_mut(name)
    }

    pub(super) fn published(&self, topic: &str) -> Vec<Message> {
        let all = self.accepted.iter().map(|(_, message)| message);
        all.filter(|message| message.topic == topic).cloned().collect()
    }

    pub(super) fn published_anywhere(&self) -> Vec<Message> {
        self.accepted.iter().map(|(_, message)| message.clone()).collect()
    }
}
