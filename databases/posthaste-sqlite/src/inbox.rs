//! The inbox: what consumers are done with, and how often they tried the rest.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::inbox::{Acceptance, Attempts, Burial, Inbox, InboxUpkeep, InboxWindow};
use posthaste_core::{Message, MessageId, StoreError};
use sqlx::sqlite::SqliteConnection;

use crate::row::{Written, message_columns};
use crate::settle::{history_length, kept, longer_history};
use crate::store::Store;
use crate::transaction::detached;
use crate::{Sqlite, number};

const ACCEPT: &str = "insert or ignore into posthaste_inbox (consumer, id) \
     select ?1, value from json_each(?2) where true returning id";

const FORGET_ATTEMPTS: &str = "delete from posthaste_attempt \
     where consumer = ?1 and id in (select value from json_each(?2))";

const FORGET_REPOSTED: &str = "delete from posthaste_dead_letter where side = 'consumer' \
     and name = ?1 and state = 'reposted' and id in (select value from json_each(?2))";

/// Parameters: consumer, id.
const BEGIN: &str = concat!(
    "insert into posthaste_attempt (consumer, id, attempts, first_at, last_at) \
     values (?1, ?2, 1, ",
    now!(),
    ", ",
    now!(),
    ") on conflict (consumer, id) do update set \
     attempts = attempts + 1, last_at = excluded.last_at returning attempts"
);

/// Parameters: consumer, id, attempt, detail.
const FAILURE: &str = concat!(
    "insert into posthaste_attempt (consumer, id, attempts, first_at, last_at, detail, history) \
     values (?1, ?2, ?3, ",
    now!(),
    ", ",
    now!(),
    ", ?4, \
       json_array(json_object('at', ",
    now!(),
    " * 1000, 'attempt', ?3, 'detail', ?4))) \
     on conflict (consumer, id) do update set attempts = max(attempts, excluded.attempts), \
       last_at = excluded.last_at, detail = excluded.detail, history = ",
    longer_history!("history", "excluded.last_at", "?3", "?4")
);

/// Parameters: consumer, id, topic, kind, key, headers, content type, payload, stated at, due at,
/// reason, detail, attempts. A second burial of what is dead already changes nothing.
const BURY: &str = concat!(
    "insert into posthaste_dead_letter (side, name, id, topic, kind, key, headers, content_type, \
       payload, stated_at, due_at, reason, detail, attempts, first_failed_at, dead_at, history) \
     select 'consumer', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
       coalesce(a.first_at, ",
    now!(),
    "), ",
    now!(),
    ", coalesce(a.history, '[]') \
     from (select 1) left join posthaste_attempt a on a.consumer = ?1 and a.id = ?2 \
     where not exists (select 1 from posthaste_dead_letter where side = 'consumer' \
       and name = ?1 and id = ?2 and state = 'dead')"
);

const DEAD: &str = "insert into posthaste_inbox (consumer, id, outcome) values (?1, ?2, 'dead') \
     on conflict (consumer, id) do update set outcome = 'dead'";

const REPOSTED: &str = concat!(
    "select ",
    message_columns!(),
    " from posthaste_dead_letter m where m.side = 'consumer' \
     and m.name = ?1 and m.state = 'reposted' order by m.number limit ?2"
);

/// Parameters: consumer, how old, most rows.
const PRUNE_AGED: &str = concat!(
    "delete from posthaste_inbox where consumer = ?1 and id in (select id from posthaste_inbox \
     where consumer = ?1 and outcome = 'done' and done_at < ",
    now!(),
    " - ?2 order by done_at limit ?3)"
);

/// Parameters: consumer, how many may stay, most rows. What is dead neither goes nor counts.
const PRUNE_COUNTED: &str = "delete from posthaste_inbox where consumer = ?1 and id in \
     (select id from posthaste_inbox where consumer = ?1 and outcome = 'done' order by done_at, id \
      limit max(0, min(?3, (select count(*) from posthaste_inbox \
        where consumer = ?1 and outcome = 'done') - ?2)))";

/// Parameters: consumer, how old, most rows.
const PRUNE_ATTEMPTS: &str = concat!(
    "delete from posthaste_attempt where consumer = ?1 and id in (select id from \
     posthaste_attempt where consumer = ?1 and last_at < ",
    now!(),
    " - ?2 order by last_at limit ?3)"
);

fn array(ids: &[String]) -> Result<String, sqlx::Error> {
    serde_json::to_string(ids).map_err(|error| sqlx::Error::Encode(error.into()))
}

async fn forget(
    connection: &mut SqliteConnection,
    consumer: &str,
    ids: &str,
) -> Result<(), sqlx::Error> {
    for statement in [FORGET_ATTEMPTS, FORGET_REPOSTED] {
        sqlx::query(statement).bind(consumer).bind(ids).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn accept(
    connection: &mut SqliteConnection,
    consumer: &str,
    ids: &[MessageId],
) -> Result<Vec<Acceptance>, sqlx::Error> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let json = array(&ids)?;
    let inserted: Vec<String> =
        sqlx::query_scalar(ACCEPT).bind(consumer).bind(&json).fetch_all(&mut *connection).await?;
    forget(connection, consumer, &json).await?;
    // What was inserted is the first time once: an id may be there twice in one list.
    let mut inserted: HashSet<String> = inserted.into_iter().collect();
    let judge = |id: &String| match inserted.remove(id) {
        true => Acceptance::First,
        false => Acceptance::Before,
    };
    Ok(ids.iter().map(judge).collect())
}

async fn bury(
    connection: &mut SqliteConnection,
    consumer: &str,
    message: &Message,
    burial: &Burial,
) -> Result<(), sqlx::Error> {
    let id = message.id.to_string();
    let headers = serde_json::to_string(&message.headers)
        .map_err(|error| sqlx::Error::Encode(error.into()))?;
    let query = sqlx::query(BURY)
        .bind(consumer)
        .bind(&id)
        .bind(&message.topic)
        .bind(&message.kind)
        .bind(&message.key)
        .bind(headers)
        .bind(&message.content_type);
    let query = match message.payload.as_text() {
        Some(text) => query.bind(text),
        None => query.bind(message.payload.as_bytes().as_ref()),
    };
    query
        .bind(message.stated_at.as_millis())
        .bind(message.due_at.map(|due| due.as_millis()))
        .bind(burial.reason.code())
        .bind(kept(&burial.detail))
        .bind(burial.attempts)
        .execute(&mut *connection)
        .await?;
    sqlx::query(DEAD).bind(consumer).bind(&id).execute(&mut *connection).await?;
    forget(connection, consumer, &array(&[id])?).await
}

impl Store {
    async fn begin_attempt(&self, consumer: &str, id: &str) -> Result<u32, StoreError> {
        let mut transaction = self.begin().await?;
        let attempts: i64 = sqlx::query_scalar(BEGIN)
            .bind(consumer)
            .bind(id)
            .fetch_one(&mut *transaction)
            .await
            .map_err(self.failed("counting an attempt"))?;
        self.commit_quietly(transaction).await?;
        Ok(number::attempts(attempts))
    }

    async fn record_failure(
        &self,
        consumer: &str,
        id: &str,
        attempt: u32,
        detail: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(FAILURE)
            .bind(consumer)
            .bind(id)
            .bind(attempt)
            .bind(kept(detail))
            .execute(&mut *transaction)
            .await
            .map_err(self.failed("noting a failure"))?;
        self.commit_quietly(transaction).await
    }

    async fn prune_inbox(
        &self,
        consumer: &str,
        window: InboxWindow,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let failed = self.failed("forgetting old ids of the inbox");
        let mut transaction = self.begin().await?;
        let (age, most) = (number::millis(window.age), window.count.unwrap_or(u64::MAX));
        let run = async |connection: &mut SqliteConnection, statement, most: i64, limit: i64| {
            let query = sqlx::query(statement).bind(consumer).bind(most).bind(limit);
            query.execute(connection).await.map(|done| done.rows_affected()).map_err(&failed)
        };
        run(&mut transaction, PRUNE_ATTEMPTS, age, limit).await?;
        let mut removed = run(&mut transaction, PRUNE_AGED, age, limit).await?;
        if let Ok(most) = i64::try_from(most) {
            let left = limit.saturating_sub(i64::try_from(removed).unwrap_or(i64::MAX));
            removed += run(&mut transaction, PRUNE_COUNTED, most, left).await?;
        }
        self.commit_quietly(transaction).await?;
        Ok(removed)
    }

    async fn reposted(&self, consumer: &str, limit: i64) -> Result<Vec<Message>, StoreError> {
        let failed = self.failed("reading reposted messages");
        let rows = sqlx::query(REPOSTED).bind(consumer).bind(limit).fetch_all(&self.pool).await;
        let mut messages = Vec::new();
        for row in rows.map_err(&failed)? {
            match Written::from_row(&row).map_err(&failed)?.into_message() {
                Ok(message) => messages.push(message),
                // Only somebody who edits the table by hand brings this about.
                Err(malformed) => tracing::warn!(
                    consumer, detail = %malformed.detail,
                    "a reposted dead letter is not a message; look at posthaste_dead_letter"
                ),
            }
        }
        Ok(messages)
    }
}

/// Parameters: consumer, id.
const HOLDS: &str = "select exists (select 1 from posthaste_inbox where consumer = ?1 and id = ?2)";

impl Attempts for Sqlite {
    async fn begin_attempt(&self, consumer: &str, id: MessageId) -> Result<u32, StoreError> {
        let (store, consumer) = (Arc::clone(&self.store), consumer.to_owned());
        detached(async move { store.begin_attempt(&consumer, &id.to_string()).await }).await
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
        detached(
            async move { store.record_failure(&consumer, &id.to_string(), attempt, &detail).await },
        )
        .await
    }
}

impl Inbox for Sqlite {
    async fn accept(
        &self,
        connection: &mut SqliteConnection,
        consumer: &str,
        ids: &[MessageId],
    ) -> Result<Vec<Acceptance>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.store.check_schema(connection).await?;
        let accepted = accept(connection, consumer, ids).await;
        accepted.map_err(self.store.failed("accepting messages"))
    }

    async fn holds(
        &self,
        connection: &mut SqliteConnection,
        consumer: &str,
        id: MessageId,
    ) -> Result<bool, StoreError> {
        sqlx::query_scalar(HOLDS)
            .bind(consumer)
            .bind(id.to_string())
            .fetch_one(connection)
            .await
            .map_err(self.store.failed("looking for the inbox entry of a message"))
    }

    async fn bury(
        &self,
        connection: &mut SqliteConnection,
        consumer: &str,
        message: &Message,
        burial: &Burial,
    ) -> Result<(), StoreError> {
        self.store.check_schema(connection).await?;
        let buried = bury(connection, consumer, message, burial).await;
        buried.map_err(self.store.failed("writing a dead letter"))
    }
}

#[async_trait]
impl InboxUpkeep for Sqlite {
    async fn reposted(&self, consumer: &str, limit: usize) -> Result<Vec<Message>, StoreError> {
        self.store.check().await?;
        self.store.reposted(consumer, number::signed(limit)).await
    }

    async fn prune_inbox(
        &self,
        consumer: &str,
        window: InboxWindow,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let (store, consumer) = (Arc::clone(&self.store), consumer.to_owned());
        let limit = number::signed(limit);
        detached(async move { store.prune_inbox(&consumer, window, limit).await }).await
    }
}
