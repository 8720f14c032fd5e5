//! What a broker said of a message that was handed to it.

/// The broker's answer for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it, as durably as its [`Promises`](crate::Promises) say.
    Accepted(Receipt),
    /// The broker has said no, and does not have it.
    Refused(Refusal),
    /// Nobody is bound to its topic and kind, or the broker has no such topic: it does not have the
    /// message, and had no fault to find with it.
    Unroutable {
        /// What is missing, for people.
        detail: String,
    },
    /// Nobody knows: the connection was lost or no answer came in time. The broker may have it. The
    /// message is sent again with the same id, and its key does not move on until it is known.
    Unknown {
        /// What happened, for people.
        detail: String,
    },
}

/// The broker's proof that it has a message: its own number or token for it, where it gives one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt(pub Option<String>);

/// A broker's no to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether the same message can never be accepted (too large, malformed, forbidden).
    pub permanent: bool,
    /// The broker's words, for people.
    pub detail: String,
}

impl Outcome {
    /// Accepted, without a proof of the broker's own.
    pub fn accepted() -> Self {
        Self::Accepted(Receipt::default())
    }

    /// Refused for now: it may be accepted later.
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::Refused(Refusal { permanent: false, detail: detail.into() })
    }

    /// Refused for good: trying again is no use.
    pub fn refused_for_good(detail: impl Into<String>) -> Self {
        Self::Refused(Refusal { permanent: true, detail: detail.into() })
    }

    /// Nobody is there to take it.
    pub fn unroutable(detail: impl Into<String>) -> Self {
        Self::Unroutable { detail: detail.into() }
    }

    /// Nobody knows.
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self::Unknown { detail: detail.into() }
    }
}
