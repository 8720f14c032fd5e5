//! The format: what can stand on a line of a history.
//!
//! A history is JSON lines, one object a line, as `docs/history.md` describes them. A [`Line`] says
//! when and where something was seen; an [`Event`] says what, under the name `saw`. Fields that
//! this version does not know are ignored, events that it does not know become
//! [`Event::Unknown`].
//!
//! Moments and durations are nanoseconds. There are two clocks: `at`, which all nodes of a run
//! share and which never goes back, and the database's, in fields that are named for it.

mod consumer;
mod dead_letter;
mod disturbance;
mod gateway;
mod relay;
mod truth;
mod writer;

use serde::{Deserialize, Serialize};

pub use consumer::{Answer, Answered, ConsumerStarted, Delivered, Effect, Handling};
pub use dead_letter::{Act, Audit, Buried};
pub use disturbance::{Fault, FaultTarget, Replay, ReplayPhase, Stopped, Stopping};
pub use gateway::{Request, Response};
pub use relay::{
    Confirmed, Lease, LeaseAct, LogHeld, Outcome, OutcomeKind, Pruned, PrunedFrom, Publishing,
    Read, ReadEntry, RelayStarted, Settlement, Verdict, VerdictKind,
};
pub use truth::{DeadLetter, Leftover, Pending, Rest, Row, Sum, Transaction};
pub use writer::{Commit, CommitAnswer, Stated, Stating};

/// The version of the format that this crate writes.
pub const VERSION: u32 = 1;

/// A line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, on the clock that all nodes of the run share: monotonic or simulated.
    pub at: u64,
    /// The process, or whatever else can fail by itself, that saw it.
    pub node: String,
    /// The fault that brought it about, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What was seen.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    /// Something that was seen.
    pub fn new(at: u64, node: impl Into<String>, event: impl Into<Event>) -> Self {
        Self { at, node: node.into(), fault: None, event: event.into() }
    }
}

/// Makes the enum, the name of each kind, and a conversion from what each kind holds.
macro_rules! events {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What was seen.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "saw")]
        #[non_exhaustive]
        pub enum Event {
            $($(#[$doc])* #[serde(rename = $name)] $kind($kind),)*
            /// Something that this version does not know.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl Event {
            /// The name under which it stands in a history.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                    Self::Unknown => "unknown",
                }
            }
        }

        $(impl From<$kind> for Event {
            fn from(event: $kind) -> Self {
                Self::$kind(event)
            }
        })*
    };
}

events! {
    /// A file begins, or a process that appends to it.
    Format = "history",
    /// A relay is at work.
    RelayStarted = "relay_started",
    /// A consumer is at work.
    ConsumerStarted = "consumer_started",
    /// A writer is about to state messages.
    Stating = "stating",
    /// How a writer's transaction ended.
    Commit = "commit",
    /// Something became of a lease.
    Lease = "lease",
    /// Entries were read from an outbox or a log.
    Read = "read",
    /// Messages are about to be handed to the broker.
    Publishing = "publishing",
    /// What became of a message that was handed to the broker.
    Outcome = "outcome",
    /// A settlement reached the database.
    Settlement = "settlement",
    /// A position was reported to the database's log.
    Confirmed = "confirmed",
    /// Rows were taken away.
    Pruned = "pruned",
    /// How much of its log the database keeps for a reader.
    LogHeld = "log_held",
    /// A message arrived.
    Delivered = "delivered",
    /// A handler was entered.
    Handling = "handling",
    /// A message took effect.
    Effect = "effect",
    /// A delivery was settled.
    Answered = "answered",
    /// A message was given up on and kept.
    Buried = "buried",
    /// An operator did something.
    Audit = "audit",
    /// A client asked the gateway.
    Request = "request",
    /// The gateway answered.
    Response = "response",
    /// A replay began or ended.
    Replay = "replay",
    /// A node was asked to stop.
    Stopping = "stopping",
    /// A node has stopped.
    Stopped = "stopped",
    /// Something was broken on purpose.
    Fault = "fault",
    /// At the end: a state change is there.
    Transaction = "transaction",
    /// At the end: a message is there.
    Row = "row",
    /// At the end: a sum that a consumer keeps of its effects.
    Sum = "sum",
    /// At the end: a dead letter stands.
    DeadLetter = "dead_letter",
    /// At the end: a message still waits.
    Pending = "pending",
    /// At the end: something is left where nothing should be.
    Leftover = "leftover",
    /// At the end: all has come to rest, and all that is there has been told.
    Rest = "rest",
}

/// Stands first in every file, and wherever a process goes on writing one that another, or a
/// former self, has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Of the format; see [`VERSION`].
    pub version: u32,
    /// Every fault of the run stands in the history, so that a copy that none of them explains is
    /// wrong.
    #[serde(default)]
    pub faults_known: bool,
    /// The relays tail the log, so the order of first arrivals is the order of positions.
    #[serde(default)]
    pub log_order: bool,
    /// The broker shuts out a relay whose time is over, so two never interleave.
    #[serde(default)]
    pub fenced: bool,
}

impl Default for Format {
    fn default() -> Self {
        Self { version: VERSION, faults_known: false, log_order: false, fenced: false }
    }
}

/// Digests as 16 hexadecimal digits, because numbers of JSON are not exact above 2^53 everywhere.
pub(crate) mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(digest: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{digest:016x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let digits = String::deserialize(from)?;
        let wrong = || D::Error::custom("a digest is up to 16 hexadecimal digits");
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hex {
            return Err(wrong());
        }
        u64::from_str_radix(&digits, 16).map_err(|_| wrong())
    }

    /// The same for a digest that may be missing.
    pub(crate) mod optional {
        use serde::{Deserialize, Deserializer, Serializer};

        pub(crate) fn serialize<S: Serializer>(
            digest: &Option<u64>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match digest {
                Some(digest) => super::serialize(digest, to),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<u64>, D::Error> {
            #[derive(Deserialize)]
            struct Digest(#[serde(with = "super")] u64);
            Ok(Option::<Digest>::deserialize(from)?.map(|Digest(digest)| digest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_flat_object_and_comes_back() -> Result<(), serde_json::Error> {
        let digest = u64::MAX - 1;
        let (consumer, id) = ("billing".to_owned(), "m1".to_owned());
        let effect = Effect { consumer, id, digest };
        let line = Line { fault: Some("f1".to_owned()), ..Line::new(u64::MAX, "node", effect) };
        let text = serde_json::to_string(&line)?;
        let expected = r#"{"at":18446744073709551615,"node":"node","fault":"f1","saw":"effect","#
            .to_owned()
            + r#""consumer":"billing","id":"m1","digest":"fffffffffffffffe"}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Line>(&text)?, line);
        let more = text.replace(r#""id""#, r#""colour":[1,{}],"id""#);
        assert_eq!(serde_json::from_str::<Line>(&more)?, line);
        let other = text.replace("effect", "afterglow");
        assert_eq!(serde_json::from_str::<Line>(&other)?.event, Event::Unknown);
        for wrong in ["zz", "+1", "12345678901234567", ""] {
            let wrong = text.replace("fffffffffffffffe", wrong);
            assert!(serde_json::from_str::<Line>(&wrong).is_err(), "{wrong}");
        }
        Ok(())
    }
}
