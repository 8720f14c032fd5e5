//! Subscriptions: their watermarks and what is out of the ordinary.

use posthaste_core::Timestamp;
use rusqlite::params;

use super::Store;
use crate::engine::change::Change;

/// A row of the table of subscriptions.
#[derive(Clone, Debug)]
pub(crate) struct SubscriptionRow {
    pub(crate) id: i64,
    pub(crate) address: i64,
    pub(crate) name: String,
    pub(crate) is_ordered: Option<bool>,
    pub(crate) low: i64,
    pub(crate) delivered_to: i64,
    /// Rows that the watermark will pass one day: the lowest and the highest number.
    pub(crate) rows: Option<(i64, i64)>,
}

/// A message that is not settled, as a page of the file shows it.
#[derive(Clone, Debug)]
pub(crate) struct PageRow {
    pub(crate) sequence: i64,
    pub(crate) key: Option<String>,
    /// State, deliveries and due time, if there is a row.
    pub(crate) exception: Option<(String, u32, Option<i64>)>,
}

impl Store {
    /// All subscriptions.
    pub(crate) fn subscriptions(&self) -> rusqlite::Result<Vec<SubscriptionRow>> {
        let mut statement = self.statement(
            "SELECT s.id, s.address, s.name, s.is_ordered, s.low, s.delivered_to, \
             min(e.seq), max(e.seq) \
             FROM subscription s LEFT JOIN exception e \
             ON e.subscription = s.id AND e.state IN ('settled', 'retry') \
             GROUP BY s.id ORDER BY s.id",
        )?;
        let rows = statement.query_map([], |row| {
            let rows: (Option<i64>, Option<i64>) = (row.get(6)?, row.get(7)?);
            Ok(SubscriptionRow {
                id: row.get(0)?,
                address: row.get(1)?,
                name: row.get(2)?,
                is_ordered: row.get(3)?,
                low: row.get(4)?,
                delivered_to: row.get(5)?,
                rows: rows.0.zip(rows.1),
            })
        })?;
        rows.collect()
    }

    /// The numbers of all subscriptions.
    pub(crate) fn subscription_ids(&self) -> rusqlite::Result<Vec<i64>> {
        let mut statement = self.statement("SELECT id FROM subscription")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect()
    }

    /// A new subscription that begins after number `low`.
    pub(crate) fn add_subscription(
        &self,
        address: i64,
        name: &str,
        is_ordered: Option<bool>,
        low: i64,
    ) -> rusqlite::Result<i64> {
        self.statement(
            "INSERT INTO subscription (address, name, is_ordered, low, delivered_to) \
                 SELECT ?1, ?2, ?3, ?4, ?4",
        )?
        .insert(params![address, name, is_ordered, low])
    }

    /// Decides whether a subscription is ordered.
    pub(crate) fn set_ordered(&self, subscription: i64, is_ordered: bool) -> rusqlite::Result<()> {
        self.statement("UPDATE subscription SET is_ordered = ?2 WHERE id = ?1")?
            .execute(params![subscription, is_ordered])
            .map(drop)
    }

    /// Moves the watermarks.
    pub(crate) fn set_marks(
        &self,
        subscription: i64,
        low: i64,
        delivered_to: i64,
    ) -> rusqlite::Result<()> {
        self.statement("UPDATE subscription SET low = ?2, delivered_to = ?3 WHERE id = ?1")?
            .execute(params![subscription, low, delivered_to])
            .map(drop)
    }

    /// Removes the rows that the watermark has passed.
    pub(crate) fn remove_passed(&self, subscription: i64, low: i64) -> rusqlite::Result<()> {
        self.statement(
            "DELETE FROM exception WHERE subscription = ?1 AND seq <= ?2 \
                 AND state IN ('settled', 'retry')",
        )?
        .execute(params![subscription, low])
        .map(drop)
    }

    /// Writes one change.
    pub(crate) fn write_change(
        &self,
        subscription: i64,
        change: &Change,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        match change {
            Change::Settled { sequence } => {
                self.put(subscription, *sequence, "settled", 0, None, None)
            }
            Change::Again { sequence, deliveries, wait, aside } => {
                let due = wait.map(|wait| now.plus(wait).as_millis());
                let state = if *aside { "again" } else { "retry" };
                self.put(subscription, *sequence, state, *deliveries, due, None)
            }
            Change::Deferred { sequence, deliveries } => {
                self.put(subscription, *sequence, "deferred", *deliveries, None, None)
            }
            Change::Dead { sequence, deliveries, reason, detail } => {
                let why = Some((reason.as_str(), detail.as_str(), now));
                self.put(subscription, *sequence, "dead", *deliveries, None, why)
            }
            Change::Removed { sequence } => self
                .statement("DELETE FROM exception WHERE subscription = ?1 AND seq = ?2")?
                .execute(params![subscription, sequence])
                .map(drop),
        }
    }

    /// The next messages of a subscription above `from`, settled ones included (they move the
    /// watermark), in the order of their numbers.
    pub(crate) fn page(
        &self,
        subscription: i64,
        address: i64,
        from: i64,
        limit: usize,
    ) -> rusqlite::Result<Vec<PageRow>> {
        let mut statement = self.statement(
            "SELECT m.seq, m.key, e.state, e.deliveries, e.available_at \
             FROM message m LEFT JOIN exception e ON e.subscription = ?1 AND e.seq = m.seq \
             WHERE m.address = ?2 AND m.seq > ?3 ORDER BY m.seq LIMIT ?4",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![subscription, address, from, limit], |row| {
            let state: Option<String> = row.get(2)?;
            let exception = match state {
                Some(state) => Some((state, row.get(3)?, row.get(4)?)),
                None => None,
            };
            Ok(PageRow { sequence: row.get(0)?, key: row.get(1)?, exception })
        })?;
        rows.collect()
    }

    /// Reposted dead letters, which the watermark knows nothing of.
    pub(crate) fn aside(&self, subscription: i64) -> rusqlite::Result<Vec<PageRow>> {
        let mut statement = self.statement(
            "SELECT e.seq, m.key, e.state, e.deliveries, e.available_at \
             FROM exception e JOIN message m ON m.seq = e.seq \
             WHERE e.subscription = ?1 AND e.state = 'again' ORDER BY e.seq",
        )?;
        let rows = statement.query_map(params![subscription], |row| {
            let exception = Some((row.get(2)?, row.get(3)?, row.get(4)?));
            Ok(PageRow { sequence: row.get(0)?, key: row.get(1)?, exception })
        })?;
        rows.collect()
    }

    fn put(
        &self,
        subscription: i64,
        sequence: i64,
        state: &str,
        deliveries: u32,
        due: Option<i64>,
        why: Option<(&str, &str, Timestamp)>,
    ) -> rusqlite::Result<()> {
        let (reason, detail, at) = match why {
            Some((reason, detail, at)) => (Some(reason), Some(detail), Some(at.as_micros())),
            None => (None, None, None),
        };
        self.statement(
            "INSERT OR REPLACE INTO exception (subscription, seq, state, deliveries, \
                 available_at, reason, detail, at) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8",
        )?
        .execute(params![subscription, sequence, state, deliveries, due, reason, detail, at])
        .map(drop)
    }
}
