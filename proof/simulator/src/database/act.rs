//! What operators do with dead letters of the relay.

use posthaste_core::{Message, Timestamp};

use super::lanes::lane_of;
use super::state::{Held, Letter, Wait};
use super::{Database, hash_of};

/// What becomes of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It is sent again, ahead of those that wait behind it.
    Repost,
    /// It is given up; those go on.
    Discard,
}

impl Database {
    /// The dead letters, the oldest message first.
    pub fn letters(&self) -> impl Iterator<Item = (u64, &Message, &Letter)> {
        let letters = self.state.letters.iter();
        letters.filter_map(|(seq, letter)| {
            self.state.outbox.get(seq).map(|row| (*seq, row.message.as_ref(), letter))
        })
    }

    /// Acts on the dead letter with this number; whether there is one.
    pub fn act(&mut self, seq: u64, act: Act) -> bool {
        if self.state.letters.remove(&seq).is_none() {
            return false;
        }
        self.spend_xid();
        let Some(row) = self.state.outbox.get(&seq) else { return true };
        let message = row.message.clone();
        let address = message.key.clone().map(|key| (message.topic.clone(), key));
        if act == Act::Discard {
            let held = self.state.held.get(&seq);
            if held.is_some_and(|held| held.wait == Wait::Parked) {
                self.state.held.remove(&seq);
                address.iter().for_each(|address| self.free_line(address));
            }
            return true;
        }
        let (hash, now): (u64, Timestamp) = (hash_of(&message), self.now);
        let held = Held {
            lane: lane_of(hash, self.state.lanes()),
            hash,
            topic: message.topic.clone(),
            kind: message.kind.clone(),
            key: message.key.clone(),
            wait: Wait::Retry,
            attempts: 0,
            ready_at: Some(now),
        };
        self.state.held.insert(seq, held);
        address.iter().for_each(|address| self.hold_back(address, seq));
        true
    }
}
