//! How the seams fail. Variants are named by what follows from them; the cause is in `source()`.
//! Backends classify in their own `error.rs`, which alone knows their codes.

use std::error::Error;

/// A cause, whatever it is.
pub type Cause = Box<dyn Error + Send + Sync + 'static>;

/// A database could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be reached, is busy or was cut off: the same call may succeed later. Whether the
    /// call took effect is not known; every call of the seams may be repeated.
    #[error("database unavailable: {context}")]
    Unavailable {
        /// What was tried and what to look at.
        context: String,
        /// The driver's error.
        #[source]
        source: Option<Cause>,
    },
    /// The lease is someone else's: nothing was changed.
    #[error("the lease is held by another relay; nothing was changed")]
    Fenced,
    /// The schema is missing, older or newer than this program needs.
    #[error("{advice}")]
    Schema {
        /// Version found; `None` if there is no schema of ours.
        found: Option<u32>,
        /// Version needed.
        needed: u32,
        /// What to do.
        advice: String,
    },
    /// The database refused the data or the request: repeating it is no use.
    #[error("refused: {reason}")]
    Rejected {
        /// Why, and what to do.
        reason: String,
        /// The driver's error.
        #[source]
        source: Option<Cause>,
    },
    /// It failed in a way that needs a person: a damaged file, missing rights, a full disk.
    #[error("database failed: {context}")]
    Failed {
        /// What was tried and what to do.
        context: String,
        /// The driver's error.
        #[source]
        source: Option<Cause>,
    },
}

impl StoreError {
    /// Unavailable, without a driver's error.
    pub fn unavailable(context: impl Into<String>) -> Self {
        Self::Unavailable { context: context.into(), source: None }
    }

    /// Rejected, without a driver's error.
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected { reason: reason.into(), source: None }
    }

    /// Failed, without a driver's error.
    pub fn failed(context: impl Into<String>) -> Self {
        Self::Failed { context: context.into(), source: None }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// The broker cannot be reached and nothing left this process: no attempt is counted.
#[derive(Debug, thiserror::Error)]
#[error("broker unavailable: {context}")]
pub struct Unavailable {
    /// What was tried and what to look at.
    pub context: String,
    /// The driver's error.
    #[source]
    pub source: Option<Cause>,
}

impl Unavailable {
    /// Unavailable, without a driver's error.
    pub fn new(context: impl Into<String>) -> Self {
        Self { context: context.into(), source: None }
    }
}

/// A broker could not do what it was asked, apart from publishing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// It cannot be reached or was cut off: the same call may succeed later.
    #[error("broker unavailable: {context}")]
    Unavailable {
        /// What was tried and what to look at.
        context: String,
        /// The driver's error.
        #[source]
        source: Option<Cause>,
    },
    /// The lock on a delivery has run out or is someone else's: the message will be, or has been,
    /// delivered again.
    #[error("the lock on this delivery is lost; the message is delivered again")]
    LockLost,
    /// The broker refused the request: repeating it is no use.
    #[error("refused: {reason}")]
    Rejected {
        /// Why, and what to do.
        reason: String,
    },
    /// It failed in a way that needs a person.
    #[error("broker failed: {context}")]
    Failed {
        /// What was tried and what to do.
        context: String,
        /// The driver's error.
        #[source]
        source: Option<Cause>,
    },
}

impl BrokerError {
    /// Unavailable, without a driver's error.
    pub fn unavailable(context: impl Into<String>) -> Self {
        Self::Unavailable { context: context.into(), source: None }
    }

    /// Rejected, with a reason.
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected { reason: reason.into() }
    }

    /// Failed, without a driver's error.
    pub fn failed(context: impl Into<String>) -> Self {
        Self::Failed { context: context.into(), source: None }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
