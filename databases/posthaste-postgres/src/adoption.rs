//! Which database the transaction ids of the outbox belong to, and taking over a copy.
//!
//! Transaction ids mean the same only within one database of one cluster. A dump that is restored
//! elsewhere brings the rows with ids that no snapshot there says anything about, so a reader
//! refuses until somebody adopts the copy; see [`posthaste_core::frontier`] for what follows.

use posthaste_core::frontier::Frontier;
use posthaste_core::{Checkpoint, StoreError};
use sqlx::postgres::PgConnection;

use crate::schema::sequence_cache;
use crate::store::Store;

/// A database by its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) system_identifier: i64,
    pub(crate) database_oid: i64,
    /// For people: a database may be renamed.
    pub(crate) database_name: String,
}

impl Identity {
    /// Whether transaction ids mean the same in both.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.system_identifier == other.system_identifier && self.database_oid == other.database_oid
    }
}

/// Taken while nobody writes to the outbox: a transaction that has written to it holds a lock that
/// this one waits for.
const QUIET: &str = "lock table posthaste.outbox in share mode";

const HIGHEST: &str = "select coalesce(max(seq), 0) from posthaste.outbox";

/// Parameter: a number that the sequence has to be above.
const RAISE: &str = "select setval(s.name::pg_catalog.regclass, \
       greatest($1, nextval(s.name::pg_catalog.regclass))) \
     from (select pg_get_serial_sequence('posthaste.outbox', 'seq') as name) s";

const CHECKPOINTS: &str =
    "select destination, lane, of, token from posthaste.checkpoint for update";

/// Parameters: destination, lane, of, token, through.
const MOVE: &str = "update posthaste.checkpoint set token = $4, through = $5, \
     moved_at = clock_timestamp() where destination = $1 and lane = $2 and of = $3";

/// Parameters: system identifier, oid and name of the database, floor.
const NOTE: &str = "update posthaste.cluster set system_identifier = $1, database_oid = $2, \
     database_name = $3, floor = $4, noted_at = clock_timestamp()";

/// Parameters: actor, floor, what was adopted.
const AUDIT: &str = "insert into posthaste.audit (at, actor, action, seq, reason) \
     values (clock_timestamp(), $1, 'adopt', $2, $3)";

impl Store {
    /// The identity of the database that the connection is in.
    pub(crate) async fn identity(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Identity, StoreError> {
        let statement = "select s.system_identifier, d.oid::bigint, d.datname::text \
             from pg_catalog.pg_control_system() s, pg_catalog.pg_database d \
             where d.datname = pg_catalog.current_database()";
        self.identity_by(connection, statement).await
    }

    /// The identity that the checkpoints were written under.
    pub(crate) async fn noted_identity(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Identity, StoreError> {
        let statement = "select system_identifier, database_oid, database_name \
             from posthaste.cluster for update";
        self.identity_by(connection, statement).await
    }

    /// Where a reader without a checkpoint starts.
    pub(crate) async fn starting_frontier(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Frontier, StoreError> {
        self.start_by(connection, "select floor from posthaste.cluster").await
    }

    /// The same for whoever writes it down: there is no adoption before this transaction ends, and
    /// none is needed.
    pub(crate) async fn locked_start(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Frontier, StoreError> {
        // Before the lock for a standby, where there are none, and after it for an adoption that it
        // has waited for.
        self.refuse_foreign(&mut *connection).await?;
        let statement = "select floor from posthaste.cluster for share";
        let start = self.start_by(&mut *connection, statement).await?;
        self.refuse_foreign(connection).await.map(|()| start)
    }

    async fn refuse_foreign(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let asked = self.query("select posthaste.refuse_foreign()").execute(connection).await;
        asked.map(|_| ()).map_err(self.failed("looking for the identity of the database"))
    }

    async fn start_by(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> Result<Frontier, StoreError> {
        let floor: i64 = self
            .query_scalar(statement)
            .fetch_one(connection)
            .await
            .map_err(self.failed("looking for the floor of an adoption"))?;
        Ok(Frontier::start().adopt(unsigned(floor)))
    }

    async fn identity_by(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> Result<Identity, StoreError> {
        let (system_identifier, database_oid, database_name) = self
            .query_as(statement)
            .fetch_one(connection)
            .await
            .map_err(self.failed("looking for the identity of the database"))?;
        Ok(Identity { system_identifier, database_oid, database_name })
    }

    /// Accepts that this database is a copy of the one whose checkpoints it holds.
    pub(crate) async fn adopt(&self, actor: &str) -> Result<Vec<String>, StoreError> {
        let mut transaction = self.begin().await?;
        self.at_leisure(&mut transaction).await?;
        self.quieten(&mut transaction).await?;
        let (here, noted) =
            (self.identity(&mut transaction).await?, self.noted_identity(&mut transaction).await?);
        if here.is_same(&noted) {
            let name = here.database_name;
            return Ok(vec![format!("database {name} is no copy; there is nothing to adopt")]);
        }
        self.refuse_cached_sequence(&mut transaction).await?;
        let mut frontiers = self.frontiers(&mut transaction).await?;
        let floor = self.floor(&mut transaction, &frontiers).await?;
        for (place, frontier) in &mut frontiers {
            let before = std::mem::replace(frontier, Frontier::start());
            *frontier = before.adopt(unsigned(floor));
            self.store_frontier(&mut transaction, place, frontier).await?;
        }
        self.note(&mut transaction, actor, floor, &here, &noted).await?;
        self.commit(transaction).await?;
        Ok(vec![
            format!(
                "adopted database {} as a copy of {}: its {} checkpoints go on from what they had \
                 sent",
                here.database_name,
                noted.database_name,
                frontiers.len()
            ),
            format!("rows up to position {floor} are read once more without asking a snapshot"),
        ])
    }

    /// Waits until no transaction that has written to the outbox is open, and lets none begin.
    async fn quieten(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let locked = self.query(QUIET).execute(connection).await;
        locked.map(|_| ()).map_err(|error| match self.error("adopting the database", error) {
            StoreError::Unavailable { source, .. } => StoreError::Unavailable {
                context: "adopting the database: a transaction that has written to the outbox is \
                          still open; end it (pg_stat_activity and pg_prepared_xacts show them) \
                          and adopt again"
                    .to_owned(),
                source,
            },
            other => other,
        })
    }

    /// A session that holds numbers below the floor would write rows which nobody reads.
    async fn refuse_cached_sequence(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        match sequence_cache(self, connection).await? {
            Some(cache) if cache != 1 => Err(StoreError::rejected(format!(
                "sessions hold up to {cache} numbers of the outbox that were not used yet; run: \
                 alter table {}.outbox alter column seq set cache 1, end all sessions of writers, \
                 and adopt again",
                self.namespace.name()
            ))),
            _ => Ok(()),
        }
    }

    /// A number that no row, no checkpoint and no later number of the sequence is below.
    async fn floor(
        &self,
        connection: &mut PgConnection,
        frontiers: &[(Place, Frontier)],
    ) -> Result<i64, StoreError> {
        let failed = self.failed("looking for the highest position of the outbox");
        let highest: i64 =
            self.query_scalar(HIGHEST).fetch_one(&mut *connection).await.map_err(&failed)?;
        let reached = frontiers.iter().map(|(_, frontier)| frontier.highest()).max();
        let floor = highest.max(signed(reached.unwrap_or(0))?);
        let floor: i64 =
            self.query_scalar(RAISE).bind(floor).fetch_one(connection).await.map_err(failed)?;
        Ok(floor)
    }

    async fn frontiers(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(Place, Frontier)>, StoreError> {
        let rows: Vec<(String, i32, i32, String)> = self
            .query_as(CHECKPOINTS)
            .fetch_all(connection)
            .await
            .map_err(self.failed("reading the checkpoints"))?;
        let parse = |(destination, lane, of, token): (String, i32, i32, String)| {
            let frontier =
                Frontier::parse(&Checkpoint::new(token)).map_err(|bad| StoreError::Failed {
                    context: format!("the checkpoint of '{destination}' cannot be adopted"),
                    source: Some(Box::new(bad)),
                })?;
            Ok((Place { destination, lane, of }, frontier))
        };
        rows.into_iter().map(parse).collect()
    }

    async fn store_frontier(
        &self,
        connection: &mut PgConnection,
        place: &Place,
        frontier: &Frontier,
    ) -> Result<(), StoreError> {
        self.query(MOVE)
            .bind(&place.destination)
            .bind(place.lane)
            .bind(place.of)
            .bind(frontier.checkpoint().as_str())
            .bind(signed(frontier.through())?)
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(self.failed("rewriting a checkpoint"))
    }

    async fn note(
        &self,
        connection: &mut PgConnection,
        actor: &str,
        floor: i64,
        here: &Identity,
        noted: &Identity,
    ) -> Result<(), StoreError> {
        let failed = self.failed("noting the identity of the database");
        let reason = format!(
            "{} of cluster {} as a copy of {} of cluster {}",
            here.database_name,
            here.system_identifier,
            noted.database_name,
            noted.system_identifier
        );
        self.query(NOTE)
            .bind(here.system_identifier)
            .bind(here.database_oid)
            .bind(&here.database_name)
            .bind(floor)
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        self.query(AUDIT)
            .bind(actor)
            .bind(floor)
            .bind(reason)
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(failed)
    }
}

/// Which checkpoint.
#[derive(Debug)]
struct Place {
    destination: String,
    lane: i32,
    of: i32,
}

fn unsigned(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

fn signed(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq)
        .map_err(|_| StoreError::failed(format!("a checkpoint is at {seq}, which no row can have")))
}
