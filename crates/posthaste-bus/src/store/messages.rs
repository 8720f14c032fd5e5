//! Addresses and the messages that were published to them.

use bytes::Bytes;
use posthaste_core::{Headers, MessageId, Timestamp};
use rusqlite::types::Type;
use rusqlite::{ErrorCode, OptionalExtension, Row, params};

use super::Store;
use crate::parcel::Parcel;

/// A row of the table of addresses.
#[derive(Clone, Debug)]
pub(crate) struct AddressRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) is_queue: bool,
    /// Number of the last message that is there; 0 if there is none.
    pub(crate) last: i64,
}

impl Store {
    /// All addresses.
    pub(crate) fn addresses(&self) -> rusqlite::Result<Vec<AddressRow>> {
        let mut statement = self.statement(
            "SELECT id, name, is_queue, \
             coalesce((SELECT max(seq) FROM message WHERE address = address.id), 0) \
             FROM address",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(AddressRow {
                id: row.get(0)?,
                name: row.get(1)?,
                is_queue: row.get(2)?,
                last: row.get(3)?,
            })
        })?;
        rows.collect()
    }

    /// A new address.
    pub(crate) fn add_address(&self, name: &str) -> rusqlite::Result<i64> {
        self.statement("INSERT INTO address (name) SELECT ?1")?.insert(params![name])
    }

    /// Makes an address a queue.
    pub(crate) fn make_queue(&self, address: i64) -> rusqlite::Result<()> {
        self.statement("UPDATE address SET is_queue = 1 WHERE id = ?1")?
            .execute(params![address])
            .map(drop)
    }

    /// Keeps a message and returns its number.
    pub(crate) fn add_message(&self, address: i64, parcel: &Parcel) -> rusqlite::Result<i64> {
        let headers = if parcel.headers.is_empty() {
            "{}".to_owned()
        } else {
            serde_json::to_string(&parcel.headers)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?
        };
        self.statement(
            "INSERT INTO message (address, id, kind, key, headers, content_type, stated_at, \
                 is_text, payload) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9",
        )?
        .insert(params![
            address,
            parcel.id.as_bytes(),
            parcel.kind,
            parcel.key,
            headers,
            parcel.content_type,
            parcel.stated_at.as_micros(),
            parcel.is_text,
            parcel.payload.as_ref(),
        ])
    }

    /// A message with its address; `None` if its row is gone or is not one that we have written.
    /// One on a damaged page is an error the first time, because SQLite writes nothing more in that
    /// transaction, and `None` from then on.
    pub(crate) fn message(&self, sequence: i64) -> rusqlite::Result<Option<Parcel>> {
        if self.damaged.borrow().contains(&sequence) {
            return Ok(None);
        }
        let read = self
            .statement(
                "SELECT m.id, a.name, m.kind, m.key, m.headers, m.content_type, m.stated_at, \
                 m.is_text, m.payload \
                 FROM message m JOIN address a ON a.id = m.address WHERE m.seq = ?1",
            )?
            .query_row(params![sequence], parcel)
            .optional();
        match read {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                self.damaged.borrow_mut().insert(sequence);
                Err(error)
            }
            Err(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::Utf8Error(..),
            ) => Ok(None),
            read => read,
        }
    }

    /// How many messages of an address above a number a subscription has not seen the end of,
    /// without those that stand aside.
    pub(crate) fn count_open(
        &self,
        subscription: i64,
        address: i64,
        sequence: i64,
    ) -> rusqlite::Result<u64> {
        let over: u64 = self
            .statement(
                "SELECT count(*) FROM exception \
                 WHERE subscription = ?1 AND seq > ?2 AND state <> 'retry'",
            )?
            .query_row(params![subscription, sequence], |row| row.get(0))?;
        Ok(self.count_above(address, sequence)?.saturating_sub(over))
    }

    /// How many messages of an address are above a number.
    pub(crate) fn count_above(&self, address: i64, sequence: i64) -> rusqlite::Result<u64> {
        self.statement("SELECT count(*) FROM message WHERE address = ?1 AND seq > ?2")?
            .query_row(params![address, sequence], |row| row.get(0))
    }
}

/// Reads a parcel from nine columns, the first of them the id.
fn parcel(row: &Row<'_>) -> rusqlite::Result<Parcel> {
    let headers: String = row.get(4)?;
    let headers: Headers = serde_json::from_str(&headers).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(4, Type::Text, Box::new(error))
    })?;
    Ok(Parcel {
        id: MessageId::from_bytes(row.get(0)?),
        address: row.get(1)?,
        kind: row.get(2)?,
        key: row.get(3)?,
        headers,
        content_type: row.get(5)?,
        stated_at: Timestamp::from_micros(row.get(6)?),
        is_text: row.get(7)?,
        payload: Bytes::from(row.get::<_, Vec<u8>>(8)?),
    })
}
