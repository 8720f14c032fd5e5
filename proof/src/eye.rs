//! A look at the tables from outside, in whichever database they are.
//!
//! Statements are written with the names of SQLite, such as `posthaste_outbox`; in PostgreSQL the
//! same tables stand in a schema, `posthaste.outbox`.

use std::time::Duration;

use sqlx::postgres::{PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, FromRow};

/// How long a look may wait for a server that is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the [module](self).
#[derive(Clone, Debug)]
pub enum Eye {
    /// Into a file.
    Sqlite(SqlitePool),
    /// Into a server.
    Postgres(PgPool),
}

impl Eye {
    /// Into a PostgreSQL database. Connects when it is first used.
    ///
    /// # Errors
    /// If the URL makes no sense.
    pub fn postgres(url: &str) -> Result<Self, sqlx::Error> {
        let pool = PgPoolOptions::new().max_connections(3).acquire_timeout(PATIENCE);
        Ok(Self::Postgres(pool.connect_lazy(url)?))
    }

    /// Whether one transaction writes at a time, so that numbers say the order of commits.
    pub fn has_one_writer(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// The rows that a question finds.
    ///
    /// # Errors
    /// If the database says so, or is away.
    pub async fn rows<T>(&self, question: &str) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        match self {
            Self::Sqlite(pool) => {
                sqlx::query_as(AssertSqlSafe(question.to_owned())).fetch_all(pool).await
            }
            Self::Postgres(pool) => {
                let question = question.replace("posthaste_", "posthaste.");
                sqlx::query_as(AssertSqlSafe(question)).fetch_all(pool).await
            }
        }
    }

    /// The number that a question finds.
    ///
    /// # Errors
    /// As [`Eye::rows`].
    pub async fn number(&self, question: &str) -> Result<i64, sqlx::Error> {
        let rows: Vec<(i64,)> = self.rows(question).await?;
        rows.first().map(|row| row.0).ok_or(sqlx::Error::RowNotFound)
    }

    /// Runs statements.
    ///
    /// # Errors
    /// As [`Eye::rows`].
    pub async fn execute(&self, statements: String) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(pool) => {
                sqlx::raw_sql(AssertSqlSafe(statements)).execute(pool).await.map(|_| ())
            }
            Self::Postgres(pool) => {
                sqlx::raw_sql(AssertSqlSafe(statements)).execute(pool).await.map(|_| ())
            }
        }
    }
}
