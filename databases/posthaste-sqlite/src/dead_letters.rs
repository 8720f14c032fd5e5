//! Listing dead letters of the relay and of consumers.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters, Failure, Origin};
use posthaste_core::{StoreError, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::act::Act;
use crate::row::{Written, message_columns, shown};
use crate::transaction::detached;
use crate::{Sqlite, number};

/// Parameters: after this number, topic, id, exactly this number, most rows.
const LIST: &str = concat!(
    "select m.number, m.side, m.name, m.reason, m.detail, m.attempts, m.first_failed_at, \
     m.dead_at, m.history, m.parked, m.state = 'reposted' as reposted, ",
    message_columns!(),
    " from posthaste_dead_letter m where m.number > ?1 \
     and (?2 is null or m.topic = ?2) and (?3 is null or m.id = ?3) \
     and (?4 is null or m.number = ?4) order by m.number limit ?5"
);

fn letter(row: &SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    let mut written = Written::from_row(row)?;
    let name: String = row.try_get("name")?;
    let first: Option<i64> = row.try_get("first_failed_at")?;
    let history: String = row.try_get("history")?;
    // A history that somebody has edited by hand does not hide the letter.
    let history: Vec<Failure> = serde_json::from_str(&history).unwrap_or_default();
    Ok(DeadLetter {
        reference: row.try_get::<i64, _>("number")?.to_string(),
        origin: match row.try_get::<&str, _>("side")? {
            "consumer" => Origin::Consumer(name),
            _ => Origin::Relay(name),
        },
        id: shown(written.id.as_ref()),
        topic: shown(written.topic.as_ref()),
        kind: shown(written.kind.as_ref()),
        key: written.key.as_ref().map(|key| shown(Some(key))),
        headers: shown(written.headers.as_ref()),
        content_type: written.content_type.as_ref().map(|text| shown(Some(text))),
        payload: written.take_payload(),
        stated_at: written.stated_at.1.map(Timestamp::from_millis),
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        attempts: number::attempts(row.try_get("attempts")?),
        first_failed_at: first.map(Timestamp::from_millis),
        dead_at: Timestamp::from_millis(row.try_get("dead_at")?),
        history,
        parked: row.try_get("parked")?,
        reposted: row.try_get("reposted")?,
    })
}

impl Sqlite {
    async fn letters(
        &self,
        filter: &DeadFilter,
        exactly: Option<i64>,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let store = &self.store;
        store.check().await?;
        let after = match &filter.after {
            Some(after) => after.parse().map_err(|_| {
                StoreError::rejected(format!("'{after}' is not the number of a dead letter"))
            })?,
            None => 0_i64,
        };
        let rows = sqlx::query(LIST)
            .bind(after)
            .bind(&filter.topic)
            .bind(&filter.id)
            .bind(exactly)
            .bind(number::signed(filter.limit))
            .fetch_all(&store.pool)
            .await
            .map_err(store.failed("reading dead letters"))?;
        let letters: Result<_, _> = rows.iter().map(letter).collect();
        letters.map_err(store.failed("reading dead letters"))
    }

    async fn act(&self, references: &[String], act: Act) -> Result<(), StoreError> {
        let (store, references) = (Arc::clone(&self.store), references.to_vec());
        detached(async move { store.act(&references, &act).await }).await
    }
}

#[async_trait]
impl DeadLetters for Sqlite {
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.letters(filter, None).await
    }

    async fn get(&self, reference: &str) -> Result<Option<DeadLetter>, StoreError> {
        let Ok(number) = reference.parse::<i64>() else {
            return Ok(None);
        };
        let one = DeadFilter { limit: 1, ..DeadFilter::default() };
        Ok(self.letters(&one, Some(number)).await?.pop())
    }

    async fn repost(&self, references: &[String], actor: &str) -> Result<(), StoreError> {
        self.act(references, Act { actor: actor.to_owned(), discarded_because: None }).await
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
        let discarded_because = Some(reason.to_owned());
        self.act(references, Act { actor: actor.to_owned(), discarded_because }).await
    }
}
