//! The tables: their version, and the one way to create and change them.

use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::database::{Migrated, Schema};
use posthaste_core::limits::PAYLOAD_BYTES_DEFAULT;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::Postgres;
use crate::roles::{Roles, grants};
use crate::store::Store;
use crate::transaction::detached;

/// The version of the schema that this program needs.
pub const VERSION: u32 = 1;

/// The steps, each once and in this order.
const STEPS: [(u32, &str); 1] = [(1, include_str!("../migrations/0001.sql"))];

/// The oldest version of PostgreSQL, as the server numbers it.
const OLDEST_SERVER: i32 = 140_000;

/// Parameter: the schema. Found in the catalogue, because asking the table itself would fail and
/// end a transaction.
const THERE: &str = "select exists (select 1 from pg_catalog.pg_class c \
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
     where n.nspname = $1 and c.relname = 'schema_version')";

/// The lock under which a schema is migrated; the name of the schema is hashed into it.
const LOCK: &str = "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))";

/// The version that is there; `None` without tables.
pub(crate) async fn version(
    store: &Store,
    connection: &mut PgConnection,
) -> Result<Option<u32>, StoreError> {
    let failed = store.failed("looking at the schema");
    let there: bool = store
        .query_scalar(THERE)
        .bind(store.namespace.name())
        .fetch_one(&mut *connection)
        .await
        .map_err(&failed)?;
    if !there {
        return Ok(None);
    }
    let version: i32 = store
        .query_scalar("select coalesce(max(version), 0) from posthaste.schema_version")
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    Ok(Some(u32::try_from(version.max(0)).unwrap_or(u32::MAX)))
}

/// Fails unless the version is the one that this program needs.
pub(crate) fn refuse_other(found: Option<u32>) -> Result<(), StoreError> {
    let advice = match found {
        Some(VERSION) => return Ok(()),
        None => "the database has no tables of Posthaste; run `posthaste migrate`".to_owned(),
        Some(older) if older < VERSION => format!(
            "the schema has version {older} and this program needs {VERSION}; run \
             `posthaste migrate`"
        ),
        Some(newer) => format!(
            "the schema has version {newer} and this program knows only {VERSION}; use a newer \
             program (`posthaste migrate` of this one cannot help)"
        ),
    };
    Err(StoreError::Schema { found, needed: VERSION, advice })
}

/// The error for a table, a column or a function that is missing.
pub(crate) fn missing(said: &str) -> StoreError {
    StoreError::Schema {
        found: None,
        needed: VERSION,
        advice: format!(
            "the tables of Posthaste are not there or not complete ({said}); run `posthaste \
             migrate`"
        ),
    }
}

impl Store {
    async fn migrate(&self) -> Result<Migrated, StoreError> {
        let failed = self.failed("migrating the schema");
        let mut notes = Vec::new();
        let mut transaction = self.begin_unchecked().await?;
        self.at_leisure(&mut transaction).await?;
        self.refuse_server(&mut transaction).await?;
        self.query(LOCK)
            .bind(format!("posthaste migrate {}", self.namespace.name()))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let from = version(self, &mut transaction).await?;
        if from.is_some_and(|from| from > VERSION) {
            refuse_other(from)?;
        }
        self.make_schema(&mut transaction).await?;
        for (step, script) in STEPS.iter().filter(|(step, _)| *step > from.unwrap_or(0)) {
            let script = self.namespace.text(script).into_owned();
            sqlx::raw_sql(AssertSqlSafe(script))
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
            self.query("insert into posthaste.schema_version (version) values ($1)")
                .bind(i32::try_from(*step).unwrap_or(i32::MAX))
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        notes.extend(self.raise_payload_limit(&mut transaction).await?);
        notes.extend(self.look_at_sequence(&mut transaction).await?);
        self.commit_quietly(transaction).await?;
        Ok(Migrated { from, to: VERSION, notes })
    }

    /// Makes the schema unless it is there: whoever may not make one can be given one.
    async fn make_schema(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let failed = self.failed("making the schema");
        let there: bool = self
            .query_scalar(
                "select exists (select 1 from pg_catalog.pg_namespace where nspname = $1)",
            )
            .bind(self.namespace.name())
            .fetch_one(&mut *connection)
            .await
            .map_err(&failed)?;
        if there {
            return Ok(());
        }
        let made = sqlx::raw_sql(self.sql(MAKE_SCHEMA)).execute(connection).await;
        made.map(|_| ()).map_err(failed)
    }

    /// Refuses a server that is too old, and a database that is not in UTF-8: lengths are counted
    /// in bytes of UTF-8, and payloads come back as they were written.
    async fn refuse_server(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let (version, shown, encoding): (i32, String, String) = self
            .query_as(
                "select current_setting('server_version_num')::int4, \
                 current_setting('server_version'), current_setting('server_encoding')",
            )
            .fetch_one(connection)
            .await
            .map_err(self.failed("looking at the server"))?;
        if version < OLDEST_SERVER {
            return Err(StoreError::rejected(format!(
                "the server is PostgreSQL {shown}; Posthaste needs 14 or later"
            )));
        }
        if encoding != "UTF8" {
            return Err(StoreError::rejected(format!(
                "the database stores text as {encoding}; Posthaste needs one in UTF8"
            )));
        }
        Ok(())
    }

    /// Tells the table of a payload limit above the one that it has. Rows that are there are not
    /// looked at again.
    async fn raise_payload_limit(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<String>, StoreError> {
        let failed = self.failed("raising the payload limit");
        let wanted = i64::try_from(self.limits().payload()).unwrap_or(i64::MAX);
        let there: Option<i64> = self
            .query_scalar("select value from posthaste.setting where name = 'payload_limit'")
            .fetch_optional(&mut *connection)
            .await
            .map_err(&failed)?;
        let default = i64::try_from(PAYLOAD_BYTES_DEFAULT).unwrap_or(i64::MAX);
        if wanted <= there.unwrap_or(default) {
            return Ok(None);
        }
        let change = self.namespace.text(RAISE).replace("{limit}", &wanted.to_string());
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut *connection).await.map_err(&failed)?;
        self.query(
            "insert into posthaste.setting (name, value) values ('payload_limit', $1) \
             on conflict (name) do update set value = excluded.value",
        )
        .bind(wanted)
        .execute(connection)
        .await
        .map_err(failed)?;
        Ok(Some(format!("raised the payload limit to {wanted} bytes")))
    }

    /// The order of a key needs numbers that are handed out one at a time.
    async fn look_at_sequence(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<String>, StoreError> {
        let cache = sequence_cache(self, connection).await?;
        Ok(cache.filter(|cache| *cache != 1).map(|cache| {
            format!(
                "the sequence of the outbox hands out {cache} numbers at a time, so messages of one \
                 key may be sent out of order; run: alter table {}.outbox alter column seq set cache 1",
                self.namespace.name()
            )
        }))
    }
}

/// How many numbers of the outbox a session takes at a time; `None` without a sequence.
pub(crate) async fn sequence_cache(
    store: &Store,
    connection: &mut PgConnection,
) -> Result<Option<i64>, StoreError> {
    store
        .query_scalar(
            "select s.seqcache from pg_catalog.pg_sequence s where s.seqrelid = \
             pg_catalog.pg_get_serial_sequence('posthaste.outbox', 'seq')::pg_catalog.regclass",
        )
        .fetch_optional(connection)
        .await
        .map_err(store.failed("looking at the sequence of the outbox"))
}

const MAKE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS posthaste";

const RAISE: &str = "alter table posthaste.outbox \
     drop constraint \"posthaste: payload is over the payload_limit\", \
     add constraint \"posthaste: payload is over the payload_limit\" \
     check (coalesce(octet_length(payload), octet_length(payload_bytes)) <= {limit}) not valid";

#[async_trait]
impl Schema for Postgres {
    async fn version(&self) -> Result<Option<u32>, StoreError> {
        let store = Arc::clone(&self.store);
        detached(self.store.promptly(), async move {
            let mut transaction = store.begin_unchecked().await?;
            version(&store, &mut transaction).await
        })
        .await
    }

    async fn migrate(&self) -> Result<Migrated, StoreError> {
        let store = Arc::clone(&self.store);
        detached(self.store.at_length(), async move { store.migrate().await }).await
    }

    fn script(&self) -> String {
        let namespace = &self.store.namespace;
        let mut script = format!("BEGIN;\n{};\n", namespace.text(MAKE_SCHEMA));
        for (step, statements) in STEPS {
            script.push_str(&namespace.text(statements));
            script.push_str(&format!(
                "\nINSERT INTO {} (version) VALUES ({step});\n",
                namespace.text("posthaste.schema_version")
            ));
        }
        script.push_str("COMMIT;\n");
        script
    }

    async fn adopt(&self, actor: &str) -> Result<Vec<String>, StoreError> {
        let (store, actor) = (Arc::clone(&self.store), actor.to_owned());
        detached(self.store.at_length(), async move { store.adopt(&actor).await }).await
    }

    fn grants(&self, prefix: &str) -> Result<Option<String>, StoreError> {
        let roles = Roles::with_prefix(prefix);
        grants(self.store.namespace.name(), &roles).map(Some)
    }
}
