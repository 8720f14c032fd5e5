//! What relays see, and what the database sees of them.

use serde::{Deserialize, Serialize};

/// A relay and what it was set to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStarted {
    /// Under which name it takes leases.
    pub owner: String,
    /// How long a lease lasts that is not renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ttl: Option<u64>,
    /// How long it waits at most before it looks for new entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<u64>,
    /// Most messages of one call to the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// Shortest wait before a message that failed is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<u64>,
    /// After so many failed attempts a message is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How long a stop may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<u64>,
}

/// What became of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which lease.
    pub name: String,
    /// Whose.
    pub owner: String,
    /// Its fencing token.
    pub token: u64,
    /// What happened.
    pub act: LeaseAct,
    /// When, by the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_time: Option<u64>,
    /// Until when it holds from now on, by the database's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// What can happen to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseAct {
    /// Somebody got it.
    Granted,
    /// Its holder keeps it for longer.
    Renewed,
    /// Its holder gave it back.
    Released,
    /// Its holder noticed that it is over.
    Lost,
}

/// Entries were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Of which lane. Another division has other names.
    pub lane: String,
    /// What was read, in its order.
    pub entries: Vec<ReadEntry>,
}

/// An entry that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadEntry {
    /// Which message.
    pub id: String,
    /// Where it stands.
    pub position: u64,
}

/// Noted before messages are handed to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publishing {
    /// Names the call; unique in a run.
    pub flight: String,
    /// The messages, in their order.
    pub ids: Vec<String>,
    /// The replay that it is part of, if it is part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
}

/// What a relay knows of a message that it handed to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The call.
    pub flight: String,
    /// The message.
    pub id: String,
    /// What became of it.
    pub outcome: OutcomeKind,
}

/// What can become of a message that is handed to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The broker has it.
    Accepted,
    /// Refused, perhaps not for ever.
    Refused,
    /// Refused for ever.
    Rejected,
    /// Nobody is bound to it.
    Unroutable,
    /// The broker may have it.
    Unknown,
    /// It did not leave the process.
    Unsent,
}

/// A settlement that reached the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Of which lane. Another division has other names.
    pub lane: String,
    /// The fencing token that it carried.
    pub token: u64,
    /// Its number under this token, where settlements are numbered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Whether the database carried it out. One under an old token, or a repetition of one that
    /// was carried out, changes nothing.
    pub applied: bool,
    /// When, by the database's clock. Settlements of a lane stand in the order in which the
    /// database carried them out, or this says that order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_time: Option<u64>,
    /// The checkpoint afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// What it says of messages.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
}

/// What a settlement says of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The message.
    pub id: String,
    /// What it says.
    pub verdict: VerdictKind,
    /// Failed attempts so far.
    #[serde(default)]
    pub attempts: u32,
}

/// What a settlement can say of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// The broker has it.
    Sent,
    /// It failed and is tried again.
    Retry,
    /// It waits: for the broker, for its key, or until it is due.
    Hold,
    /// Nobody is bound to it; it waits for somebody.
    SetAside,
    /// It is given up and kept.
    Dead,
}

/// A position that was reported to the database's log: what lies before it may be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// The lane whose entries are meant.
    pub lane: String,
    /// The position.
    pub position: u64,
}

/// Rows were taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// From where.
    pub from: PrunedFrom,
    /// Whose inbox; missing for the outbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Of which messages.
    pub ids: Vec<String>,
}

/// Where rows can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrunedFrom {
    /// From the outbox.
    Outbox,
    /// From an inbox.
    Inbox,
}

/// How much of its log the database keeps for a reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHeld {
    /// Whom it keeps it for.
    pub reader: String,
    /// How much, in bytes.
    pub bytes: u64,
    /// How much it may be, in bytes.
    pub cap: u64,
    /// Whether it was said out loud that it is more.
    pub alarmed: bool,
}
