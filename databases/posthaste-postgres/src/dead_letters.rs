//! Dead letters of the relay and of consumers: listing them, and what operators do with them.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters, Failure, Origin};
use posthaste_core::{StoreError, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::row::Written;
use crate::time::At;
use crate::transaction::detached;
use crate::{Postgres, number};

/// Parameters: after this number, topic, id, exactly this number, most rows.
const LIST: &str = "select number, side, name, reason, detail, attempts, first_failed_at, dead_at, \
       history::text as history, parked, state = 'reposted' as reposted, id, topic, kind, key, \
       content_type, headers::text as headers, payload, payload_bytes, stated_at, due_at \
     from posthaste.dead_letter where number > $1 \
     and ($2::text is null or topic = $2) and ($3::text is null or id::text = $3) \
     and ($4::bigint is null or number = $4) order by number limit $5";

fn letter(row: &PgRow) -> Result<DeadLetter, sqlx::Error> {
    let mut written = Written::from_row(row)?;
    let name: String = row.try_get("name")?;
    let time = |name: &str| row.try_get::<Option<At>, _>(name).map(|at| at.map(|at| at.0));
    let history: String = row.try_get("history")?;
    // A history that somebody has edited by hand does not hide the letter.
    let history: Vec<Failure> = serde_json::from_str(&history).unwrap_or_default();
    Ok(DeadLetter {
        reference: row.try_get::<i64, _>("number")?.to_string(),
        origin: match row.try_get::<&str, _>("side")? {
            "consumer" => Origin::Consumer(name),
            _ => Origin::Relay(name),
        },
        payload: written.take_payload(),
        id: written.id.map(|id| id.to_string()).unwrap_or_default(),
        topic: written.topic.unwrap_or_default(),
        kind: written.kind.unwrap_or_default(),
        key: written.key,
        headers: written.headers.unwrap_or_else(|| "{}".to_owned()),
        content_type: written.content_type,
        stated_at: written.stated_at,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        attempts: number::attempts(row.try_get("attempts")?),
        first_failed_at: time("first_failed_at")?,
        dead_at: time("dead_at")?.unwrap_or(Timestamp::from_micros(0)),
        history,
        parked: row.try_get("parked")?,
        reposted: row.try_get("reposted")?,
    })
}

impl Postgres {
    async fn letters(
        &self,
        filter: &DeadFilter,
        exactly: Option<i64>,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let store = &self.store;
        let after = match &filter.after {
            Some(after) => after.parse().map_err(|_| {
                StoreError::rejected(format!("'{after}' is not the number of a dead letter"))
            })?,
            None => 0_i64,
        };
        let mut connection = store.reading().await?;
        let rows = store
            .query(LIST)
            .bind(after)
            .bind(&filter.topic)
            .bind(&filter.id)
            .bind(exactly)
            .bind(number::signed(filter.limit))
            .fetch_all(&mut *connection)
            .await
            .map_err(store.failed("reading dead letters"))?;
        let letters: Result<_, _> = rows.iter().map(letter).collect();
        letters.map_err(store.failed("reading dead letters"))
    }

    /// Carries out an act on every letter, or on none; a repost has no reason.
    async fn act(
        &self,
        references: &[String],
        actor: &str,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        let numbers: Vec<i64> =
            references.iter().map(|one| numbered(one)).collect::<Result<_, _>>()?;
        let clean = |text: &str| text.replace('\0', " ");
        let (actor, reason) = (clean(actor), reason.map(clean));
        let store = Arc::clone(&self.store);
        detached(self.store.promptly(), async move {
            let mut connection = store.reading().await?;
            store
                .query("select posthaste.act($1, $2, $3)")
                .bind(numbers)
                .bind(actor)
                .bind(reason)
                .execute(&mut *connection)
                .await
                .map_err(store.failed("changing dead letters"))?;
            store.keep(connection).await?;
            store.committed();
            Ok(())
        })
        .await
    }
}

fn numbered(reference: &str) -> Result<i64, StoreError> {
    reference.parse().map_err(|_| {
        StoreError::rejected(format!("no dead letter {reference}; nothing was changed"))
    })
}

#[async_trait]
impl DeadLetters for Postgres {
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.store.promptly().during(self.letters(filter, None)).await
    }

    async fn get(&self, reference: &str) -> Result<Option<DeadLetter>, StoreError> {
        let Ok(number) = reference.parse::<i64>() else {
            return Ok(None);
        };
        let one = DeadFilter { limit: 1, ..DeadFilter::default() };
        let letters = self.letters(&one, Some(number));
        Ok(self.store.promptly().during(letters).await?.pop())
    }

    async fn repost(&self, references: &[String], actor: &str) -> Result<(), StoreError> {
        self.act(references, actor, None).await
    }

    async fn discard(
        &self,
        references: &[String],
        actor: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        if reason.trim().is_empty() {
            return Err(StoreError::rejected("a discard needs a reason; nothing was changed"));
        }
        self.act(references, actor, Some(reason)).await
    }
}
