//! Writing to the outbox inside the caller's transaction.
//!
//! The schema is not looked at here: a writer may have no right to, and the columns that the
//! statement names are the contract of every version.

use posthaste_core::transaction::OutboxWriter;
use posthaste_core::{Limits, Message, StoreError};
use sqlx::postgres::PgConnection;

use crate::Postgres;
use crate::columns::{self, Columns, INSERT};
use crate::store::Store;

impl Store {
    /// Checks all messages, then writes them in one statement, or in one savepoint where they are
    /// more than one statement can take.
    pub(crate) async fn enqueue(
        &self,
        connection: &mut PgConnection,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        columns::check(self.limits(), messages)?;
        match columns::portions(messages).as_slice() {
            [] => Ok(()),
            [all] => self.insert(connection, all).await,
            portions => {
                self.mark(connection, "savepoint posthaste_enqueue").await?;
                for portion in portions {
                    if let Err(error) = self.insert(connection, portion).await {
                        self.mark(connection, "rollback to posthaste_enqueue").await?;
                        return Err(error);
                    }
                }
                self.mark(connection, "release posthaste_enqueue").await
            }
        }
    }

    async fn insert(
        &self,
        connection: &mut PgConnection,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        let columns = Columns::of(messages)?;
        self.query(INSERT)
            .bind(columns.ids)
            .bind(columns.topics)
            .bind(columns.kinds)
            .bind(columns.keys)
            .bind(columns.content_types)
            .bind(columns.stated_at)
            .bind(columns.due_at)
            .bind(columns.headers)
            .bind(columns.payloads)
            .bind(columns.payloads_of_bytes)
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(self.failed("writing to the outbox"))
    }

    async fn mark(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> Result<(), StoreError> {
        let done = sqlx::raw_sql(statement).execute(connection).await;
        done.map(|_| ()).map_err(self.failed("writing many messages"))
    }
}

impl OutboxWriter for Postgres {
    const UNIQUE_IDS: bool = false;

    async fn enqueue(
        &self,
        connection: &mut PgConnection,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        self.store.enqueue(connection, messages).await
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }
}
