//! Writing to the outbox inside the caller's transaction.

use std::fmt::Write as _;

use posthaste_core::transaction::OutboxWriter;
use posthaste_core::{Limits, Message, StoreError};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use crate::Sqlite;
use crate::store::Store;

const COLUMNS: usize = 9;

/// Most rows of one statement: SQLite takes 32766 parameters.
const ROWS: usize = 3600;

/// The range in which a number of milliseconds cannot be mistaken for seconds or microseconds,
/// the same as in the table.
const DUE: std::ops::RangeInclusive<i64> = 100_000_000_000..=99_999_999_999_999;

/// Milliseconds of a due time, rounded up so that nothing is due early. What was due before 1973
/// is due at once like anything that is past, so it is written as the earliest that the table
/// takes.
fn due_millis(message: &Message) -> Option<i64> {
    let rounded_up = message
        .due_at
        .map(|due| due.as_millis().saturating_add(i64::from(due.as_micros().rem_euclid(1000) > 0)));
    rounded_up.map(|due| due.max(*DUE.start()))
}

fn check(limits: Limits, message: &Message) -> Result<(), StoreError> {
    let refuse = |what: String| {
        StoreError::rejected(format!("message {}: {what}; nothing was written", message.id))
    };
    limits.check(message).map_err(|invalid| refuse(invalid.to_string()))?;
    match due_millis(message) {
        Some(due) if !DUE.contains(&due) => Err(refuse("due_at is after the year 5138".to_owned())),
        _ => Ok(()),
    }
}

fn statement(rows: usize) -> String {
    let mut sql = String::with_capacity(160 + rows * 20);
    sql.push_str(
        "insert into posthaste_outbox \
         (id, topic, kind, key, content_type, stated_at, due_at, headers, payload) values ",
    );
    for row in 0..rows {
        let comma = if row == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(sql, "{comma}(?{})", ",?".repeat(COLUMNS - 1));
    }
    sql
}

impl Store {
    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        let mut query =
            sqlx::query(AssertSqlSafe(statement(messages.len()))).persistent(messages.len() <= 4);
        for message in messages {
            let headers = serde_json::to_string(&message.headers).map_err(|error| {
                StoreError::rejected(format!("the headers cannot be written as JSON: {error}"))
            })?;
            query = query
                .bind(message.id.to_string())
                .bind(&message.topic)
                .bind(&message.kind)
                .bind(&message.key)
                .bind(&message.content_type)
                .bind(message.stated_at.as_millis().min(*DUE.end()))
                .bind(due_millis(message))
                .bind(headers);
            query = match message.payload.as_text() {
                Some(text) => query.bind(text),
                None => query.bind(message.payload.as_bytes().as_ref()),
            };
        }
        query.execute(connection).await.map_err(self.failed("writing to the outbox"))?;
        Ok(())
    }

    /// Checks all messages, then writes them in one statement, or in one savepoint where they are
    /// more than one statement can take.
    pub(crate) async fn enqueue(
        &self,
        connection: &mut SqliteConnection,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        messages.iter().try_for_each(|message| check(self.limits(), message))?;
        if messages.is_empty() {
            return Ok(());
        }
        self.check_schema(connection).await?;
        if messages.len() <= ROWS {
            return self.insert(connection, messages).await;
        }
        self.mark(connection, "savepoint posthaste_enqueue").await?;
        for chunk in messages.chunks(ROWS) {
            if let Err(error) = self.insert(connection, chunk).await {
                self.unmark(connection).await;
                return Err(error);
            }
        }
        self.mark(connection, "release posthaste_enqueue").await
    }

    /// Takes back what was written since the savepoint. If the whole transaction is gone already,
    /// so is all of that, and the reason is the error that came first.
    async fn unmark(&self, connection: &mut SqliteConnection) {
        for statement in ["rollback to posthaste_enqueue", "release posthaste_enqueue"] {
            if let Err(error) = self.mark(connection, statement).await {
                tracing::debug!(%error, "the transaction has ended already");
                return;
            }
        }
    }

    async fn mark(
        &self,
        connection: &mut SqliteConnection,
        statement: &'static str,
    ) -> Result<(), StoreError> {
        let done = sqlx::query(statement).execute(connection).await;
        done.map(|_| ()).map_err(self.failed("writing many messages"))
    }
}

impl OutboxWriter for Sqlite {
    const UNIQUE_IDS: bool = true;

    async fn enqueue(
        &self,
        connection: &mut SqliteConnection,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        self.store.enqueue(connection, messages).await
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_statement_stays_within_the_parameters_of_sqlite() {
        assert_eq!(statement(2).matches('?').count(), 2 * COLUMNS);
        const { assert!(ROWS * COLUMNS <= 32766) };
    }
}
