//! Leases: rows of `posthaste.lease`, on the database's clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::database::HeldLease;
use posthaste_core::lease::{self, Claim, Lease, Leases};
use sqlx::postgres::PgConnection;

use crate::store::Store;
use crate::transaction::detached;
use crate::{Postgres, number};

/// Parameter: name. Owner and time left, in microseconds, of a lease that is held: one that would
/// last longer than it was granted for was written before the clock was set back.
const HOLDER: &str = "select owner, (extract(epoch from left_over) * 1000000)::bigint from ( \
       select owner, ttl, expires_at - clock_timestamp() as left_over from posthaste.lease \
       where name = $1) l \
     where left_over > interval '0' and left_over <= ttl";

/// Parameters: name, owner, time in microseconds. Returns the token, or nothing if somebody else
/// has the lease. Each grant has a token of its own, also one to the same owner, and the settlements
/// under it are numbered anew.
const ACQUIRE: &str = "insert into posthaste.lease as l \
       (name, owner, token, expires_at, ttl, server_life) \
     values ($1, $2, 1, clock_timestamp() + $3 * interval '1 microsecond', \
       $3 * interval '1 microsecond', posthaste.server_life()) \
     on conflict (name) do update set token = l.token + 1, settlement = 0, \
       owner = excluded.owner, expires_at = excluded.expires_at, ttl = excluded.ttl, \
       server_life = excluded.server_life \
     where l.owner = excluded.owner or l.expires_at <= clock_timestamp() \
       or l.expires_at - clock_timestamp() > l.ttl \
     returning token";

/// Parameters: destination, checkpoint. Notes that there is a destination, so that nothing is
/// removed before it was sent there.
const KNOW: &str = "insert into posthaste.checkpoint \
       (destination, lane, of, token, through, moved_at) \
     select $1, g.lane, d.lanes, $2, 0, clock_timestamp() \
     from (select coalesce((select now from posthaste.lanes where destination = $1), 1) \
         as lanes) d, \
       generate_series(0, d.lanes - 1) as g (lane) \
     on conflict (destination, of, lane) do nothing";

/// Parameters: name, token, time in microseconds, owner; without a time it runs out at the beginning
/// of time. Of another life of the server it can be given back and not be prolonged.
const EXTEND: &str = "update posthaste.lease set \
       expires_at = coalesce(clock_timestamp() + $3 * interval '1 microsecond', 'epoch'), \
       ttl = coalesce($3 * interval '1 microsecond', ttl) \
     where name = $1 and token = $2 and owner = $4 \
       and ($3 is null or server_life = posthaste.server_life())";

/// Parameter: beginning of the name.
const HELD: &str = "select name, owner, token, extract(epoch from left_over)::float8 from ( \
       select name, owner, token, ttl, expires_at - clock_timestamp() as left_over \
       from posthaste.lease where starts_with(name, $1)) l \
     where left_over > interval '0' and left_over <= ttl order by name";

/// Parameters: name, token, owner. A standby that took over without the last grants gives out their
/// tokens again: the owner tells the two holders apart.
const FENCE: &str = "select settlement from posthaste.lease \
     where name = $1 and token = $2 and owner = $3 and server_life = posthaste.server_life()";

/// Fails unless `lease` is the current one.
pub(crate) async fn fence(
    store: &Store,
    connection: &mut PgConnection,
    lease: &Lease,
) -> Result<(), StoreError> {
    let current: Option<i64> = store
        .query_scalar(FENCE)
        .bind(&lease.name)
        .bind(number::token(lease.token)?)
        .bind(&lease.owner)
        .fetch_optional(connection)
        .await
        .map_err(store.failed("looking at a lease"))?;
    current.map(|_| ()).ok_or(StoreError::Fenced)
}

/// The leases that are held now and whose names begin with `prefix`.
pub(crate) async fn held(
    store: &Store,
    connection: &mut PgConnection,
    prefix: &str,
) -> Result<Vec<HeldLease>, StoreError> {
    let rows: Vec<(String, String, i64, f64)> = store
        .query_as(HELD)
        .bind(prefix)
        .fetch_all(connection)
        .await
        .map_err(store.failed("reading the leases"))?;
    let held = |(name, owner, token, remaining_seconds)| HeldLease {
        name,
        owner,
        token: number::count(token),
        remaining_seconds,
    };
    Ok(rows.into_iter().map(held).collect())
}

impl Store {
    async fn holder(
        &self,
        connection: &mut PgConnection,
        name: &str,
        owner: &str,
    ) -> Result<Option<Claim>, StoreError> {
        let held: Option<(String, i64)> = self
            .query_as(HOLDER)
            .bind(name)
            .fetch_optional(connection)
            .await
            .map_err(self.failed("looking at a lease"))?;
        Ok(held
            .filter(|(by, _)| by != owner)
            .map(|(by, remaining)| Claim::Held { by, remaining: number::duration(remaining) }))
    }

    async fn acquire(
        self: &Arc<Self>,
        name: &str,
        owner: &str,
        ttl: i64,
    ) -> Result<Claim, StoreError> {
        // Who stands by asks often: nobody has to wait for that.
        let mut connection = self.reading().await?;
        if let Some(held) = self.holder(&mut connection, name, owner).await? {
            return Ok(held);
        }
        drop(connection);
        let mut transaction = self.begin().await?;
        let start = self.locked_start(&mut transaction).await?;
        let token: Option<i64> = self
            .query_scalar(ACQUIRE)
            .bind(name)
            .bind(owner)
            .bind(ttl)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(self.failed("claiming a lease"))?;
        let Some(token) = token else {
            let held = self.holder(&mut transaction, name, owner).await?;
            // It was free for a moment and somebody else has given it back since: ask again.
            let by = String::new();
            return Ok(held.unwrap_or(Claim::Held { by, remaining: Duration::ZERO }));
        };
        if let Some(destination) = lease::destination(name) {
            self.query(KNOW)
                .bind(destination)
                .bind(start.checkpoint().as_str())
                .execute(&mut *transaction)
                .await
                .map_err(self.failed("noting a destination"))?;
        }
        self.commit_quietly(transaction).await?;
        let (name, owner) = (name.to_owned(), owner.to_owned());
        Ok(Claim::Granted(Lease { name, owner, token: number::count(token) }))
    }

    /// Sets when a lease runs out, relative to now or, for `None`, to the beginning of time.
    /// Returns whether it was the current one.
    async fn extend(self: &Arc<Self>, lease: &Lease, ttl: Option<i64>) -> Result<bool, StoreError> {
        let mut connection = self.reading().await?;
        let changed = self
            .query(EXTEND)
            .bind(&lease.name)
            .bind(number::token(lease.token)?)
            .bind(ttl)
            .bind(&lease.owner)
            .execute(&mut *connection)
            .await
            .map_err(self.failed("renewing a lease"))?
            .rows_affected();
        self.keep(connection).await?;
        Ok(changed > 0)
    }
}

#[async_trait]
impl Leases for Postgres {
    async fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<Claim, StoreError> {
        let (store, ttl) = (Arc::clone(&self.store), number::micros(ttl));
        let (name, owner) = (name.to_owned(), owner.to_owned());
        let acquire = async move { store.acquire(&name, &owner, ttl).await };
        detached(self.store.promptly(), acquire).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), StoreError> {
        let (store, lease, ttl) = (Arc::clone(&self.store), lease.clone(), number::micros(ttl));
        let renew = async move { store.extend(&lease, Some(ttl)).await };
        let held = detached(self.store.promptly(), renew).await?;
        if held { Ok(()) } else { Err(StoreError::Fenced) }
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let (store, lease) = (Arc::clone(&self.store), lease.clone());
        let release = async move { store.extend(&lease, None).await.map(|_| ()) };
        detached(self.store.promptly(), release).await
    }

    async fn held(&self, prefix: &str) -> Result<Vec<HeldLease>, StoreError> {
        let look = async {
            let mut connection = self.store.reading().await?;
            held(&self.store, &mut connection, prefix).await
        };
        self.store.promptly().during(look).await
    }
}
