//! What becomes of an entry: the relay's decision, which the database carries out.

use std::time::Duration;

/// The fate of one entry of the outbox for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The broker has it.
    Sent,
    /// It is not due yet; it waits on the side and holds nobody back.
    Due,
    /// It failed and is tried again after `delay`; if it has a key, the key waits with it.
    Retry {
        /// How many times it has now been tried and counted.
        attempts: u32,
        /// How long to wait, on the database's clock.
        delay: Duration,
        /// What the broker said, for people; empty if it was not tried (a relay that stops puts
        /// back what it has taken).
        detail: String,
    },
    /// It waits behind another entry of its key.
    Behind,
    /// Nobody is bound to its topic and kind: it is set aside in order with others of these, holds
    /// nobody else back, and the first of them is tried now and then.
    Unroutable {
        /// How long until the first one is tried again, on the database's clock.
        probe_in: Duration,
        /// What the broker said, for people; empty if it was not tried because others are set
        /// aside.
        detail: String,
    },
    /// It is a dead letter: nothing but an operator moves it again.
    Dead {
        /// How many times it has now been tried and counted.
        attempts: u32,
        /// Why.
        reason: DeadReason,
        /// What the broker or the decoder said, for people.
        detail: String,
        /// Whether its key waits with it. Never set for an entry without a key.
        park: bool,
    },
}

/// Why something became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeadReason {
    /// The row in the outbox is not a message (written by hand, past the table's own checks).
    Malformed,
    /// The broker will never accept it.
    Refused,
    /// It failed as often as is allowed.
    Exhausted,
    /// Nobody is bound to its topic and kind, and the topic does not keep what nobody takes.
    Unroutable,
    /// A consumer has no handler for its kind.
    UnknownKind,
    /// A consumer could not decode its payload.
    Undecodable,
    /// A handler rejected it.
    Rejected,
}

impl DeadReason {
    /// All of them, in the order of their codes' documentation.
    pub const ALL: [Self; 7] = [
        Self::Malformed,
        Self::Refused,
        Self::Exhausted,
        Self::Unroutable,
        Self::UnknownKind,
        Self::Undecodable,
        Self::Rejected,
    ];

    /// The word for it in tables, JSON and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Exhausted => "exhausted",
            Self::Unroutable => "unroutable",
            Self::UnknownKind => "unknown-kind",
            Self::Undecodable => "undecodable",
            Self::Rejected => "rejected",
        }
    }

    /// The reason with this code, if there is one.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        for reason in DeadReason::ALL {
            assert_eq!(DeadReason::from_code(reason.code()), Some(reason));
        }
    }
}
