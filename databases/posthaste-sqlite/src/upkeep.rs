//! What is done beside relaying: messages in a transaction of their own, and taking away what was
//! sent long ago.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::database::Upkeep;
use posthaste_core::lease::Lease;
use posthaste_core::{Message, StoreError};

use crate::leases::fence;
use crate::store::Store;
use crate::transaction::detached;
use crate::{Sqlite, number};

/// Parameters: how old, most rows. Rows stand about in the order of their age, so looking at the
/// first of them is enough; those that must stay, and a thousand whose writers' clocks were ahead,
/// do not hide the others.
const PRUNE: &str = concat!(
    "delete from posthaste_outbox where seq in (select seq from (select seq, stated_at \
       from posthaste_outbox where seq <= (select min(position) from posthaste_checkpoint) \
       order by seq limit ?2 + 1000 + (select count(*) from posthaste_held) \
         + (select count(*) from posthaste_dead_letter where seq is not null)) o \
     where o.stated_at < ",
    now!(),
    " - ?1 \
       and o.seq not in (select seq from posthaste_held) \
       and o.seq not in (select seq from posthaste_dead_letter where seq is not null) \
     order by seq limit ?2)"
);

/// Parameters: how old, most rows.
const PRUNE_LOG: &str = concat!(
    "delete from posthaste_batch where number in (select number from posthaste_batch \
     where at < ",
    now!(),
    " - ?1 order by number limit ?2)"
);

impl Store {
    async fn enqueue_alone(&self, messages: &[Message]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        self.enqueue(&mut transaction, messages).await?;
        self.commit(transaction).await
    }

    async fn prune_sent(&self, lease: &Lease, keep: i64, limit: i64) -> Result<u64, StoreError> {
        let failed = self.failed("removing old messages");
        let mut transaction = self.begin().await?;
        fence(self, &mut transaction, lease).await?;
        let removed = sqlx::query(PRUNE).bind(keep).bind(limit).execute(&mut *transaction).await;
        let removed = removed.map_err(&failed)?.rows_affected();
        let log = sqlx::query(PRUNE_LOG).bind(keep).bind(limit).execute(&mut *transaction).await;
        log.map_err(failed)?;
        self.commit_quietly(transaction).await?;
        Ok(removed)
    }
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
