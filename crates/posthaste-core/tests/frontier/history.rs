//! What happens: acts of writers, and a reader that reads, sends, settles and dies in between.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::{Act, SESSIONS};

/// A history to be run against a rule.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// Numbers that a session draws at once.
    pub(crate) cache: u64,
    pub(crate) one_writer: bool,
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Act(Act),
    /// Reads ahead of what is settled. `meanwhile` happens between two statements of one reading,
    /// if the rule has two. `keep` says whether a reading without rows is stored as well.
    Read {
        limit: usize,
        meanwhile: Vec<Act>,
        keep: bool,
    },
    /// Sends this many of the rows that were read.
    Send(usize),
    /// Stores the checkpoint of the oldest reading if all of it is sent.
    Settle,
    /// The reader dies and goes on from what is stored.
    Die,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..SESSIONS).prop_map(Act::Touch),
        12 => (0..SESSIONS, 0..3u8).prop_map(|(session, key)| Act::State(session, key)),
        7 => (0..SESSIONS).prop_map(Act::Commit),
        2 => (0..SESSIONS).prop_map(Act::Rollback),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let read = (1..6usize, vec(act(), 0..4), any::<bool>());
    prop_oneof![
        80 => act().prop_map(Event::Act),
        25 => read.prop_map(|(limit, meanwhile, keep)| Event::Read { limit, meanwhile, keep }),
        25 => (1..8usize).prop_map(Event::Send),
        20 => Just(Event::Settle),
        4 => Just(Event::Die),
        2 => Just(Event::Act(Act::Crash)),
    ]
}

/// Histories of concurrent writers; now and then a transaction runs from one end to the other.
pub(crate) fn histories(cache: u64) -> impl Strategy<Value = History> {
    vec(event(), 1..160).prop_map(move |events| History { cache, one_writer: false, events })
}

/// Histories of a database that lets one writer in at a time.
pub(crate) fn one_writer_histories() -> impl Strategy<Value = History> {
    vec(event(), 1..160).prop_map(|events| History { cache: 1, one_writer: true, events })
}
