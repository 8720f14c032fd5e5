//! The inbox: what consumers are done with, and how often they tried the rest.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::inbox::{Acceptance, Attempts, Burial, Inbox, InboxUpkeep, InboxWindow};
use posthaste_core::{Message, MessageId, StoreError};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::columns::Columns;
use crate::detail::kept;
use crate::row::Written;
use crate::store::Store;
use crate::transaction::detached;
use crate::{Postgres, error, number};

/// Parameters: consumer, ids. In the order of the ids, so that batches that share some wait for
/// each other and do not block each other.
const ACCEPT: &str = "with forgotten as ( \
       delete from posthaste.attempt where consumer = $1 and id = any($2) \
     ) \
     insert into posthaste.inbox (consumer, id) \
     select $1, given.id from posthaste.take_reposted($1, $2) t \
       cross join unnest($2::pg_catalog.uuid[]) given (id) order by given.id \
     on conflict do nothing returning id";

/// Parameters: consumer, id.
const HOLDS: &str = "select exists (select from posthaste.inbox where consumer = $1 and id = $2)";

/// Parameters: consumer, id. Of two burials at once, the second waits here for the first. What
/// another transaction was done with is not touched; this one's own acceptance is.
const DEAD: &str = "insert into posthaste.inbox as i (consumer, id, outcome) \
     values ($1, $2, 'dead') on conflict (consumer, id) do update set outcome = 'dead' \
     where i.outcome = 'dead' or i.xmin = pg_current_xact_id()::xid";

/// Parameters: consumer, id, the other columns of one message, reason, detail, attempts.
const BURY: &str = "select posthaste.bury($1, $2, $3, $4, $5, $6, $7, $8, $9::pg_catalog.jsonb, $10, \
     $11, $12, $13, $14)";

/// Parameters: consumer, id.
const BEGIN: &str = "insert into posthaste.attempt as a (consumer, id, attempts, first_at, last_at) \
     values ($1, $2, 1, clock_timestamp(), clock_timestamp()) \
     on conflict (consumer, id) do update set attempts = a.attempts + 1, \
       last_at = excluded.last_at returning attempts";

/// Parameters: consumer, id, attempt, detail.
const FAILURE: &str = "insert into posthaste.attempt as a \
       (consumer, id, attempts, first_at, last_at, detail, history) \
     select $1, $2, $3, t.now, t.now, $4, posthaste.longer_history('[]', t.now, $3, $4) \
     from (select clock_timestamp() as now) t \
     on conflict (consumer, id) do update set attempts = greatest(a.attempts, excluded.attempts), \
       last_at = excluded.last_at, detail = excluded.detail, \
       history = posthaste.longer_history(a.history, excluded.last_at, $3, $4)";

/// Parameters: consumer, most rows.
const REPOSTED: &str = "select * from posthaste.reposted($1, $2)";

/// Parameters: consumer, how old in microseconds, most rows. What another process is looking at is
/// left to it.
const PRUNE_AGED: &str = "delete from posthaste.inbox where consumer = $1 and id in ( \
     select id from posthaste.inbox where consumer = $1 and outcome = 'done' \
       and done_at < clock_timestamp() - $2 * interval '1 microsecond' \
     order by done_at limit $3 for update skip locked)";

/// Parameters: consumer, how many may stay, most rows. What is dead neither goes nor counts.
const PRUNE_COUNTED: &str = "delete from posthaste.inbox where consumer = $1 and id in ( \
     select id from posthaste.inbox where consumer = $1 and outcome = 'done' order by done_at, id \
     limit greatest(0, least($3, (select count(*) from posthaste.inbox \
       where consumer = $1 and outcome = 'done') - $2)) for update skip locked)";

/// Parameters: consumer, how old in microseconds, most rows.
const PRUNE_ATTEMPTS: &str = "delete from posthaste.attempt where consumer = $1 and id in ( \
     select id from posthaste.attempt where consumer = $1 \
       and last_at < clock_timestamp() - $2 * interval '1 microsecond' \
     order by last_at limit $3 for update skip locked)";

/// A count of attempts as PostgreSQL holds it.
fn attempts(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn uuid(id: MessageId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

impl Store {
    async fn accept(
        &self,
        connection: &mut PgConnection,
        consumer: &str,
        ids: &[MessageId],
    ) -> Result<Vec<Acceptance>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().copied().map(uuid).collect();
        let inserted: Vec<Uuid> = self
            .query_scalar(ACCEPT)
            .bind(consumer)
            .bind(&ids)
            .fetch_all(connection)
            .await
            .map_err(self.failed("accepting messages"))?;
        // What was inserted is the first time once: an id may be there twice in one list.
        let mut inserted: HashSet<Uuid> = inserted.into_iter().collect();
        let judge = |id: &Uuid| match inserted.remove(id) {
            true => Acceptance::First,
            false => Acceptance::Before,
        };
        Ok(ids.iter().map(judge).collect())
    }

    async fn bury(
        &self,
        connection: &mut PgConnection,
        consumer: &str,
        message: &Message,
        burial: &Burial,
    ) -> Result<(), StoreError> {
        let failed = self.failed("writing a dead letter");
        let marked = self
            .query(DEAD)
            .bind(consumer)
            .bind(uuid(message.id))
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        if marked.rows_affected() == 0 {
            return Ok(());
        }
        let mut columns = Columns::of(std::slice::from_ref(message))?;
        self.query(BURY)
            .bind(consumer)
            .bind(uuid(message.id))
            .bind(&message.topic)
            .bind(&message.kind)
            .bind(&message.key)
            .bind(&message.content_type)
            .bind(columns.stated_at.pop())
            .bind(columns.due_at.pop().flatten())
            .bind(columns.headers.pop())
            .bind(columns.payloads.pop().flatten())
            .bind(columns.payloads_of_bytes.pop().flatten())
            .bind(burial.reason.code())
            .bind(kept(&burial.detail))
            .bind(attempts(burial.attempts))
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(failed)
    }

    async fn begin_attempt(self: &Arc<Self>, consumer: &str, id: Uuid) -> Result<u32, StoreError> {
        let mut alone = self.reading().await?;
        let begun: i32 = self
            .query_scalar(BEGIN)
            .bind(consumer)
            .bind(id)
            .fetch_one(&mut *alone)
            .await
            .map_err(self.failed("counting an attempt"))?;
        self.keep(alone).await?;
        Ok(number::attempts(begun))
    }

    async fn record_failure(
        self: &Arc<Self>,
        consumer: &str,
        id: Uuid,
        attempt: u32,
        detail: &str,
    ) -> Result<(), StoreError> {
        let mut alone = self.reading().await?;
        self.query(FAILURE)
            .bind(consumer)
            .bind(id)
            .bind(attempts(attempt))
            .bind(kept(detail))
            .execute(&mut *alone)
            .await
            .map_err(self.failed("noting a failure"))?;
        self.keep(alone).await
    }

    async fn prune_inbox(
        &self,
        consumer: &str,
        window: InboxWindow,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let failed = self.failed("forgetting old ids of the inbox");
        let mut transaction = self.begin().await?;
        let age = number::micros(window.age);
        let run = async |connection: &mut PgConnection, statement, most: i64, limit: i64| {
            let query = self.query(statement).bind(consumer).bind(most).bind(limit);
            query.execute(connection).await.map(|done| done.rows_affected()).map_err(&failed)
        };
        run(&mut transaction, PRUNE_ATTEMPTS, age, limit).await?;
        let mut removed = run(&mut transaction, PRUNE_AGED, age, limit).await?;
        if let Some(most) = window.count.and_then(|most| i64::try_from(most).ok()) {
            let left = limit.saturating_sub(i64::try_from(removed).unwrap_or(i64::MAX));
            removed += run(&mut transaction, PRUNE_COUNTED, most, left).await?;
        }
        self.commit_quietly(transaction).await?;
        Ok(removed)
    }

    async fn reposted(
        self: &Arc<Self>,
        consumer: &str,
        limit: i64,
    ) -> Result<Vec<Message>, StoreError> {
        let failed = self.failed("reading reposted messages");
        let mut reading = self.reading().await?;
        let query = self.query(REPOSTED).bind(consumer).bind(limit);
        let rows = query.fetch_all(&mut *reading).await.map_err(&failed)?;
        let mut messages = Vec::new();
        for row in rows {
            match Written::from_row(&row).map_err(&failed)?.into_message() {
                Ok(message) => messages.push(message),
                // Only somebody who edits the table by hand brings this about.
                Err(malformed) => tracing::warn!(
                    consumer, detail = %malformed.detail,
                    "a reposted dead letter is not a message; look at the table dead_letter"
                ),
            }
        }
        Ok(messages)
    }
}

impl Attempts for Postgres {
    async fn begin_attempt(&self, consumer: &str, id: MessageId) -> Result<u32, StoreError> {
        let (store, consumer) = (Arc::clone(&self.store), consumer.to_owned());
        let begin = async move { store.begin_attempt(&consumer, uuid(id)).await };
        detached(self.store.promptly(), begin).await
    }

    async fn record_failure(
        &self,
        consumer: &str,
        id: MessageId,
        attempt: u32,
        detail: &str,
    ) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        let (consumer, detail) = (consumer.to_owned(), detail.to_owned());
        let record =
            async move { store.record_failure(&consumer, uuid(id), attempt, &detail).await };
        detached(self.store.promptly(), record).await
    }
}

impl Inbox for Postgres {
    async fn accept(
        &self,
        connection: &mut PgConnection,
        consumer: &str,
        ids: &[MessageId],
    ) -> Result<Vec<Acceptance>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.store.promptly().during(self.store.accept(connection, consumer, ids)).await
    }

    async fn holds(
        &self,
        connection: &mut PgConnection,
        consumer: &str,
        id: MessageId,
    ) -> Result<bool, StoreError> {
        let look = async {
            let asked = self.store.query_scalar(HOLDS).bind(consumer).bind(uuid(id));
            match asked.fetch_one(connection).await {
                Err(error) if error::is_aborted(&error) => Ok(false),
                answer => {
                    answer.map_err(self.store.failed("looking for the inbox entry of a message"))
                }
            }
        };
        self.store.promptly().during(look).await
    }

    async fn bury(
        &self,
        connection: &mut PgConnection,
        consumer: &str,
        message: &Message,
        burial: &Burial,
    ) -> Result<(), StoreError> {
        let bury = self.store.bury(connection, consumer, message, burial);
        self.store.promptly().during(bury).await
    }
}

#[async_trait]
impl InboxUpkeep for Postgres {
    async fn reposted(&self, consumer: &str, limit: usize) -> Result<Vec<Message>, StoreError> {
        let reposted = self.store.reposted(consumer, number::signed(limit));
        self.store.promptly().during(reposted).await
    }

    async fn prune_inbox(
        &self,
        consumer: &str,
        window: InboxWindow,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let (store, consumer) = (Arc::clone(&self.store), consumer.to_owned());
        let limit = number::signed(limit);
        let prune = async move { store.prune_inbox(&consumer, window, limit).await };
        detached(self.store.at_length(), prune).await
    }
}
