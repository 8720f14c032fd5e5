//! Dead letters and deferred messages: lists, and the record of what people did with them.

use bytes::Bytes;
use posthaste_core::{Headers, MessageId, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::Store;
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

/// A dead letter without its body.
#[derive(Clone, Debug)]
pub(crate) struct DeadKey {
    pub(crate) subscription: i64,
    pub(crate) sequence: i64,
    /// All zeros if its row is missing or damaged.
    pub(crate) id: MessageId,
    pub(crate) key: Option<String>,
}

/// Dead letters of one page, at most.
const PAGE: u64 = 1000;

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
        let mut statement = self.statement(
            "SELECT e.subscription, e.seq \
             FROM exception e JOIN subscription s ON s.id = e.subscription \
             JOIN address a ON a.id = s.address LEFT JOIN message m ON m.seq = e.seq \
             WHERE e.state = 'dead' AND (e.seq, e.subscription) > (?1, ?2) \
             AND (?3 IS NULL OR a.name = ?3) AND (?4 IS NULL OR m.id = ?4) \
             ORDER BY e.seq, e.subscription LIMIT ?5",
        )?;
        let id = id.map(|id| *id.as_bytes());
        let found = params![after.0, after.1, topic, id, limit.min(PAGE)];
        let keys = statement.query_map(found, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (mut letters, mut bytes) = (Vec::new(), 0);
        for key in keys {
            let (subscription, sequence) = key?;
            if let Some(letter) = self.dead_letter(subscription, sequence)? {
                bytes += letter.parcel.size() + letter.reason.len() + letter.detail.len();
                letters.push(letter);
            }
            if bytes >= most_bytes {
                break;
            }
        }
        Ok(letters)
    }

    /// One dead letter. One whose message is missing or damaged has an empty body, so that it can
    /// still be seen and given up.
    pub(crate) fn dead_letter(
        &self,
        subscription: i64,
        sequence: i64,
    ) -> rusqlite::Result<Option<DeadRow>> {
        let letter = self
            .statement(
                "SELECT e.deliveries, coalesce(e.reason, ''), coalesce(e.detail, ''), \
                 coalesce(e.at, 0), a.name \
                 FROM exception e JOIN subscription s ON s.id = e.subscription \
                 JOIN address a ON a.id = s.address \
                 WHERE e.state = 'dead' AND e.subscription = ?1 AND e.seq = ?2",
            )?
            .query_row(params![subscription, sequence], |row| {
                let at = Timestamp::from_micros(row.get(3)?);
                let (deliveries, reason, detail) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let parcel = unreadable(row.get(4)?);
                let letter =
                    DeadRow { subscription, sequence, deliveries, reason, detail, at, parcel };
                Ok(letter)
            })
            .optional()?;
        let Some(mut letter) = letter else { return Ok(None) };
        match self.message(sequence)? {
            Some(parcel) => letter.parcel = parcel,
            None => letter.parcel.id = self.message_id(sequence),
        }
        Ok(Some(letter))
    }

    /// The same without its body.
    pub(crate) fn dead_key(
        &self,
        subscription: i64,
        sequence: i64,
    ) -> rusqlite::Result<Option<DeadKey>> {
        let is_dead = self
            .statement(
                "SELECT 1 FROM exception WHERE state = 'dead' AND subscription = ?1 AND seq = ?2",
            )?
            .exists(params![subscription, sequence])?;
        if !is_dead {
            return Ok(None);
        }
        let key: rusqlite::Result<Option<String>> = self
            .statement("SELECT key FROM message WHERE seq = ?1")?
            .query_row([sequence], |row| row.get(0));
        let id = self.message_id(sequence);
        Ok(Some(DeadKey { subscription, sequence, id, key: key.unwrap_or_default() }))
    }

    /// The id of a message, or zeros if that cannot be read.
    fn message_id(&self, sequence: i64) -> MessageId {
        let id = self
            .statement("SELECT id FROM message WHERE seq = ?1")
            .and_then(|mut found| found.query_row([sequence], |row| row.get::<_, [u8; 16]>(0)));
        MessageId::from_bytes(id.unwrap_or_default())
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

/// What stands for a message that cannot be read.
fn unreadable(address: String) -> Parcel {
    Parcel {
        id: MessageId::from_bytes([0; 16]),
        address,
        kind: String::new(),
        key: None,
        headers: Headers::new(),
        content_type: None,
        stated_at: Timestamp::from_micros(0),
        is_text: false,
        payload: Bytes::new(),
    }
}
