//! A database as the relay and the operator see it, chosen by a URL at run time.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::dead_letter::DeadLetters;
use crate::finding::Finding;
use crate::lane::Lanes;
use crate::lease::{Lease, Leases};
use crate::outbox::{OutboxReader, Signal};
use crate::{Message, StoreError, Timestamp};

/// All that the relay and its operators need of a database.
pub trait Database:
    OutboxReader + Signal + Leases + Lanes + DeadLetters + Schema + Monitor + Upkeep
{
}

impl<D> Database for D where
    D: OutboxReader + Signal + Leases + Lanes + DeadLetters + Schema + Monitor + Upkeep
{
}

/// The tables of Posthaste in a database.
///
/// Law: nothing but [`Schema::migrate`] creates or changes them.
#[async_trait]
pub trait Schema: Send + Sync {
    /// The version that is there; `None` if there is none.
    async fn version(&self) -> Result<Option<u32>, StoreError>;

    /// Brings the schema to the version of this program, step by step, and says what was done. Safe
    /// from many processes at once; doing it again changes nothing.
    async fn migrate(&self) -> Result<Migrated, StoreError>;

    /// The statements that [`Schema::migrate`] runs on an empty database, for people who run them
    /// themselves.
    fn script(&self) -> String;

    /// The statements that give the roles `PREFIX_writer`, `PREFIX_consumer`, `PREFIX_relay` and
    /// `PREFIX_operator` just the rights that they need, for people who run them themselves; `None`
    /// where there are no rights to give.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if such roles cannot be.
    fn grants(&self, prefix: &str) -> Result<Option<String>, StoreError> {
        let _ = prefix;
        Ok(None)
    }

    /// Accepts that this database is a copy of the one whose checkpoints it holds (restored from a
    /// dump into another cluster, for example): what the copy had not sent is sent, once. Returns
    /// what was done, for people. Until then a reader of a copy fails where its checkpoints mean
    /// something else there; where they do not, there is nothing to do.
    async fn adopt(&self, actor: &str) -> Result<Vec<String>, StoreError>;
}

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// Version before; `None` if there was none.
    pub from: Option<u32>,
    /// Version now.
    pub to: u32,
    /// What else was changed, for people (the journal mode of a file, for example).
    pub notes: Vec<String>,
}

/// What there is to see.
#[async_trait]
pub trait Monitor: Send + Sync {
    /// Figures of one destination, from the database itself.
    async fn status(&self, destination: &str) -> Result<Status, StoreError>;

    /// Entries of the outbox, oldest first.
    async fn entries(&self, filter: &EntryFilter) -> Result<Vec<Listed>, StoreError>;

    /// Looks at the database as `doctor` does: reachable, schema, durability.
    async fn findings(&self) -> Vec<Finding>;
}

/// What is done in the database beside relaying.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// States messages in a transaction of their own.
    async fn enqueue_alone(&self, messages: &[Message]) -> Result<(), StoreError>;

    /// Removes up to `limit` entries that every known destination has sent and that were stated
    /// more than `keep` ago, under the given lease, and returns how many. A destination is known
    /// from the first lease on whose name holds it, see [`lease::destination`](crate::lease).
    async fn prune_sent(
        &self,
        lease: &Lease,
        keep: Duration,
        limit: usize,
    ) -> Result<u64, StoreError>;
}

/// Figures of one destination at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Entries that are not sent yet and could be: neither parked, nor dead, nor before their time,
    /// nor set aside because nobody is bound to them.
    pub backlog: u64,
    /// Age of the oldest of these, in seconds since it was stated.
    pub oldest_unsent_seconds: Option<f64>,
    /// Keys that wait behind a dead letter.
    pub parked_keys: u64,
    /// Entries in the side table, by state.
    pub held: Held,
    /// Topics and kinds that nobody is bound to, the largest first; at most 100.
    pub unroutable: Vec<UnroutableRoute>,
    /// Dead letters of the relay and of the consumers in this database, with those that were
    /// reposted and still wait for their consumer.
    pub dead_letters: u64,
    /// Leases that are held now.
    pub leases: Vec<HeldLease>,
    /// What was settled lately.
    pub rates: Rates,
    /// Position up to which everything has a verdict; of the lane that is the furthest behind.
    pub checkpoint: String,
    /// Lanes of the destination.
    pub lanes: u16,
}

/// Entries in the side table, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Not due yet.
    pub due: u64,
    /// Failed and tried again later, or ready now.
    pub retry: u64,
    /// Behind a message of their key.
    pub behind: u64,
    /// Set aside because nobody is bound to their topic and kind.
    pub unroutable: u64,
}

/// Entries of one topic and kind that nobody is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnroutableRoute {
    /// Their topic.
    pub topic: String,
    /// Their kind.
    pub kind: String,
    /// How many are set aside.
    pub entries: u64,
    /// What the broker said of the first.
    pub detail: Option<String>,
}

/// A lease that is held now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldLease {
    /// What it is on.
    pub name: String,
    /// Who holds it.
    pub owner: String,
    /// Its fencing token.
    pub token: u64,
    /// Seconds until it runs out if it is not renewed.
    pub remaining_seconds: f64,
}

/// Messages per second, from the batch log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Sent, over the last minute.
    pub sent_per_second: f64,
    /// Failed attempts, over the last minute.
    pub failed_per_second: f64,
}

/// Which entries to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Of which destination the state is shown.
    pub destination: String,
    /// Only of this topic.
    pub topic: Option<String>,
    /// Only those that wait for more than their turn: failed, parked, behind, unroutable.
    pub stuck: bool,
    /// Only after this position, for the next page.
    pub after: Option<String>,
    /// Most that are returned.
    pub limit: usize,
}

/// An entry as operators see it, without its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Where it is.
    pub position: String,
    /// Message id as written.
    pub id: String,
    /// Topic as written.
    pub topic: String,
    /// Kind as written.
    pub kind: String,
    /// Key as written.
    pub key: Option<String>,
    /// `new`, `sent`, `due`, `retry`, `behind`, `unroutable`, `parked`, or `dead`: a dead letter that its key
    /// does not wait for.
    pub state: String,
    /// Counted attempts.
    pub attempts: u32,
    /// When it was stated.
    #[serde(skip)]
    pub stated_at: Timestamp,
    /// When it is tried next, where that is set.
    #[serde(skip)]
    pub ready_at: Option<Timestamp>,
    /// What the last failure said.
    pub detail: Option<String>,
}
