//! What is done to a run from outside: faults, stops, replays.

use serde::{Deserialize, Serialize};

/// Something was broken on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Names it; unique in a run.
    pub id: String,
    /// How: `kill`, `pause`, `partition`, `restart`, `lost_answer`, `disk_full`, `clock`, `poison`,
    /// `slow` or any other word.
    pub kind: String,
    /// What was hit.
    pub target: FaultTarget,
    /// The node, the consumer or the owner of leases that was hit; missing if all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The key that is in trouble, for a fault of one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Since when, on the clock of `at`.
    pub from: u64,
    /// Until when, on the clock of `at`: what was hit is as good as before.
    pub until: u64,
}

/// What a fault can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultTarget {
    /// A writer.
    Writer,
    /// A relay, or its lines.
    Relay,
    /// A consumer, or its lines.
    Consumer,
    /// The broker.
    Broker,
    /// A database.
    Database,
    /// The gateway.
    Gateway,
    /// A handler, or what one key brings it.
    Handler,
    /// Several of them at once, such as a process with all of it.
    Several,
}

/// A replay began or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Names what is replayed; unique in a run.
    pub scope: String,
    /// Which it is.
    pub phase: ReplayPhase,
    /// Digest of the state that must be the same afterwards.
    #[serde(with = "super::hex")]
    pub state: u64,
}

/// Which end of a replay it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayPhase {
    /// It begins.
    Began,
    /// It has ended.
    Ended,
}

/// The node that notes it was asked to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {}

/// The node that notes it, or that is named, has stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The exit status.
    pub exit: i32,
}
