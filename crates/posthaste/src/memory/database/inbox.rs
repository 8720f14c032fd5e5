//! The inbox: what consumers are done with, and how often they tried the rest.

use async_trait::async_trait;
use posthaste_core::dead_letter::{Failure, Origin};
use posthaste_core::inbox::{Acceptance, Attempts, Burial, Inbox, InboxUpkeep, InboxWindow};
use posthaste_core::{Message, MessageId, StoreError, Timestamp};

use super::locks::RowKey;
use super::settlement::{End, letter};
use super::state::{DeadRow, DeadSource, State};
use super::transaction::Write;
use super::{MemoryConnection, MemoryDatabase};

impl MemoryConnection {
    /// Whether this transaction itself has accepted the message.
    fn has_accepted(&self, of: &str, wanted: MessageId) -> bool {
        self.writes.iter().any(|write| match write {
            Write::Accept { consumer, id, .. } => consumer == of && *id == wanted,
            Write::Bury { consumer, message, .. } => consumer == of && message.id == wanted,
            Write::State { .. } | Write::Record(_) => false,
        })
    }

    /// Waits for others that are about to accept the message; whether one of them did.
    async fn was_accepted(&self, consumer: &str, id: MessageId) -> Result<bool, StoreError> {
        self.shared.lock_row(self.xid, RowKey::Accepted(consumer.to_owned(), id)).await?;
        let state = self.shared.lock();
        Ok(state.inbox.contains_key(&(consumer.to_owned(), id)))
    }
}

impl Attempts for MemoryDatabase {
    async fn begin_attempt(&self, consumer: &str, id: MessageId) -> Result<u32, StoreError> {
        let mut state = self.shared.migrated()?;
        let attempts = state.attempts.entry((consumer.to_owned(), id)).or_default();
        attempts.begun = attempts.begun.saturating_add(1);
        attempts.last_at = Some(self.shared.clock.now());
        Ok(attempts.begun)
    }

    async fn record_failure(
        &self,
        consumer: &str,
        id: MessageId,
        attempt: u32,
        detail: &str,
    ) -> Result<(), StoreError> {
        let mut state = self.shared.migrated()?;
        let attempts = state.attempts.entry((consumer.to_owned(), id)).or_default();
        attempts.begun = attempts.begun.max(attempt);
        let (at, detail) = (self.shared.clock.now(), detail.to_owned());
        attempts.last_at = Some(at);
        attempts.history.add(Failure { at, attempt, detail });
        Ok(())
    }
}

impl Inbox for MemoryDatabase {
    async fn accept(
        &self,
        connection: &mut MemoryConnection,
        consumer: &str,
        ids: &[MessageId],
    ) -> Result<Vec<Acceptance>, StoreError> {
        let mut answers = Vec::with_capacity(ids.len());
        for &id in ids {
            let before = connection.was_accepted(consumer, id).await?
                || connection.has_accepted(consumer, id);
            if !before {
                let (consumer, at) = (consumer.to_owned(), self.shared.clock.now());
                connection.writes.push(Write::Accept { consumer, id, at });
            }
            answers.push(if before { Acceptance::Before } else { Acceptance::First });
        }
        Ok(answers)
    }

    async fn holds(
        &self,
        connection: &mut MemoryConnection,
        consumer: &str,
        id: MessageId,
    ) -> Result<bool, StoreError> {
        Ok(connection.has_accepted(consumer, id))
    }

    async fn bury(
        &self,
        connection: &mut MemoryConnection,
        consumer: &str,
        message: &Message,
        burial: &Burial,
    ) -> Result<(), StoreError> {
        // Done with by another transaction, or dead already: there is nothing to bury.
        if connection.was_accepted(consumer, message.id).await? {
            return Ok(());
        }
        let (consumer, at) = (consumer.to_owned(), self.shared.clock.now());
        let (message, burial) = (message.clone(), burial.clone());
        connection.writes.push(Write::Bury { consumer, message, burial, at });
        Ok(())
    }
}

impl State {
    /// Makes a message a dead letter of the consumer.
    pub(super) fn bury(
        &mut self,
        consumer: String,
        message: Message,
        burial: Burial,
        at: Timestamp,
    ) {
        let key = (consumer.clone(), message.id);
        if self.inbox.get(&key).is_some_and(|row| row.dead) {
            return;
        }
        let history = self.attempts.remove(&key).unwrap_or_default().history;
        let end = End {
            code: burial.reason.code(),
            detail: &burial.detail,
            attempts: burial.attempts,
            parked: false,
        };
        let origin = Origin::Consumer(consumer.clone());
        let letter = letter(Some(&message), message.stated_at, origin, end, history, at);
        self.accept(consumer.clone(), message.id, at, true);
        self.add_dead(DeadRow { letter, source: DeadSource::Consumer { consumer, message } });
    }
}

#[async_trait]
impl InboxUpkeep for MemoryDatabase {
    async fn reposted(&self, consumer: &str, limit: usize) -> Result<Vec<Message>, StoreError> {
        let state = self.shared.migrated()?;
        let of = state.dead.values().filter(|row| row.is_reposted_to(consumer, None));
        let messages = of.filter_map(|row| match &row.source {
            DeadSource::Consumer { message, .. } => Some(message.clone()),
            DeadSource::Relay { .. } => None,
        });
        Ok(messages.take(limit).collect())
    }

    async fn prune_inbox(
        &self,
        consumer: &str,
        window: InboxWindow,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let mut state = self.shared.migrated()?;
        let now = self.shared.clock.now();
        state.attempts.retain(|(name, _), tried| {
            name != consumer || tried.last_at.is_none_or(|at| now.since(at) <= window.age)
        });
        let of = state.inbox.iter().filter(|((name, _), row)| name == consumer && !row.dead);
        let mut rows: Vec<_> = of.map(|(key, row)| (row.number, row.at, key.clone())).collect();
        rows.sort_unstable();
        let count = window.count.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let beyond = rows.len().saturating_sub(count);
        let outside = rows.into_iter().enumerate();
        let outside = outside.filter(|(n, (_, at, _))| *n < beyond || now.since(*at) > window.age);
        let mut forgotten = 0;
        for (_, (_, _, key)) in outside.take(limit) {
            state.inbox.remove(&key);
            forgotten += 1;
        }
        Ok(forgotten)
    }
}
