//! What happens: acts of writers, and a reader that reads, sends, settles and dies in between.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::{Act, KEYS, SESSIONS};

/// Most lanes in a history.
pub(crate) const LANES: usize = 4;

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
    /// Reads ahead of what is settled, in this lane modulo their number. `meanwhile` happens between
    /// two statements of one reading, if the rule has two. `keep` says whether a reading without
    /// rows is stored as well.
    Read {
        lane: usize,
        limit: usize,
        meanwhile: Vec<Act>,
        keep: bool,
    },
    /// Sends, in a lane, this many of the rows that were read.
    Send(usize, usize),
    /// Stores the checkpoint of the oldest reading of a lane if all of it is sent.
    Settle(usize),
    /// The reader of a lane dies; another one goes on from what is stored.
    Die(usize),
    /// The keys are divided among this many lanes, if the rule allows it now.
    Divide(usize),
    /// The database is now a copy in a cluster whose last transaction id was `latest`. Nobody reads
    /// until it is adopted: after what writers do meanwhile, or at another time.
    Restore {
        latest: u64,
        meanwhile: Vec<Act>,
        adopted: bool,
    },
    /// The copy is adopted, or a database that is no copy.
    Adopt,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..SESSIONS).prop_map(Act::Touch),
        12 => (0..SESSIONS, 0..KEYS).prop_map(|(session, key)| Act::State(session, key)),
        7 => (0..SESSIONS).prop_map(Act::Commit),
        2 => (0..SESSIONS).prop_map(Act::Rollback),
    ]
}

/// Events of writers and of readers, which are `lanes` times as busy.
fn event(lanes: u32) -> impl Strategy<Value = Event> {
    let read = (0..LANES, 1..6usize, vec(act(), 0..4), any::<bool>())
        .prop_map(|(lane, limit, meanwhile, keep)| Event::Read { lane, limit, meanwhile, keep });
    prop_oneof![
        80 => act().prop_map(Event::Act),
        25 * lanes => read,
        25 * lanes => (0..LANES, 1..8usize).prop_map(|(lane, count)| Event::Send(lane, count)),
        20 * lanes => (0..LANES).prop_map(Event::Settle),
        4 => (0..LANES).prop_map(Event::Die),
        2 => Just(Event::Act(Act::Crash)),
    ]
}

/// What moves a database to other lanes and clusters, whose ids may be lower or higher.
fn move_event() -> impl Strategy<Value = Event> {
    let restore = (2..90u64, vec(act(), 0..8), prop::bool::weighted(0.8))
        .prop_map(|(latest, meanwhile, adopted)| Event::Restore { latest, meanwhile, adopted });
    prop_oneof![
        5 => (1..=LANES).prop_map(Event::Divide),
        3 => restore,
        2 => Just(Event::Adopt),
    ]
}

/// Histories of concurrent writers; now and then a transaction runs from one end to the other.
pub(crate) fn histories(cache: u64) -> impl Strategy<Value = History> {
    vec(event(1), 1..160).prop_map(move |events| History { cache, one_writer: false, events })
}

/// Histories of a database that lets one writer in at a time.
pub(crate) fn one_writer_histories() -> impl Strategy<Value = History> {
    vec(event(1), 1..160).prop_map(|events| History { cache: 1, one_writer: true, events })
}

/// Histories of concurrent writers whose database is divided, copied and adopted.
pub(crate) fn moving_histories() -> impl Strategy<Value = History> {
    let event = prop_oneof![30 => event(2), 1 => move_event()];
    vec(event, 1..300).prop_map(|events| History { cache: 1, one_writer: false, events })
}
