//! The outbox as the relay sees it: entries read past a checkpoint, and settlements that move it.
//!
//! The outbox is insert-only. What cannot be sent at once (failed, not yet due, waiting behind
//! another message of its key) is moved to a small side table, so that the checkpoint can go on;
//! [`OutboxReader::ready`] reads what may leave it again.

use std::time::Duration;

use async_trait::async_trait;

use crate::lane::Lane;
use crate::lease::Lease;
use crate::{Checkpoint, Message, Position, StoreError, Verdict};

/// A message at rest in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub position: Position,
    /// The message, or why the row is not one.
    pub body: Result<Message, Malformed>,
    /// How many counted attempts have failed so far.
    pub attempts: u32,
    /// How long until it is due, by the database's clock; `None` if it is due.
    pub due_in: Option<Duration>,
    /// Whether entries of its key wait in the side table, so that it has to wait behind them.
    pub blocked: bool,
    /// Whether others of its topic and kind are set aside because nobody is bound to them, so that
    /// it joins them: read past the checkpoint, if any are and their route is closed, or if one of
    /// its own key is; from the side table, if it failed before or was not due, and one with a
    /// lower position is. Never set for the first of those that are set aside.
    pub unroutable: bool,
}

/// A row of the outbox that is not a message: written by hand, past the table's own checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong with it, for people.
    pub detail: String,
}

/// How much to read at once. At least one entry is read, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// Most entries.
    pub messages: usize,
    /// Bytes of messages after which no further entry is taken.
    pub bytes: usize,
}

/// Entries past a checkpoint.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In the order in which they are to be sent.
    pub entries: Vec<Entry>,
    /// The checkpoint once all of these have a verdict.
    pub checkpoint: Checkpoint,
    /// Whether a limit cut the batch short, so that it is worth reading on at once.
    pub more: bool,
}

/// Entries of the side table that may be sent now.
#[derive(Clone, Debug)]
pub struct Ready {
    /// In the order of their positions.
    pub entries: Vec<Entry>,
    /// Whether a limit cut the list short.
    pub more: bool,
    /// How long until the next one may be sent, by the database's clock.
    pub next_in: Option<Duration>,
}

/// Which reading an entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feed {
    /// [`OutboxReader::read`]: past the checkpoint.
    New,
    /// [`OutboxReader::ready`]: from the side table.
    Ready,
}

/// The verdict on one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which entry.
    pub position: Position,
    /// Where it was read.
    pub feed: Feed,
    /// Topic and key; `None` for a row that is not a message.
    pub address: Option<(String, Option<String>)>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// Verdicts that are carried out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// In which lane.
    pub lane: Lane,
    /// Counts up from 1 under one lease token, so that a repeated call is recognised.
    pub number: u64,
    /// The new checkpoint, if it moves.
    pub checkpoint: Option<Checkpoint>,
    /// In the order in which they were read.
    pub verdicts: Vec<Settled>,
}

/// Reads and settles the outbox of one database.
///
/// Laws (suite `outbox`):
/// 1. Every committed entry is read exactly once by following the checkpoints, whatever commits
///    late or rolls back, and nothing uncommitted is ever read.
/// 2. Of two entries of one key, if the first was committed before the second was stated, it is
///    read first.
/// 3. A settlement happens wholly or not at all, and only under the current token of its lease.
/// 4. A settlement that is repeated with the same number changes nothing.
/// 5. [`OutboxReader::ready`] never returns an entry before its time or ahead of an earlier entry
///    of its key that is not ready.
/// 6. An entry that waits behind its key is ready once those before it are gone.
/// 7. Of the entries of a topic and kind (a route) that are set aside as unroutable, only the one
///    with the lowest position is ever ready, when its time has come. If it was sent or given up,
///    the route is open: the settlement lets a portion of the others go, lowest first, and the
///    lowest of the rest is ready at once; so no settlement touches more than some thousand. A
///    verdict of unroutable with a time to probe closes the route again.
///
/// Every call may answer [`StoreError::Fenced`] if the destination is not divided into that many
/// lanes (any more): whoever leads such a lane steps down.
#[async_trait]
pub trait OutboxReader: Send + Sync {
    /// The stored checkpoint of a lane; [`Checkpoint::start`] if it has none.
    async fn checkpoint(&self, lane: &Lane) -> Result<Checkpoint, StoreError>;

    /// The entries of the lane past `from`, in sending order. The checkpoint of the batch may move
    /// although there are none, past entries of other lanes or with the database's snapshot.
    async fn read(
        &self,
        lane: &Lane,
        from: &Checkpoint,
        limit: ReadLimit,
    ) -> Result<Batch, StoreError>;

    /// The entries of the side table that may be sent now, in the order of their positions.
    async fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, StoreError>;

    /// Carries out verdicts: moves the checkpoint, files what waits, takes away what is sent,
    /// writes dead letters and logs the batch, in one transaction that holds the lease's token.
    ///
    /// For every key that is touched, the head of its line in the side table is made ready if
    /// nothing failed stands before it, so that no line is ever left without a head.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if the lease is not the current one: nothing was changed.
    async fn settle(&self, lease: &Lease, settlement: &Settlement) -> Result<(), StoreError>;
}

/// How often a look at the outbox is worth it when nothing signals a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time to the next look after one that found something; it doubles with each that does not.
    pub shortest: Duration,
    /// Longest time between two looks.
    pub longest: Duration,
}

impl Pace {
    /// The time to the next look after so many that found nothing.
    pub fn after(self, empty: u32) -> Duration {
        let doubled = self.shortest.saturating_mul(2u32.saturating_pow(empty.min(31)));
        doubled.min(self.longest)
    }
}

/// Says when a look at the outbox may be worth it.
#[async_trait]
pub trait Signal: Send + Sync {
    /// Returns when something may have been committed since the last call, by this process or any
    /// other. A hint: it may return for nothing, and a reader looks now and then regardless.
    /// Dropping the future loses no hint.
    async fn changed(&self);

    /// Makes [`Signal::changed`] return in this process.
    fn wake(&self);

    /// How often to look when nothing signals a change. What this says by itself suits a database
    /// whose signal sees every commit, of whichever process.
    fn pace(&self) -> Pace {
        Pace { shortest: Duration::from_secs(5), longest: Duration::from_secs(5) }
    }
}
