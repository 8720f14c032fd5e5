//! Removing bodies that nobody needs any more.

use rusqlite::params;

use super::Store;

impl Store {
    /// Removes bodies of an address above `from` and up to `to` that no dead letter and no
    /// deferred message holds, looking at `limit` of them at most. Returns how far it looked.
    pub(crate) fn remove_bodies(
        &self,
        address: i64,
        from: i64,
        to: i64,
        limit: usize,
    ) -> rusqlite::Result<i64> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let end: Option<i64> = self
            .statement(
                "SELECT max(seq) FROM (SELECT seq FROM message \
                 WHERE address = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4)",
            )?
            .query_row(params![address, from, to, limit], |row| row.get(0))?;
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
