//! The inbox: which messages a consumer is done with, how often the others were tried.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;

use crate::transaction::Transactional;
use crate::verdict::DeadReason;
use crate::{Message, MessageId, StoreError};

/// Whether a consumer sees a message for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It was not there and now is.
    First,
    /// It was there already: the message is a duplicate.
    Before,
}

/// Why and after how many attempts a consumer gave up on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burial {
    /// Why.
    pub reason: DeadReason,
    /// For people: the handler's error, for example.
    pub detail: String,
    /// Counted attempts.
    pub attempts: u32,
}

/// How often a consumer has tried a message that it is not done with.
///
/// Law (suite `inbox`): an attempt that was begun is counted, also when the process dies right
/// after.
pub trait Attempts: Send + Sync {
    /// Counts an attempt before it is made, durably and in a transaction of its own, and returns
    /// how many there have been with it.
    fn begin_attempt(
        &self,
        consumer: &str,
        id: MessageId,
    ) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Notes how attempt number `attempt` failed, in a transaction of its own. An attempt that was
    /// not begun with [`Attempts::begin_attempt`] is counted by this.
    fn record_failure(
        &self,
        consumer: &str,
        id: MessageId,
        attempt: u32,
        detail: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The inbox of a database.
///
/// Laws (suite `inbox`):
/// 1. Of any number of acceptances of one id by one consumer that commit, exactly one is `First`,
///    also when they race; consumers do not see one another's.
/// 2. An acceptance is rolled back with its transaction.
/// 3. A buried message is a dead letter and is accepted as `Before`; both or neither.
/// 4. A reposted one is `First` again, once.
pub trait Inbox: Transactional + Attempts {
    /// Records inside the transaction that `consumer` is done with these messages, and says of
    /// each whether it is the first time. Counted attempts of the accepted ones are forgotten.
    fn accept(
        &self,
        connection: &mut Self::Connection,
        consumer: &str,
        ids: &[MessageId],
    ) -> impl Future<Output = Result<Vec<Acceptance>, StoreError>> + Send;

    /// Whether the transaction still stands and holds the acceptance of `id`. It does not if the
    /// database has ended the transaction by itself (a full disk, for example) and a handler did
    /// not mind the error: whatever ran then would take effect on its own.
    fn holds(
        &self,
        connection: &mut Self::Connection,
        consumer: &str,
        id: MessageId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Makes the message a dead letter of the consumer inside the transaction: it is kept whole,
    /// with reason and history, and counts as accepted.
    fn bury(
        &self,
        connection: &mut Self::Connection,
        consumer: &str,
        message: &Message,
        burial: &Burial,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// How long an inbox remembers. A message that comes again later than this takes effect again, so
/// the window must outlast every retry, schedule and re-post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxWindow {
    /// Forget what is older.
    pub age: Duration,
    /// Forget the oldest beyond this many per consumer; `None` for no such limit.
    pub count: Option<u64>,
}

impl Default for InboxWindow {
    /// Seven days, any number.
    fn default() -> Self {
        Self { age: Duration::from_hours(7 * 24), count: None }
    }
}

/// What a consumer does beside handling deliveries.
#[async_trait]
pub trait InboxUpkeep: Send + Sync {
    /// Dead letters of the consumer that an operator has reposted and that are not handled yet,
    /// oldest first. They come back until they are accepted or buried again.
    async fn reposted(&self, consumer: &str, limit: usize) -> Result<Vec<Message>, StoreError>;

    /// Forgets up to `limit` ids outside the window and returns how many. Ids of dead letters stay,
    /// and do not count against the window. Attempts that were last made before the window are
    /// forgotten as well.
    async fn prune_inbox(
        &self,
        consumer: &str,
        window: InboxWindow,
        limit: usize,
    ) -> Result<u64, StoreError>;
}
