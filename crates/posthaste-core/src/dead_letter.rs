//! Dead letters: what could not be delivered or handled, kept whole until a person decides.

use async_trait::async_trait;
use serde::Serialize;

use crate::{Payload, StoreError, Timestamp};

/// Where a message became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "side", content = "name", rename_all = "lowercase")]
pub enum Origin {
    /// The relay could not hand it to this destination.
    Relay(String),
    /// This consumer could not handle it.
    Consumer(String),
    /// The broker gave up on it in this subscription (`TOPIC/NAME`) or queue.
    Broker(String),
}

/// A dead letter. Fields hold what was written, even where that is not a valid message; what is
/// not UTF-8 is shown with replacement characters, the payload is exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What operators call it by: unique in its store.
    pub reference: String,
    /// Where it died.
    pub origin: Origin,
    /// Message id as written.
    pub id: String,
    /// Topic as written.
    pub topic: String,
    /// Kind as written.
    pub kind: String,
    /// Key as written.
    pub key: Option<String>,
    /// Headers as written: a JSON object of strings if they are valid.
    pub headers: String,
    /// Media type as written.
    pub content_type: Option<String>,
    /// The body.
    pub payload: Payload,
    /// When it was stated.
    pub stated_at: Option<Timestamp>,
    /// Code of the reason, see [`DeadReason`](crate::verdict::DeadReason); a broker or an
    /// application may have words of its own.
    pub reason: String,
    /// What was said at the end, for people.
    pub detail: String,
    /// Counted attempts.
    pub attempts: u32,
    /// First failure on record.
    pub first_failed_at: Option<Timestamp>,
    /// When it became a dead letter.
    pub dead_at: Timestamp,
    /// Failures on record, oldest first (bounded).
    pub history: Vec<Failure>,
    /// Whether later messages of its key wait with it.
    pub parked: bool,
    /// Whether an operator has reposted it and its consumer has not handled it yet.
    pub reposted: bool,
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Failure {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Which attempt, counted from 1.
    pub attempt: u32,
    /// What was said, for people.
    pub detail: String,
}

/// Which dead letters to list. Everything that is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Only of this topic.
    pub topic: Option<String>,
    /// Only with this message id.
    pub id: Option<String>,
    /// Only after this reference, for the next page.
    pub after: Option<String>,
    /// Most that are returned.
    pub limit: usize,
}

/// The dead letters of one store.
///
/// Laws (suite `dead_letters`):
/// 1. A dead letter leaves only by a repost or a discard, and each of these is recorded with who,
///    when and, for a discard, why, in the same transaction.
/// 2. Acts on several are all or nothing; one that is not there fails the call and changes nothing,
///    so that of two equal acts at once exactly one succeeds.
/// 3. A reposted dead letter of the relay is sent with the same id ahead of those that wait behind
///    it; one of a consumer is handled again by that consumer only, and is listed as reposted until
///    it is. It can be discarded meanwhile, but not reposted once more.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Lists them, oldest first.
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError>;

    /// One of them.
    async fn get(&self, reference: &str) -> Result<Option<DeadLetter>, StoreError>;

    /// Sends or handles them again with a fresh count of attempts.
    async fn repost(&self, references: &[String], actor: &str) -> Result<(), StoreError>;

    /// Gives them up for good; what waits behind them goes on.
    async fn discard(
        &self,
        references: &[String],
        actor: &str,
        reason: &str,
    ) -> Result<(), StoreError>;
}
