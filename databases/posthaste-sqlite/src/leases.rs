//! Leases: rows of `posthaste_lease`, on the database's clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::lease::{Claim, Lease, Leases};
use sqlx::sqlite::SqliteConnection;

use crate::store::Store;
use crate::transaction::detached;
use crate::{Sqlite, number};

/// Fails unless `lease` is the current one, inside a transaction that may write.
pub(crate) async fn fence(
    store: &Store,
    connection: &mut SqliteConnection,
    lease: &Lease,
) -> Result<(), StoreError> {
    let current: Option<i64> =
        sqlx::query_scalar("select settlement from posthaste_lease where name = ? and token = ?")
            .bind(&lease.name)
            .bind(number::token(lease.token)?)
            .fetch_optional(connection)
            .await
            .map_err(store.failed("looking at a lease"))?;
    current.map(|_| ()).ok_or(StoreError::Fenced)
}

impl Store {
    async fn acquire(&self, name: &str, owner: &str, ttl: i64) -> Result<Claim, StoreError> {
        let doing = "claiming a lease";
        let mut transaction = self.begin().await?;
        let row: Option<(String, i64, i64, bool)> = sqlx::query_as(concat!(
            "select owner, token, expires_at - ",
            now!(),
            ", expires_at = 0 \
             from posthaste_lease where name = ?"
        ))
        .bind(name)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(self.failed(doing))?;
        let token = match row {
            Some((by, _, remaining, _)) if by != owner && remaining > 0 => {
                return Ok(Claim::Held { by, remaining: number::duration(remaining) });
            }
            // Whoever gave it back begins anew, also with the numbers of its settlements.
            Some((by, token, _, released)) if by == owner && !released => token,
            Some((_, token, ..)) => token + 1,
            None => 1,
        };
        sqlx::query(concat!(
            "insert into posthaste_lease (name, owner, token, expires_at) \
             values (?1, ?2, ?3, ",
            now!(),
            " + ?4) on conflict (name) do update set \
             settlement = case when token = excluded.token then settlement else 0 end, \
             owner = excluded.owner, token = excluded.token, expires_at = excluded.expires_at"
        ))
        .bind(name)
        .bind(owner)
        .bind(token)
        .bind(ttl)
        .execute(&mut *transaction)
        .await
        .map_err(self.failed(doing))?;
        self.commit_quietly(transaction).await?;
        Ok(Claim::Granted(Lease {
            name: name.to_owned(),
            owner: owner.to_owned(),
            token: number::count(token),
        }))
    }

    /// Sets when a lease runs out, relative to now or, for `None`, to the beginning of time.
    /// Returns whether it was the current one.
    async fn extend(&self, lease: &Lease, ttl: Option<i64>) -> Result<bool, StoreError> {
        let doing = "renewing a lease";
        let mut transaction = self.begin().await?;
        let changed = sqlx::query(concat!(
            "update posthaste_lease set expires_at = coalesce(",
            now!(),
            " + ?3, 0) \
             where name = ?1 and token = ?2"
        ))
        .bind(&lease.name)
        .bind(number::token(lease.token)?)
        .bind(ttl)
        .execute(&mut *transaction)
        .await
        .map_err(self.failed(doing))?
        .rows_affected();
        self.commit_quietly(transaction).await?;
        Ok(changed > 0)
    }
}

#[async_trait]
impl Leases for Sqlite {
    async fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<Claim, StoreError> {
        let (store, ttl) = (Arc::clone(&self.store), number::millis(ttl));
        let (name, owner) = (name.to_owned(), owner.to_owned());
        detached(async move { store.acquire(&name, &owner, ttl).await }).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), StoreError> {
        let (store, lease, ttl) = (Arc::clone(&self.store), lease.clone(), number::millis(ttl));
        let held = detached(async move { store.extend(&lease, Some(ttl)).await }).await?;
        if held { Ok(()) } else { Err(StoreError::Fenced) }
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let (store, lease) = (Arc::clone(&self.store), lease.clone());
        detached(async move { store.extend(&lease, None).await.map(|_| ()) }).await
    }
}
