//! What is done beside relaying: messages in a transaction of their own, and taking away what was
//! sent long ago.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::database::Upkeep;
use posthaste_core::lease::Lease;
use posthaste_core::{Message, StoreError};
use sqlx::sqlite::SqliteConnection;

use crate::leases::fence;
use crate::store::Store;
use crate::transaction::detached;
use crate::{Sqlite, number};

/// Parameters: how old, after which row, most rows. Of each row that every destination has passed,
/// whether it is old, and whether somebody may still need it.
const LOOK: &str = concat!(
    "with clock (now) as materialized (select ",
    now!(),
    ") select o.seq, coalesce(o.stated_at < clock.now - ?1, 0) as is_old, \
       exists (select 1 from posthaste_checkpoint c where exists (select 1 from posthaste_held h \
           where h.destination = c.destination and h.seq = o.seq) \
         or exists (select 1 from posthaste_dead_letter d indexed by posthaste_dead_letter_seq \
           where d.name = c.destination and d.seq = o.seq)) as is_needed \
     from posthaste_outbox o, clock \
     where o.seq > ?2 and o.seq <= (select min(position) from posthaste_checkpoint) \
     order by o.seq limit ?3"
);

/// Rows that are looked at in one statement.
const PAGE: i64 = 1000;

/// Rows stand about in the order of their age: so many that are young may stand before one that is
/// old, because the clocks of their writers were ahead.
const YOUNG: usize = 1000;

/// Parameter: array of rows. What was sent everywhere stays so, unless there is a new destination.
const PRUNE: &str = "delete from posthaste_outbox where seq in (select value from json_each(?1)) \
     and seq <= (select min(position) from posthaste_checkpoint)";

/// Parameters: how old, most rows.
const PRUNE_LOG: &str = concat!(
    "delete from posthaste_batch where number in (select number from \
       (select number, at from posthaste_batch order by number limit ?2 + 1000) \
     where at < ",
    now!(),
    " - ?1 limit ?2)"
);

/// Parameters: how old.
const IS_LOG_OLD: &str = concat!(
    "select exists (select 1 from (select at from posthaste_batch order by number limit 1000) \
     where at < ",
    now!(),
    " - ?1)"
);

impl Store {
    async fn enqueue_alone(&self, messages: &[Message]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.enqueue(&mut transaction, messages).await?;
        self.commit(transaction).await
    }

    /// Looks for what can go before it takes the lock that writers wait for, because what must
    /// stay may be much.
    async fn prune_sent(&self, lease: &Lease, keep: i64, limit: i64) -> Result<u64, StoreError> {
        let failed = self.failed("removing old messages");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        self.check_schema(&mut connection).await?;
        fence(self, &mut connection, lease).await?;
        let old = old(&mut connection, keep, limit).await.map_err(&failed)?;
        let is_log_old: bool = sqlx::query_scalar(IS_LOG_OLD)
            .bind(keep)
            .fetch_one(&mut *connection)
            .await
            .map_err(&failed)?;
        drop(connection);
        let mut removed = 0;
        if !old.is_empty() {
            let mut transaction = self.begin().await?;
            fence(self, &mut transaction, lease).await?;
            removed = remove(&mut transaction, &old).await.map_err(&failed)?;
            self.commit_quietly(transaction).await?;
        }
        if is_log_old {
            self.prune_log(lease, keep, limit).await?;
        }
        Ok(removed)
    }

    /// Takes away what is old in the log, in parts between which others can write.
    async fn prune_log(&self, lease: &Lease, keep: i64, limit: i64) -> Result<(), StoreError> {
        loop {
            let mut transaction = self.begin().await?;
            fence(self, &mut transaction, lease).await?;
            let query = sqlx::query(PRUNE_LOG).bind(keep).bind(limit);
            let done = query.execute(&mut *transaction).await;
            let removed = done.map_err(self.failed("shortening the log"))?.rows_affected();
            self.commit_quietly(transaction).await?;
            if removed == 0 || removed < number::count(limit) {
                return Ok(());
            }
        }
    }
}

/// Rows that are old and that nobody needs any more, oldest first.
async fn old(
    connection: &mut SqliteConnection,
    keep: i64,
    limit: i64,
) -> Result<Vec<i64>, sqlx::Error> {
    let most = usize::try_from(limit).unwrap_or(0);
    let (mut old, mut young, mut after) = (Vec::new(), 0, 0);
    while old.len() < most && young < YOUNG {
        let rows: Vec<(i64, bool, bool)> = sqlx::query_as(LOOK)
            .bind(keep)
            .bind(after)
            .bind(PAGE)
            .fetch_all(&mut *connection)
            .await?;
        let Some(&(last, ..)) = rows.last() else { break };
        after = last;
        young += rows.iter().filter(|(_, is_old, _)| !is_old).count();
        let gone = rows.into_iter().filter(|(_, is_old, is_needed)| *is_old && !is_needed);
        old.extend(gone.map(|(seq, ..)| seq));
    }
    old.truncate(most);
    Ok(old)
}

async fn remove(connection: &mut SqliteConnection, old: &[i64]) -> Result<u64, sqlx::Error> {
    let json = serde_json::to_string(old).map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(sqlx::query(PRUNE).bind(json).execute(connection).await?.rows_affected())
}

#[async_trait]
impl Upkeep for Sqlite {
    async fn enqueue_alone(&self, messages: &[Message]) -> Result<(), StoreError> {
        let (store, messages) = (Arc::clone(&self.store), messages.to_vec());
        detached(async move { store.enqueue_alone(&messages).await }).await
    }

    async fn prune_sent(
        &self,
        lease: &Lease,
        keep: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let (store, lease) = (Arc::clone(&self.store), lease.clone());
        let (keep, limit) = (number::millis(keep), number::signed(limit));
        detached(async move { store.prune_sent(&lease, keep, limit).await }).await
    }
}
