//! One run: a transaction with inbox entries, handlers and what they publish.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use posthaste_core::consumer::{Failing, FailureVerdict, Ran, judge_failure};
use posthaste_core::inbox::{Acceptance, Burial, Inbox, InboxUpkeep};
use posthaste_core::outbox::Signal;
use posthaste_core::retry::Jitter;
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Message, MessageId, StoreError};

use super::builder::Others;
use super::handler::AnyHandler;
use super::options::ConsumerOptions;
use crate::error::HandlerError;
use crate::relay::story;

type Handlers<C> = BTreeMap<String, Arc<dyn AnyHandler<C>>>;

/// Runs handlers for one consumer.
pub(super) struct Runner<D: Inbox> {
    pub(super) name: Arc<str>,
    pub(super) database: D,
    pub(super) handlers: Arc<Handlers<D::Connection>>,
    pub(super) rest: Option<Arc<dyn AnyHandler<D::Connection>>>,
    pub(super) others: Others,
    pub(super) options: ConsumerOptions,
}

impl<D: Inbox + Clone> Clone for Runner<D> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            database: self.database.clone(),
            handlers: Arc::clone(&self.handlers),
            rest: self.rest.clone(),
            others: self.others,
            options: self.options,
        }
    }
}

/// Why a run did not commit.
enum Stopped {
    /// A handler failed; nothing was committed.
    Handler(HandlerError),
    /// The database could not be reached, or whether it committed is not known.
    Store(StoreError),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<D> Runner<D>
where
    D: Inbox + InboxUpkeep + Signal + Clone,
{
    /// Handles fresh deliveries in one transaction. If one fails, all is rolled back: a single one
    /// is then counted and judged, several are tried one by one.
    pub(super) async fn run_together(&self, messages: &[Message]) -> (Ran, Option<u32>) {
        let error = match self.transact(messages).await {
            Ok(()) => return (Ran::Done, None),
            Err(Stopped::Store(error)) => return (self.away(&error), None),
            Err(Stopped::Handler(error)) => error,
        };
        let [message] = messages else { return (Ran::Failed, None) };
        match self.database.begin_attempt(&self.name, message.id).await {
            Ok(attempt) => (self.judge(message, attempt, &error).await, Some(attempt)),
            Err(error) => (self.away(&error), None),
        }
    }

    /// Handles one message whose attempt is counted before it is made, because it may have ended
    /// the process the last time. `begun` is the number of an attempt that was counted already and
    /// did not come to its end because the database was away: it is made up for, not counted anew,
    /// so that an outage buries nobody. Returned with the result is the number that was counted.
    pub(super) async fn run_alone(
        &self,
        message: &Message,
        begun: Option<u32>,
    ) -> (Ran, Option<u32>) {
        match self.is_done(message.id).await {
            Ok(false) => {}
            Ok(true) => {
                // What it had produced may still wait in the outbox.
                self.database.wake();
                return (Ran::Done, None);
            }
            Err(error) => return (self.away(&error), begun),
        }
        let attempt = match begun {
            Some(attempt) => attempt,
            None => match self.database.begin_attempt(&self.name, message.id).await {
                Ok(attempt) => attempt,
                Err(error) => return (self.away(&error), None),
            },
        };
        (self.attempt(message, attempt).await, Some(attempt))
    }

    async fn attempt(&self, message: &Message, attempt: u32) -> Ran {
        if attempt > self.options.retry.limit.max(1) {
            let burial = Burial {
                reason: DeadReason::Exhausted,
                detail: "the process ended during its last attempts".to_owned(),
                attempts: attempt - 1,
            };
            return self.bury(message, &burial).await;
        }
        match self.transact(std::slice::from_ref(message)).await {
            Ok(()) => Ran::Done,
            Err(Stopped::Store(error)) => self.away(&error),
            Err(Stopped::Handler(error)) => self.judge(message, attempt, &error).await,
        }
    }

    /// One transaction over these messages.
    async fn transact(&self, messages: &[Message]) -> Result<(), Stopped> {
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let mut transaction = self.database.begin().await?;
        let connection = D::connection(&mut transaction);
        let acceptances = self.database.accept(connection, &self.name, &ids).await?;
        let mut seen_before = false;
        for (message, acceptance) in messages.iter().zip(acceptances) {
            if acceptance == Acceptance::Before {
                seen_before = true;
                continue;
            }
            self.handle(connection, message).await?;
            if !self.database.holds(connection, &self.name, message.id).await? {
                let what = "the database has ended the transaction, and the handler went on";
                return Err(Stopped::Handler(passing(what.to_owned())));
            }
        }
        match self.database.commit(transaction).await {
            Ok(()) => {}
            // What is looked at only at the end (a deferred constraint) is the handlers' doing.
            Err(error @ StoreError::Rejected { .. }) => {
                return Err(Stopped::Handler(HandlerError::from(error)));
            }
            Err(error) => return Err(error.into()),
        }
        if seen_before {
            self.database.wake();
        }
        Ok(())
    }

    async fn handle(
        &self,
        connection: &mut D::Connection,
        message: &Message,
    ) -> Result<(), Stopped> {
        let handler = self.handlers.get(&message.kind).or(self.rest.as_ref());
        let Some(handler) = handler else {
            if self.others == Others::Ignore {
                return Ok(());
            }
            let detail = format!("consumer '{}' has no handler for '{}'", self.name, message.kind);
            let burial = Burial { reason: DeadReason::UnknownKind, detail, attempts: 1 };
            tracing::error!(id = %message.id, kind = message.kind, "no handler: a dead letter");
            return Ok(self.database.bury(connection, &self.name, message, &burial).await?);
        };
        let limit = self.options.handler_timeout;
        // A panic is this message's failure, not the consumer's; the transaction it happened in
        // is rolled back and nothing of it is used again.
        let guarded = std::panic::AssertUnwindSafe(handler.run(connection, message)).catch_unwind();
        let result = match tokio::time::timeout(limit, guarded).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(passing(format!("the handler panicked: {}", words(&*panic)))),
            Err(_) => Err(passing(format!("the handler took longer than {limit:?}"))),
        };
        result.map_err(Stopped::Handler)
    }

    /// Whether the inbox holds it already. If so, what is left of its attempts is forgotten.
    async fn is_done(&self, id: MessageId) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin().await?;
        let connection = D::connection(&mut transaction);
        let acceptances = self.database.accept(connection, &self.name, &[id]).await?;
        let done = acceptances.first() == Some(&Acceptance::Before);
        if done {
            self.database.commit(transaction).await?;
        }
        Ok(done)
    }

    async fn judge(&self, message: &Message, attempt: u32, error: &HandlerError) -> Ran {
        let seed = u64::from_le_bytes(message.id.as_bytes()[8..].try_into().unwrap_or_default());
        let mut jitter = Jitter::new(seed ^ u64::from(attempt));
        let verdict = judge_failure(error.failing(), attempt, &self.options.retry, &mut jitter);
        let detail = error.story();
        let (id, consumer) = (message.id, &*self.name);
        match verdict {
            FailureVerdict::Retry { delay } => {
                tracing::warn!(%id, consumer, attempt, ?delay, detail, "a handler failed");
                match self.database.record_failure(&self.name, id, attempt, &detail).await {
                    Ok(()) => Ran::Retry { delay },
                    Err(error) => self.away(&error),
                }
            }
            FailureVerdict::Bury { reason } => {
                tracing::error!(%id, consumer, attempt, detail, "a message became a dead letter");
                let recorded = self.database.record_failure(&self.name, id, attempt, &detail);
                if let Err(error) = recorded.await {
                    return self.away(&error);
                }
                self.bury(message, &Burial { reason, detail, attempts: attempt }).await
            }
        }
    }

    async fn bury(&self, message: &Message, burial: &Burial) -> Ran {
        let buried = async {
            let mut transaction = self.database.begin().await?;
            let connection = D::connection(&mut transaction);
            // A copy may have been handled elsewhere meanwhile: that is no dead letter.
            if self.database.holds(connection, &self.name, message.id).await? {
                return Ok(());
            }
            self.database.bury(connection, &self.name, message, burial).await?;
            self.database.commit(transaction).await
        };
        match buried.await {
            Ok(()) => Ran::Done,
            Err(error) => self.away(&error),
        }
    }

    fn away(&self, error: &StoreError) -> Ran {
        tracing::warn!(consumer = &*self.name, error = %story(error), "cannot handle; trying again");
        Ran::Away
    }
}

fn passing(detail: String) -> HandlerError {
    HandlerError::new(Failing::Passing, detail)
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no words)".to_owned())
}
