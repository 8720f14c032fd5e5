//! Removing bodies that nobody needs any more.

use rusqlite::params;

use super::Store;

impl Store {
    /// Removes bodies of an address above `from` and up to `to` that no dead letter and no
    /// deferred message holds, looking at `limit` of them and `most_bytes` at most (one may be
    /// larger). Returns how far it looked.
    pub(crate) fn remove_bodies(
        &self,
        address: i64,
        from: i64,
        to: i64,
        limit: usize,
        most_bytes: usize,
    ) -> rusqlite::Result<i64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut looking = self.statement(
            "SELECT seq, length(payload) FROM message \
             WHERE address = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4",
        )?;
        let (mut end, mut bytes) = (None, 0);
        let mut rows = looking.query(params![address, from, to, limit])?;
        while bytes < most_bytes {
            let Some(row) = rows.next()? else { break };
            end = Some(row.get(0)?);
            bytes += row.get::<_, Option<usize>>(1)?.unwrap_or_default();
        }
        drop(rows);
        let Some(end) = end else { return Ok(to) };
        self.statement(
            "DELETE FROM message WHERE address = ?1 AND seq > ?2 AND seq <= ?3 \
                 AND NOT EXISTS (SELECT 1 FROM exception e WHERE e.seq = message.seq \
                 AND e.state IN ('again', 'dead', 'deferred'))",
        )?
        .execute(params![address, from, end])?;
        Ok(end)
    }
}
