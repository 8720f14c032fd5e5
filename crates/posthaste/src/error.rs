//! How publishing and handling fail.

use std::fmt;
use std::time::Duration;

use posthaste_core::consumer::Failing;
use posthaste_core::error::Cause;
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Invalid, StoreError};

/// A message could not be stated. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The event cannot be written as JSON.
    #[error("the event cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// The message breaks a limit of the contract.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A handler could not handle a message. Any error converts into one that is retried, so `?` does
/// the right thing; [`reject`] and [`retry_after`] are the two exceptions.
pub struct HandlerError {
    failing: Failing,
    cause: Cause,
}

impl HandlerError {
    pub(crate) fn new(failing: Failing, cause: impl Into<Cause>) -> Self {
        Self { failing, cause: cause.into() }
    }

    pub(crate) fn failing(&self) -> Failing {
        self.failing
    }

    /// The story: the error and all that caused it, on one line, bounded.
    pub(crate) fn story(&self) -> String {
        let mut story = self.cause.to_string();
        let mut cause = self.cause.source();
        while let Some(next) = cause {
            let text = next.to_string();
            if !story.contains(&text) {
                story = format!("{story}: {text}");
            }
            cause = next.source();
        }
        match story.char_indices().nth(2000) {
            Some((end, _)) => format!("{}…", &story[..end]),
            None => story,
        }
    }
}

impl<E: Into<Cause>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::new(Failing::Passing, error)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandlerError({:?}, {})", self.failing, self.story())
    }
}

/// Says that this message can never be handled: it becomes a dead letter without another attempt.
pub fn reject(error: impl Into<Cause>) -> HandlerError {
    HandlerError::new(Failing::ForGood(DeadReason::Rejected), error)
}

/// Says that this message may be handled after `wait`; the attempt counts as any other.
pub fn retry_after(wait: Duration, error: impl Into<Cause>) -> HandlerError {
    HandlerError::new(Failing::PassingAfter(wait), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_tells_causes_once_and_is_bounded() {
        let io = std::io::Error::other("disk on fire");
        let error: HandlerError =
            StoreError::Failed { context: "commit".to_owned(), source: Some(Box::new(io)) }.into();
        assert_eq!(error.story(), "database failed: commit: disk on fire");
        assert!(reject("x".repeat(9000)).story().len() < 2010);
    }
}
