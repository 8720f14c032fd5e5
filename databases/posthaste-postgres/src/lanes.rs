//! Lanes: how a destination is divided among relays, and dividing it anew.
//!
//! A division is one transaction that holds the leases of all lanes as they were. It writes the
//! checkpoints of the new lanes, tells every row of the side table its new lane, and changes the
//! tokens, so that whoever settles after it is fenced.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::frontier::Frontier;
use posthaste_core::lane::{Division, Lanes, MAX_LANES};
use posthaste_core::lease::Lease;
use posthaste_core::{Lane, StoreError};
use sqlx::postgres::PgConnection;

use crate::store::Store;
use crate::transaction::detached;
use crate::{Postgres, number};

/// Parameter: destination.
const DIVISION: &str = "select now, wanted from posthaste.lanes where destination = $1";

/// Parameters: destination, number.
const WANT: &str = "insert into posthaste.lanes (destination, wanted) values ($1, $2) \
     on conflict (destination) do update set wanted = excluded.wanted";

/// Parameter: names.
const LOCK: &str = "select name, token, owner from posthaste.lease where name = any($1) \
       and server_life = posthaste.server_life() order by name for update";

/// Parameters: destination, number, checkpoint, how far it reaches.
const BEGIN: [&str; 2] = [
    "delete from posthaste.checkpoint where destination = $1",
    "insert into posthaste.checkpoint (destination, lane, of, token, through, moved_at) \
     select $1, g.lane, $2, $3, $4, clock_timestamp() \
     from generate_series(0, $2 - 1) as g (lane)",
];

/// Parameters: destination, number. What is set aside is tried again in every lane at once.
const MOVE: &str = "with first (seq) as materialized (select min(seq) from posthaste.held \
       where destination = $1 and state = 'unroutable' group by hash % $2, topic, kind) \
     update posthaste.held h set lane = (hash % $2)::integer, \
       ready_at = case when h.state <> 'unroutable' then h.ready_at \
         when exists (select 1 from first f where f.seq = h.seq) then clock_timestamp() end \
     where destination = $1 and (lane <> hash % $2 or state = 'unroutable')";

/// Into how many lanes a destination is divided.
pub(crate) async fn division(
    store: &Store,
    connection: &mut PgConnection,
    destination: &str,
) -> Result<Division, StoreError> {
    let row: Option<(i32, i32)> = store
        .query_as(DIVISION)
        .bind(destination)
        .fetch_optional(connection)
        .await
        .map_err(store.failed("reading the lanes"))?;
    let lanes = |number: i32| u16::try_from(number).unwrap_or(MAX_LANES);
    let (now, wanted) = row.unwrap_or((1, 1));
    Ok(Division { now: lanes(now), wanted: lanes(wanted) })
}

impl Store {
    /// Locks the leases of all lanes, which must be those given.
    async fn claim_all(
        &self,
        connection: &mut PgConnection,
        destination: &str,
        now: u16,
        leases: &[Lease],
    ) -> Result<Vec<String>, StoreError> {
        let names: Vec<String> =
            Lane::all(destination, now).map(|lane| lane.lease_name()).collect();
        let rows: Vec<(String, i64, String)> = self
            .query_as(LOCK)
            .bind(&names)
            .fetch_all(connection)
            .await
            .map_err(self.failed("locking the leases of all lanes"))?;
        let current: Vec<Lease> = rows
            .into_iter()
            .map(|(name, token, owner)| Lease { name, owner, token: number::count(token) })
            .collect();
        let given = |name: &String| leases.iter().find(|lease| lease.name == *name);
        let is_held = |name: &String| given(name).is_some_and(|lease| current.contains(lease));
        if names.iter().all(is_held) { Ok(names) } else { Err(StoreError::Fenced) }
    }

    async fn divide(&self, destination: &str, leases: &[Lease]) -> Result<(), StoreError> {
        let failed = self.failed("dividing a destination");
        let mut transaction = self.begin().await?;
        self.at_leisure(&mut transaction).await?;
        self.query("select posthaste.refuse_foreign()")
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let Division { now, .. } = division(self, &mut transaction, destination).await?;
        let names = self.claim_all(&mut transaction, destination, now, leases).await?;
        let again = division(self, &mut transaction, destination).await?;
        if again.now != now {
            return Err(StoreError::Fenced);
        }
        if again.wanted == now {
            return Ok(());
        }
        self.query("select posthaste.lock_lines($1, true)")
            .bind(destination)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let old = self.lane_frontiers(&mut transaction, destination, now).await?;
        let begun = Frontier::inherit(&old).map_err(|refused| StoreError::Rejected {
            reason: refused.to_string(),
            source: Some(Box::new(refused)),
        })?;
        self.begin_lanes(&mut transaction, destination, again.wanted, &begun).await?;
        self.query(
            "update posthaste.lease set token = token + 1, expires_at = 'epoch', settlement = 0 \
             where name = any($1)",
        )
        .bind(&names)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        self.commit_quietly(transaction).await
    }

    /// Writes where the new lanes begin.
    async fn begin_lanes(
        &self,
        connection: &mut PgConnection,
        destination: &str,
        lanes: u16,
        begun: &Frontier,
    ) -> Result<(), StoreError> {
        let failed = self.failed("dividing a destination");
        let [forget, begin] = BEGIN;
        let query = self.query(forget).bind(destination);
        query.execute(&mut *connection).await.map_err(&failed)?;
        self.query(begin)
            .bind(destination)
            .bind(i32::from(lanes))
            .bind(begun.checkpoint().as_str())
            .bind(number::long(begun.through()))
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        self.query("update posthaste.lanes set now = $2, wanted = $2 where destination = $1")
            .bind(destination)
            .bind(i32::from(lanes))
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        let query = self.query(MOVE).bind(destination).bind(i32::from(lanes));
        query.execute(connection).await.map(|_| ()).map_err(failed)
    }
}

#[async_trait]
impl Lanes for Postgres {
    async fn division(&self, destination: &str) -> Result<Division, StoreError> {
        let look = async {
            let mut connection = self.store.reading().await?;
            division(&self.store, &mut connection, destination).await
        };
        self.store.promptly().during(look).await
    }

    async fn can_divide(&self, destination: &str) -> Result<bool, StoreError> {
        let look = async {
            let mut connection = self.store.reading().await?;
            let Division { now, .. } = division(&self.store, &mut connection, destination).await?;
            let old = self.store.lane_frontiers(&mut connection, destination, now).await?;
            Ok(Frontier::inherit(&old).is_ok())
        };
        self.store.promptly().during(look).await
    }

    async fn want_lanes(&self, destination: &str, lanes: u16) -> Result<(), StoreError> {
        if !(1..=MAX_LANES).contains(&lanes) {
            return Err(StoreError::rejected(format!(
                "{lanes} lanes are not possible; choose 1 to {MAX_LANES}"
            )));
        }
        let (store, destination) = (Arc::clone(&self.store), destination.to_owned());
        detached(self.store.promptly(), async move {
            let mut connection = store.reading().await?;
            let query = store.query(WANT).bind(destination).bind(i32::from(lanes));
            let done = query.execute(&mut *connection).await;
            done.map_err(store.failed("asking for another number of lanes"))?;
            store.keep(connection).await
        })
        .await
    }

    async fn divide(&self, destination: &str, leases: &[Lease]) -> Result<(), StoreError> {
        let (store, leases) = (Arc::clone(&self.store), leases.to_vec());
        let destination = destination.to_owned();
        let divide = async move { store.divide(&destination, &leases).await };
        detached(self.store.at_length(), divide).await
    }
}
