//! Leases: rows of `posthaste_lease`, on the database's clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::database::HeldLease;
use posthaste_core::lease::{self, Claim, Lease, Leases};
use sqlx::sqlite::SqliteConnection;

use crate::store::Store;
use crate::transaction::detached;
use crate::{Sqlite, monitor, number};

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

/// Longer than a write takes to begin where nobody else writes.
const CONTENDED: Duration = Duration::from_millis(100);

/// Parameters: name, owner, token, ttl. The token is a new one, also for the same owner, and the
/// settlements under it are numbered anew.
const GRANT: &str = concat!(
    "insert into posthaste_lease (name, owner, token, expires_at, ttl) values (?1, ?2, ?3, ",
    now!(),
    " + ?4, ?4) on conflict (name) do update set \
     settlement = 0, owner = excluded.owner, token = excluded.token, expires_at = excluded.expires_at, \
     ttl = excluded.ttl returning expires_at - ttl"
);

/// A lease as it stands in its table.
struct Row {
    owner: String,
    token: i64,
    /// Milliseconds until it runs out.
    remaining: i64,
    /// Milliseconds for which it was last granted.
    ttl: i64,
    released: bool,
}

impl Row {
    async fn find(
        connection: &mut SqliteConnection,
        name: &str,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row: Option<(String, i64, i64, i64, bool)> = sqlx::query_as(concat!(
            "select owner, token, expires_at - ",
            now!(),
            ", ttl, expires_at = 0 from posthaste_lease where name = ?"
        ))
        .bind(name)
        .fetch_optional(connection)
        .await?;
        Ok(row.map(|(owner, token, remaining, ttl, released)| Self {
            owner,
            token,
            remaining,
            ttl,
            released,
        }))
    }

    /// The answer to `owner`, if somebody else has the lease. One that would last longer than it
    /// was granted for was written before the clock was set back. A claim that had to wait for
    /// another writer takes nothing yet: the holder could not renew meanwhile either. That is held
    /// in its favour for one more time of the lease, and not for ever.
    fn held_against(&self, owner: &str, waited: bool) -> Option<Claim> {
        let floor = if waited && !self.released { -self.ttl } else { 0 };
        let is_held = self.owner != owner && (floor < self.remaining && self.remaining <= self.ttl);
        let remaining = number::duration(self.remaining);
        is_held.then(|| Claim::Held { by: self.owner.clone(), remaining })
    }
}

/// Notes that there is a destination, so that nothing is removed before it was sent there.
async fn know(
    connection: &mut SqliteConnection,
    destination: &str,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into posthaste_checkpoint (destination, position, updated_at) values (?, 0, ?) \
         on conflict (destination) do nothing",
    )
    .bind(destination)
    .bind(now)
    .execute(connection)
    .await
    .map(|_| ())
}

impl Store {
    async fn acquire(&self, name: &str, owner: &str, ttl: i64) -> Result<Claim, StoreError> {
        let failed = self.failed("claiming a lease");
        // Who stands by asks often: nobody has to wait for that.
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        self.check_schema(&mut connection).await?;
        let row = Row::find(&mut connection, name).await.map_err(&failed)?;
        if let Some(held) = row.and_then(|row| row.held_against(owner, false)) {
            return Ok(held);
        }
        drop(connection);
        let asked = Instant::now();
        let mut transaction = self.begin().await?;
        let waited = asked.elapsed() > CONTENDED;
        let row = Row::find(&mut transaction, name).await.map_err(&failed)?;
        let token = match row {
            Some(row) => match row.held_against(owner, waited) {
                Some(held) => return Ok(held),
                None => row.token + 1,
            },
            None => 1,
        };
        let now: i64 = sqlx::query_scalar(GRANT)
            .bind(name)
            .bind(owner)
            .bind(token)
            .bind(ttl)
            .fetch_one(&mut *transaction)
            .await
            .map_err(&failed)?;
        if let Some(destination) = lease::destination(name) {
            know(&mut transaction, destination, now).await.map_err(&failed)?;
        }
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
            " + ?3, 0), ttl = coalesce(?3, ttl) \
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

    async fn held(&self, prefix: &str) -> Result<Vec<HeldLease>, StoreError> {
        let failed = self.store.failed("reading the leases");
        self.store.check().await?;
        let mut connection = self.store.pool.acquire().await.map_err(&failed)?;
        let mut held = monitor::leases(&mut connection).await.map_err(&failed)?;
        held.retain(|lease| lease.name.starts_with(prefix));
        Ok(held)
    }
}
