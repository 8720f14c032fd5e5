//! The tables: their version, and the one way to create and change them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::database::{Migrated, Schema};
use posthaste_core::limits::PAYLOAD_BYTES_DEFAULT;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::Instant;

use crate::store::Store;
use crate::transaction::detached;
use crate::{Sqlite, error, number};

/// The version of the schema that this program needs.
pub const VERSION: u32 = 1;

/// The steps, each once and in this order.
const STEPS: [(u32, &str); 1] = [(1, include_str!("../migrations/0001.sql"))];

/// The version that is there; `None` without tables.
pub(crate) async fn version(connection: &mut SqliteConnection) -> Result<Option<u32>, sqlx::Error> {
    let there: bool = sqlx::query_scalar(
        "select exists (select 1 from sqlite_master where type = 'table' \
         and name = 'posthaste_schema')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !there {
        return Ok(None);
    }
    let version: i64 = sqlx::query_scalar("select coalesce(max(version), 0) from posthaste_schema")
        .fetch_one(connection)
        .await?;
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

/// The error for a table or a column that is missing.
pub(crate) fn missing(said: &str) -> StoreError {
    StoreError::Schema {
        found: None,
        needed: VERSION,
        advice: format!(
            "the tables of Posthaste are not complete ({said}); run `posthaste migrate`"
        ),
    }
}

impl Store {
    /// A connection outside of the pool, that may create the file if the options say so.
    async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        let options = (*self.connect_options()).clone();
        let options = options.create_if_missing(self.options.create);
        options.connect().await.map_err(self.failed("opening the database"))
    }

    async fn migrate(&self) -> Result<Migrated, StoreError> {
        let mut notes = Vec::new();
        let created = !self.path().exists();
        let mut connection = self.connect().await?;
        if created && self.path().exists() {
            notes.push(format!("created the file {}", self.path().display()));
        }
        self.refuse_encoding(&mut connection).await?;
        let before = version(&mut connection).await.map_err(self.failed("reading the schema"))?;
        if before.is_some_and(|before| before > VERSION) {
            refuse_other(before)?;
        }
        notes.extend(self.switch_to_wal(&mut connection).await?);
        let from = self.apply(&mut connection, &mut notes).await?;
        connection.close().await.map_err(self.failed("closing the database"))?;
        Ok(Migrated { from, to: VERSION, notes })
    }

    /// Applies the steps that are missing, as they are once no other process can write.
    async fn apply(
        &self,
        connection: &mut SqliteConnection,
        notes: &mut Vec<String>,
    ) -> Result<Option<u32>, StoreError> {
        let failed = self.failed("migrating the schema");
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(&failed)?;
        let from = version(&mut transaction).await.map_err(&failed)?;
        if from.is_some_and(|from| from > VERSION) {
            refuse_other(from)?;
        }
        for (step, script) in STEPS.iter().filter(|(step, _)| *step > from.unwrap_or(0)) {
            sqlx::raw_sql(*script).execute(&mut *transaction).await.map_err(&failed)?;
            sqlx::query("insert into posthaste_schema (version) values (?)")
                .bind(step)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        notes.extend(self.raise_payload_limit(&mut transaction).await.map_err(&failed)?);
        transaction.commit().await.map_err(failed)?;
        Ok(from)
    }

    /// Tells the table of a payload limit above the one that it has.
    async fn raise_payload_limit(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Option<String>, sqlx::Error> {
        let wanted = number::signed(self.limits().payload());
        let there: Option<i64> =
            sqlx::query_scalar("select value from posthaste_setting where name = 'payload_limit'")
                .fetch_optional(&mut *connection)
                .await?;
        let default = number::signed(PAYLOAD_BYTES_DEFAULT);
        if wanted <= there.unwrap_or(default) {
            return Ok(None);
        }
        sqlx::query(
            "insert into posthaste_setting (name, value) values ('payload_limit', ?1) \
             on conflict (name) do update set value = excluded.value",
        )
        .bind(wanted)
        .execute(connection)
        .await?;
        Ok(Some(format!("raised the payload limit to {wanted} bytes")))
    }

    /// Lengths are counted in bytes of UTF-8, which a database in UTF-16 does not store.
    async fn refuse_encoding(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let encoding: String = sqlx::query_scalar("PRAGMA encoding")
            .fetch_one(connection)
            .await
            .map_err(self.failed("opening the database"))?;
        if encoding == "UTF-8" {
            return Ok(());
        }
        Err(StoreError::rejected(format!(
            "the database stores text as {encoding}; Posthaste needs one in UTF-8 (dump it into a \
             new file)"
        )))
    }

    /// Switches the file to a write-ahead log. Others may be using the file or doing the same, and
    /// SQLite does not wait for them here, so this asks again for as long as a statement may wait.
    async fn switch_to_wal(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Option<String>, StoreError> {
        let deadline = Instant::now() + self.options.busy_timeout;
        let failed = self.failed("switching the file to a write-ahead log");
        let was: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut *connection)
            .await
            .map_err(&failed)?;
        if was == "wal" || was == "memory" {
            return Ok(None);
        }
        loop {
            let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode = wal");
            match mode.fetch_one(&mut *connection).await {
                Ok(mode) if mode == "wal" => {
                    return Ok(Some(format!("switched the journal mode from {was} to wal")));
                }
                Ok(mode) => {
                    return Ok(Some(format!("the journal mode stays {mode}; wal is not possible")));
                }
                Err(error) if error::is_busy(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

#[async_trait]
impl Schema for Sqlite {
    async fn version(&self) -> Result<Option<u32>, StoreError> {
        let doing = "looking at the schema";
        let store = &self.store;
        let mut connection = store.pool.acquire().await.map_err(store.failed(doing))?;
        version(&mut connection).await.map_err(store.failed(doing))
    }

    async fn migrate(&self) -> Result<Migrated, StoreError> {
        let store = Arc::clone(&self.store);
        detached(async move { store.migrate().await }).await
    }

    /// A copy of the file goes on where the file was: its checkpoints are row numbers, which mean
    /// the same in it.
    async fn adopt(&self, _actor: &str) -> Result<Vec<String>, StoreError> {
        self.store.check().await.map(|()| Vec::new())
    }

    fn script(&self) -> String {
        let mut script = String::from("PRAGMA journal_mode = wal;\nBEGIN IMMEDIATE;\n");
        for (step, statements) in STEPS {
            script.push_str(statements);
            script.push_str(&format!("INSERT INTO posthaste_schema (version) VALUES ({step});\n"));
        }
        script.push_str("COMMIT;\n");
        script
    }
}
