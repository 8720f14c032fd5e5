//! What is done to a node on purpose: it dies at one exact step, or one rule of the house is
//! broken around a seam. Faults and sabotage are the wrappers of `posthaste::testing`.

use std::sync::Arc;
use std::time::Duration;

use posthaste::core::{Broker, Database};
use posthaste::testing::fault::{Call, CrashPoint, FaultyBroker, FaultyDatabase, When};
use posthaste::testing::sabotage::{
    AckBeforeCommit, CommitBeforeInbox, CursorThatSkips, IgnoreOrder, InventMessage, NewIdentity,
    SettleBeforeConfirm,
};
use serde::{Deserialize, Serialize};

/// A step of a node that makes itself durable, or surrounds what does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A lease is claimed.
    Acquire,
    /// A checkpoint is loaded.
    Load,
    /// The outbox is read.
    Read,
    /// What waits is read.
    Ready,
    /// Messages go to the bus.
    Publish,
    /// Verdicts are carried out.
    Settle,
    /// A lease is given back.
    Release,
    /// A transaction is opened.
    Begin,
    /// Messages are stated.
    Enqueue,
    /// A transaction is committed.
    Commit,
    /// Deliveries arrive.
    Receive,
    /// Messages are accepted by an inbox.
    Accept,
    /// An attempt is counted.
    BeginAttempt,
    /// A failure is noted.
    RecordFailure,
    /// A message becomes a dead letter of a consumer.
    Bury,
    /// A delivery is settled.
    SettleDelivery,
}

impl From<Step> for Call {
    fn from(step: Step) -> Self {
        match step {
            Step::Acquire => Self::Acquire,
            Step::Load => Self::Checkpoint,
            Step::Read => Self::Read,
            Step::Ready => Self::Ready,
            Step::Publish => Self::Publish,
            Step::Settle => Self::Settle,
            Step::Release => Self::Release,
            Step::Begin => Self::Begin,
            Step::Enqueue => Self::Enqueue,
            Step::Commit => Self::Commit,
            Step::Receive => Self::Receive,
            Step::Accept => Self::Accept,
            Step::BeginAttempt => Self::BeginAttempt,
            Step::RecordFailure => Self::RecordFailure,
            Step::Bury => Self::Bury,
            Step::SettleDelivery => Self::SettleDelivery,
        }
    }
}

/// Where a node ends itself without warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// At this step,
    pub step: Step,
    /// after it rather than before it,
    pub after: bool,
    /// the time that it comes to it, counted from 1.
    pub number: u64,
}

impl Death {
    fn point(self) -> CrashPoint {
        let when = if self.after { When::After } else { When::Before };
        CrashPoint::abort(self.step.into(), when, self.number)
    }

    /// The database of a consumer or a writer that dies.
    pub(super) fn database<D>(self, database: D) -> FaultyDatabase<D> {
        FaultyDatabase::new(Arc::new(database), self.point())
    }

    /// The broker of a node that dies.
    pub(super) fn broker(self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        Arc::new(FaultyBroker::new(broker, self.point()))
    }
}

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sabotage {
    /// A relay takes messages for sent that the bus does not have yet.
    SettleBeforeConfirm,
    /// A relay leaves out every 40th entry.
    CursorThatSkips,
    /// A relay hands over later messages before earlier ones.
    IgnoreOrder,
    /// A relay sends messages that nobody has committed.
    InventMessage,
    /// A consumer settles deliveries before it has committed anything.
    AckBeforeCommit,
    /// A consumer's inbox remembers nothing.
    CommitBeforeInbox,
    /// Redelivered messages have another id.
    NewIdentity,
}

/// How long a saboteur holds back what it says that it has done.
const HOLD: Duration = Duration::from_millis(150);

impl Sabotage {
    /// The database of a relay.
    pub(super) fn database<D: Database + 'static>(self, database: D) -> Arc<dyn Database> {
        let database = Arc::new(database);
        match self {
            Self::CursorThatSkips => Arc::new(CursorThatSkips::new(database, 40)),
            _ => database,
        }
    }

    /// The broker of a relay or a consumer.
    pub(super) fn broker(self, broker: Arc<dyn Broker>, seed: u64) -> Arc<dyn Broker> {
        match self {
            Self::SettleBeforeConfirm => Arc::new(SettleBeforeConfirm::broker(broker, HOLD)),
            Self::IgnoreOrder => Arc::new(IgnoreOrder::broker(broker, seed, HOLD)),
            Self::InventMessage => Arc::new(InventMessage::broker(broker, 25)),
            Self::AckBeforeCommit => Arc::new(AckBeforeCommit::broker(broker)),
            Self::NewIdentity => Arc::new(NewIdentity::broker(broker)),
            _ => broker,
        }
    }

    /// The database of a consumer whose inbox remembers nothing.
    pub(super) fn forgetful<D>(self, database: D) -> Option<CommitBeforeInbox<D>> {
        (self == Self::CommitBeforeInbox).then(|| CommitBeforeInbox::new(Arc::new(database)))
    }
}
