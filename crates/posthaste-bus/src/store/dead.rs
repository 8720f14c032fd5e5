//! Dead letters and deferred messages: lists, and the record of what people did with them.

use posthaste_core::{MessageId, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, messages};
use crate::parcel::Parcel;
use crate::protocol::Deferred;

/// A dead letter with the subscription it is of.
#[derive(Clone, Debug)]
pub(crate) struct DeadRow {
    pub(crate) subscription: i64,
    pub(crate) sequence: i64,
    pub(crate) deliveries: u32,
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) at: Timestamp,
    pub(crate) parcel: Parcel,
}

const COLUMNS: &str = "e.subscription, e.seq, e.deliveries, coalesce(e.reason, ''), \
     coalesce(e.detail, ''), coalesce(e.at, 0), m.id, a.name, m.kind, m.key, m.headers, \
     m.content_type, m.stated_at, m.is_text, m.payload \
     FROM exception e JOIN message m ON m.seq = e.seq JOIN address a ON a.id = m.address \
     WHERE e.state = 'dead'";

impl Store {
    /// Dead letters after `(number, subscription)`, oldest message first, until `limit` of them or
    /// `most_bytes` are there.
    pub(crate) fn dead(
        &self,
        topic: Option<&str>,
        id: Option<MessageId>,
        after: (i64, i64),
        limit: u64,
        most_bytes: usize,
    ) -> rusqlite::Result<Vec<DeadRow>> {
        let mut statement = self.statement(&format!(
            "SELECT {COLUMNS} AND (e.seq, e.subscription) > (?1, ?2) \
             AND (?3 IS NULL OR a.name = ?3) AND (?4 IS NULL OR m.id = ?4) \
             ORDER BY e.seq, e.subscription"
        ))?;
        let id = id.map(|id| *id.as_bytes());
        let mut rows = statement.query(params![after.0, after.1, topic, id])?;
        let (mut letters, mut bytes) = (Vec::new(), 0);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        while letters.len() < limit && bytes < most_bytes {
            let Some(row) = rows.next()? else { break };
            let letter = dead_row(row)?;
            bytes += letter.parcel.size();
            letters.push(letter);
        }
        Ok(letters)
    }

    /// One dead letter.
    pub(crate) fn dead_letter(
        &self,
        subscription: i64,
        sequence: i64,
    ) -> rusqlite::Result<Option<DeadRow>> {
        self.statement(&format!("SELECT {COLUMNS} AND e.subscription = ?1 AND e.seq = ?2"))?
            .query_row(params![subscription, sequence], dead_row)
            .optional()
    }

    /// Writes down that somebody reposted or discarded a dead letter.
    pub(crate) fn record_act(
        &self,
        at: Timestamp,
        actor: &str,
        act: &str,
        reference: &str,
        message: MessageId,
        reason: Option<&str>,
    ) -> rusqlite::Result<()> {
        self.statement(
            "INSERT INTO act (at, actor, act, reference, message_id, reason) \
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6",
        )?
        .execute(params![at.as_micros(), actor, act, reference, message.as_bytes(), reason])
        .map(drop)
    }

    /// Deferred messages of a subscription after a number.
    pub(crate) fn deferred(
        &self,
        subscription: i64,
        after: i64,
        limit: u32,
    ) -> rusqlite::Result<Vec<Deferred>> {
        let mut statement = self.statement(
            "SELECT e.seq, m.id, m.kind, m.key, e.deliveries \
             FROM exception e JOIN message m ON m.seq = e.seq \
             WHERE e.subscription = ?1 AND e.seq > ?2 AND e.state = 'deferred' \
             ORDER BY e.seq LIMIT ?3",
        )?;
        let rows = statement.query_map(params![subscription, after, limit], |row| {
            Ok(Deferred {
                sequence: row.get(0)?,
                id: MessageId::from_bytes(row.get(1)?),
                kind: row.get(2)?,
                key: row.get(3)?,
                deliveries: row.get(4)?,
            })
        })?;
        rows.collect()
    }

    /// Deliveries of a deferred message; `None` if it is not deferred.
    pub(crate) fn deferred_deliveries(
        &self,
        subscription: i64,
        sequence: i64,
    ) -> rusqlite::Result<Option<u32>> {
        self.statement(
            "SELECT deliveries FROM exception \
                 WHERE subscription = ?1 AND seq = ?2 AND state = 'deferred'",
        )?
        .query_row(params![subscription, sequence], |row| row.get(0))
        .optional()
    }

    /// How many dead letters and deferred messages a subscription has.
    pub(crate) fn count_aside(&self, subscription: i64) -> rusqlite::Result<(u64, u64)> {
        self.statement(
            "SELECT count(*) FILTER (WHERE state = 'dead'), \
                 count(*) FILTER (WHERE state = 'deferred') \
                 FROM exception WHERE subscription = ?1",
        )?
        .query_row(params![subscription], |row| Ok((row.get(0)?, row.get(1)?)))
    }
}

fn dead_row(row: &Row<'_>) -> rusqlite::Result<DeadRow> {
    Ok(DeadRow {
        subscription: row.get(0)?,
        sequence: row.get(1)?,
        deliveries: row.get(2)?,
        reason: row.get(3)?,
        detail: row.get(4)?,
        at: Timestamp::from_micros(row.get(5)?),
        parcel: messages::parcel_at(row, 6)?,
    })
}
