//! What a client asks of the engine and what the engine says: the same words whether the client
//! is in the engine's process or at the other end of a socket.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::parcel::Parcel;
use crate::status::{Address, SubscriptionStatus};

/// A request. Numbers of consumers are chosen by the client and mean something to it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Keep these messages.
    Publish { parcels: Vec<Parcel> },
    /// Create the subscription if it is new and make `consumer` one of its consumers.
    Attach { consumer: u64, address: String, name: String, ordered: bool },
    /// Give `consumer` one batch of up to `most` messages as soon as there is one.
    Demand { consumer: u64, most: u32 },
    /// The demand of `consumer` is over.
    Withdraw { consumer: u64 },
    /// `consumer` ends. Locks after number `taken` have not reached anybody and are released.
    Detach { consumer: u64, taken: u64 },
    /// Settle a locked message.
    Settle { subscription: i64, lock: u64, fate: Fate },
    /// Extend a lock.
    Renew { subscription: i64, lock: u64 },
    /// Give a locked message back; `counted` if somebody had it in hand.
    Release { subscription: i64, lock: u64, counted: bool },
    /// Make the address a queue.
    DeclareQueue { address: String },
    /// Lock deferred messages by their numbers, all or none, for a consumer that asks for nothing
    /// else.
    TakeDeferred { consumer: u64, address: String, name: String, sequences: Vec<i64> },
    /// List deferred messages of a subscription.
    ListDeferred { address: String, name: String, after: i64, most: u32 },
    /// Figures of every subscription.
    Status,
    /// Every topic and queue.
    Addresses,
    /// List dead letters.
    ListDead { topic: Option<String>, id: Option<String>, after: Option<String>, most: u64 },
    /// One dead letter.
    GetDead { reference: String },
    /// Deliver dead letters again.
    Repost { references: Vec<String>, actor: String },
    /// Give dead letters up.
    Discard { references: Vec<String>, actor: String, reason: String },
}

/// What becomes of a locked message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fate {
    /// Done.
    Complete,
    /// Again after this long.
    Retry { delay: Duration },
    /// To the dead letters.
    Dead { reason: String, detail: String },
    /// Aside, until it is asked for.
    Defer,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It is done, durably.
    Done,
    /// One word for each message, in order.
    Published(Vec<Word>),
    /// The lock runs this long from now.
    Renewed { lock: Duration },
    /// Locked messages that were asked for by number.
    Taken(Vec<Handed>),
    /// Deferred messages.
    Deferred(Vec<Deferred>),
    /// Figures.
    Status(Vec<SubscriptionStatus>),
    /// Topics and queues.
    Addresses(Vec<Address>),
    /// Dead letters.
    Dead(Vec<Dead>),
    /// It was not done.
    Failed(Failure),
}

/// The engine's word on one published message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// Kept under this number.
    Accepted { sequence: i64 },
    /// Not kept; `permanent` if it never can be.
    Refused { permanent: bool, detail: String },
    /// Perhaps kept.
    Unknown { detail: String },
}

/// A message handed to a consumer with the lock it is under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handed {
    pub(crate) subscription: i64,
    pub(crate) sequence: i64,
    /// Grows with every lock of one engine.
    pub(crate) lock: u64,
    pub(crate) attempt: u32,
    pub(crate) lasts: Duration,
    pub(crate) parcel: Parcel,
}

/// A deferred message: what to ask for it by, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Deferred {
    /// The number to give to [`Bus::receive_deferred`](crate::Bus::receive_deferred).
    pub sequence: i64,
    /// Message id.
    pub id: posthaste_core::MessageId,
    /// What it is.
    pub kind: String,
    /// What it is about.
    pub key: Option<String>,
    /// Deliveries so far.
    pub deliveries: u32,
}

/// A dead letter of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dead {
    /// `ADDRESS/NAME` of the subscription, or the queue.
    pub(crate) subscription: String,
    pub(crate) sequence: i64,
    pub(crate) deliveries: u32,
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) at: posthaste_core::Timestamp,
    pub(crate) parcel: Parcel,
}
