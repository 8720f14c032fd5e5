//! The model of the outbox's database: numbers are drawn when a row is stated, rows are visible
//! once their transaction commits, a reading sees one snapshot, and what a reader is given follows the
//! rule of `posthaste_core::frontier` as it ships.
//!
//! It stands for PostgreSQL ([`Writers::Many`]) and SQLite ([`Writers::One`]); scripts that run
//! against the model and against both of them say how far that is true.

mod act;
mod lanes;
mod lease;
mod line;
mod reading;
mod settling;
mod state;
mod transaction;

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste_core::lease::Lease;
use posthaste_core::relay::Failure;
use posthaste_core::{Message, Moment, Timestamp};

pub use act::Act;
pub use lanes::Undivided;
pub(crate) use lanes::{DESTINATION, lane_of};
pub(crate) use reading::frontier_of;
pub use settling::Settling;
pub(crate) use settling::seq_of;
pub(crate) use state::{Grant, State};
pub use state::{Letter, Wait};
pub(crate) use transaction::Open;
pub use transaction::Session;

use crate::clock::calendar;
use crate::sabotage::Sabotage;

/// How many write at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// One after the other, as in SQLite: numbers are in the order of commits.
    One,
    /// Any number, as in PostgreSQL.
    Many,
}

/// See the module.
#[derive(Debug)]
pub struct Database {
    pub(crate) writers: Writers,
    pub(crate) state: State,
    pub(crate) open: BTreeMap<Session, Open>,
    /// What a standby had when it stopped receiving.
    standby: Option<Box<State>>,
    now: Timestamp,
    /// Microseconds by which its calendar is ahead.
    pub(crate) ahead: i64,
    /// Counts the starts of the server.
    pub(crate) life: u64,
    pub(crate) is_up: bool,
    sequence: u64,
    next_xid: u64,
    latest_ended: u64,
    /// Entries of a route that one settlement lets go.
    portion: usize,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Database {
    /// An empty database; `portion` entries of a route are let go at once.
    pub fn new(writers: Writers, portion: usize) -> Self {
        Self {
            writers,
            state: State::new(),
            open: BTreeMap::new(),
            standby: None,
            now: calendar(Moment::START, 0),
            ahead: 0,
            life: 1,
            is_up: true,
            sequence: 0,
            next_xid: 3,
            latest_ended: 2,
            portion,
            sabotage: None,
        }
    }

    /// Sets its clock to a true moment.
    pub fn at(&mut self, now: Moment) {
        self.now = calendar(now, self.ahead);
    }

    /// What its calendar says.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The server ends at once: open transactions are gone, numbers and ids that left no trace are
    /// given out again.
    pub(crate) fn crash(&mut self) {
        self.open.clear();
        self.is_up = false;
        self.life += 1;
        self.sequence = self.state.outbox.last_key_value().map_or(0, |(seq, _)| *seq);
        let latest = self.state.outbox.values().map(|row| row.xid).max().unwrap_or(2);
        self.latest_ended = latest.max(2);
        self.next_xid = self.latest_ended + 1;
    }

    /// A standby stops receiving.
    pub(crate) fn cut_standby(&mut self) {
        self.standby = Some(Box::new(self.state.clone()));
    }

    /// The server is lost and the standby takes over with what it has.
    pub(crate) fn fail_over(&mut self) {
        if let Some(standby) = self.standby.take() {
            self.state = *standby;
        }
        self.crash();
    }

    /// A commit of something beside the outbox takes a transaction id too.
    fn spend_xid(&mut self) {
        if self.writers == Writers::Many {
            self.latest_ended = self.latest_ended.max(self.next_xid);
            self.next_xid += 1;
        }
    }

    /// Whether a writer holds the only lock that there is.
    pub(crate) fn is_locked(&self) -> bool {
        self.writers == Writers::One && !self.open.is_empty()
    }

    fn is_sabotaged(&self, by: Sabotage) -> bool {
        self.sabotage == Some(by)
    }

    /// Refuses a lease that is not the current one.
    fn fence(&self, lease: &Lease) -> Result<(), Failure> {
        let nameless = self.is_sabotaged(Sabotage::OwnerIgnored);
        let is_current = |grant: &Grant| {
            let same = grant.token == lease.token && self.is_this(grant.life);
            // A standby that had not received the last grants gives out their tokens again.
            same && (grant.owner == lease.owner || nameless)
        };
        if self.state.leases.get(&lease.name).is_some_and(is_current) {
            Ok(())
        } else {
            Err(Failure::Fenced)
        }
    }

    /// Whether this is a life of the server in which what was granted in that one still holds. A
    /// file has no lives.
    fn is_this(&self, life: u64) -> bool {
        self.writers == Writers::One || life == self.life
    }
}

/// What decides about the lane of a message.
pub(crate) fn hash_of(message: &Message) -> u64 {
    let own = message.id.as_bytes();
    let bytes = message.key.as_ref().map_or(own.as_slice(), |key| key.as_bytes());
    let spread = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, spread) >> 32
}

/// The beginning of time: what was given back has run out then.
const EPOCH: Timestamp = Timestamp::from_millis(0);

/// When the first of a route is tried that was found open and is worked off.
const OPEN_ROUTE: Timestamp = EPOCH;

/// How long a lease has still to run; `None` if it is nobody's. One that would last longer than it
/// was granted for was written before the clock was set back.
fn remaining(expires_at: Timestamp, ttl: Duration, now: Timestamp) -> Option<Duration> {
    let left = expires_at.since(now);
    (left > Duration::ZERO && left <= ttl).then_some(left)
}
