//! Partitions of the outbox: made ahead of the sequence, emptied when they are old, and those that
//! are empty put together.
//!
//! A writer never fails for want of a partition, whatever number it brings: together they cover
//! everything from the lowest to the highest number at every moment. The last one has no end, so
//! that rows go there where nobody makes partitions. It is moved up, and empty ones are put
//! together, in one short transaction for which no transaction that has written to the outbox may
//! be open: it is tried now and then and given up within milliseconds, for which writers wait.
//!
//! A partition is emptied while it alone is locked. Writers are not in it, and readers wait: so
//! what is not sent yet, or may still be needed, is known exactly.

use std::time::Duration;

use posthaste_core::StoreError;
use posthaste_core::frontier::Frontier;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::layout::{Change, Layout};
use crate::lent::Lent;
use crate::store::Store;
use crate::upkeep::Passed;
use crate::{error, number};

/// How often the lock on the whole outbox is tried for in one go, and the time in between.
const TRIES: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(40);

/// Whether this role owns the outbox, as a member of the role that does.
const OWNS: &str = "select pg_catalog.pg_has_role(c.relowner, 'USAGE') from pg_catalog.pg_class c \
     where c.oid = 'posthaste.outbox'::pg_catalog.regclass";

/// The partitions and their bounds as the server prints them; whether there is a row in them is
/// asked apart.
const PARTITIONS: &str = "select c.relname::text, pg_catalog.pg_get_expr(c.relpartbound, c.oid) \
     from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid \
     where i.inhparent = 'posthaste.outbox'::pg_catalog.regclass and not i.inhdetachpending";

/// The last number that the sequence gave; 0 if it has given none.
const LAST: &str = "select coalesce(pg_catalog.pg_sequence_last_value( \
     pg_catalog.pg_get_serial_sequence('posthaste.outbox', 'seq')::pg_catalog.regclass), 0)";

/// Parameters: from, below. Whether something may still need a row in between.
const NEEDED: &str = "select exists (select 1 from posthaste.checkpoint c \
       join posthaste.held h on h.destination = c.destination and h.seq >= $1 and h.seq < $2) \
     or exists (select 1 from posthaste.checkpoint c \
       join posthaste.dead_letter d on d.name = c.destination and d.seq >= $1 and d.seq < $2)";

/// What became of an attempt to change what others use.
enum Tried<T> {
    Done(T),
    InUse,
}

impl Store {
    /// The quoted name of a table of ours.
    fn table(&self, name: &str) -> String {
        self.namespace.text("posthaste.").into_owned() + "\"" + &name.replace('"', "\"\"") + "\""
    }

    /// Whether partitions can be made and removed by this role.
    pub(crate) async fn owns_outbox(
        &self,
        connection: &mut PgConnection,
    ) -> Result<bool, StoreError> {
        let owns: Option<bool> = self
            .query_scalar(OWNS)
            .fetch_optional(connection)
            .await
            .map_err(self.failed("looking for the owner of the outbox"))?;
        Ok(owns.unwrap_or(false))
    }

    /// The partitions as they are now.
    pub(crate) async fn layout(&self, connection: &mut PgConnection) -> Result<Layout, StoreError> {
        let failed = self.failed("looking at the partitions of the outbox");
        let bounds: Vec<(String, String)> =
            self.query_as(PARTITIONS).fetch_all(&mut *connection).await.map_err(&failed)?;
        let last: i64 =
            self.query_scalar(LAST).fetch_one(&mut *connection).await.map_err(&failed)?;
        let mut layout = Layout::new(last, bounds).map_err(StoreError::failed)?;
        for part in &mut layout.parts {
            let ask = format!("select exists (select 1 from only {})", self.table(&part.name));
            part.is_empty = !sqlx::query_scalar::<_, bool>(AssertSqlSafe(ask))
                .fetch_one(&mut *connection)
                .await
                .map_err(&failed)?;
        }
        Ok(layout)
    }

    /// Makes partitions ahead and puts empty ones together, if it is time to and nobody has to
    /// wait long for it.
    pub(crate) async fn arrange_partitions(&self, layout: &Layout) -> Result<(), StoreError> {
        let rows = number::long(u64::from(self.options.partition_rows.max(1)));
        let Some(first) = layout.change(rows) else { return Ok(()) };
        if let Some(bound) = first.bound
            && !self.prove_bound(layout, bound).await?
        {
            return Ok(());
        }
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            if let Tried::Done(()) = self.try_arranging(rows, first.bound).await? {
                return Ok(());
            }
        }
        tracing::debug!("the outbox is in use all the time; its partitions stay as they are");
        match first.bound {
            Some(_) => self.forget_bound(layout).await,
            None => Ok(()),
        }
    }

    /// Begins a transaction that holds a lock, unless others are in the way.
    async fn locked(&self, table: &str, patience: &str) -> Result<Tried<Lent>, StoreError> {
        let mut transaction = self.begin().await?;
        let lock = format!(
            "set local lock_timeout = '{patience}'; lock table {table} in access exclusive mode"
        );
        match sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await {
            Ok(_) => Ok(Tried::Done(transaction)),
            Err(refused) if error::is_lock_timeout(&refused) => Ok(Tried::InUse),
            Err(other) => Err(self.error("locking the outbox", other)),
        }
    }

    async fn try_arranging(&self, rows: i64, bound: Option<i64>) -> Result<Tried<()>, StoreError> {
        let outbox = self.table("outbox");
        let Tried::Done(mut transaction) = self.locked(&outbox, "20ms").await? else {
            return Ok(Tried::InUse);
        };
        // Nobody writes now: what is seen here stays so.
        let layout = self.layout(&mut transaction).await?;
        let Some(change) = layout.change(rows) else { return Ok(Tried::Done(())) };
        let change = match (change.bound, bound) {
            // Its rows were looked at before, up to this bound.
            (Some(_), Some(bound)) if layout.last < bound => layout.change_up_to(rows, bound),
            (None, _) => change,
            _ => return Ok(Tried::InUse),
        };
        let script = self.script_of(&outbox, &change);
        match sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *transaction).await {
            Ok(_) => self.commit_quietly(transaction).await.map(Tried::Done),
            Err(refused) if error::is_lock_timeout(&refused) => Ok(Tried::InUse),
            Err(other) => Err(self.error("making partitions of the outbox", other)),
        }
    }

    fn script_of(&self, outbox: &str, change: &Change) -> String {
        let mut script = String::new();
        for name in &change.drop {
            let table = self.table(name);
            script.push_str(&format!("alter table {outbox} detach partition {table}; "));
            script.push_str(&format!("drop table {table}; "));
        }
        if let (Some((old, new)), Some(bound)) = (&change.keep, change.bound) {
            let (table, renamed) = (self.table(old), self.table(&new.name));
            script.push_str(&format!(
                "alter table {outbox} detach partition {table}; \
                 alter table {table} rename to \"{}\"; \
                 alter table {outbox} attach partition {renamed} for values from ({}) to ({bound}); \
                 alter table {renamed} drop constraint posthaste_bound; ",
                new.name,
                new.lower()
            ));
        }
        for part in &change.make {
            let (from, to) = (part.lower(), part.upper());
            let table = self.table(&part.name);
            script.push_str(&format!(
                "create table {table} partition of {outbox} for values from ({from}) to ({to}); "
            ));
        }
        script
    }

    /// Lets the server look at the rows of the last partition while writers go on, so that it need
    /// not do that under the lock. Until the partition is moved, nobody can write above the bound,
    /// which is further up than anybody gets in that time. Returns whether it holds.
    async fn prove_bound(&self, layout: &Layout, bound: i64) -> Result<bool, StoreError> {
        let Some(overflow) = layout.parts.last() else { return Ok(false) };
        let table = self.table(&overflow.name);
        let Tried::Done(mut transaction) = self.locked(&table, "20ms").await? else {
            return Ok(false);
        };
        let from = overflow.lower();
        let state = format!(
            "alter table {table} drop constraint if exists posthaste_bound; \
             alter table {table} add constraint posthaste_bound \
               check (seq is not null and seq >= {from} and seq < {bound}) not valid"
        );
        let failed = self.failed("bounding the last partition of the outbox");
        sqlx::raw_sql(AssertSqlSafe(state)).execute(&mut *transaction).await.map_err(&failed)?;
        self.commit_quietly(transaction).await?;
        let mut transaction = self.begin().await?;
        let validate = format!("alter table {table} validate constraint posthaste_bound");
        match sqlx::raw_sql(AssertSqlSafe(validate)).execute(&mut *transaction).await {
            Ok(_) => self.commit_quietly(transaction).await.map(|()| true),
            Err(refused) => {
                // Somebody gave a number of their own that is far above all others.
                drop(transaction);
                self.forget_bound(layout).await?;
                tracing::debug!(error = %refused, "the last partition of the outbox stays");
                Ok(false)
            }
        }
    }

    /// Takes the bound away again; tries until it is gone, because it would stop writers one day.
    async fn forget_bound(&self, layout: &Layout) -> Result<(), StoreError> {
        let Some(overflow) = layout.parts.last() else { return Ok(()) };
        let table = self.table(&overflow.name);
        let forget = format!("alter table {table} drop constraint if exists posthaste_bound");
        for _ in 0..10 * TRIES {
            if let Tried::Done(mut transaction) = self.locked(&table, "100ms").await? {
                let done = sqlx::raw_sql(AssertSqlSafe(forget)).execute(&mut *transaction).await;
                done.map_err(self.failed("freeing the last partition of the outbox"))?;
                return self.commit_quietly(transaction).await;
            }
            tokio::time::sleep(BETWEEN).await;
        }
        Err(StoreError::unavailable(format!(
            "the last partition of the outbox still has a bound; run: {forget}"
        )))
    }

    /// Empties the partitions that everybody has passed, of which nobody needs a row, and whose
    /// last row is old. Returns how many rows that were, and the ranges in which rows have to be
    /// removed one by one.
    pub(crate) async fn empty_partitions(
        &self,
        layout: &Layout,
        passed: &Passed,
        keep: i64,
    ) -> Result<(u64, Vec<(i64, i64)>), StoreError> {
        let (mut removed, mut ranges) = (0, Vec::new());
        for part in layout.parts.iter().filter(|part| !part.is_empty) {
            let range = (part.from.unwrap_or(i64::MIN), part.to.unwrap_or(i64::MAX));
            if range.1 > layout.last {
                ranges.push(range);
                continue;
            }
            if number::count(range.1) > passed.through().saturating_add(1)
                || !self.is_old(&part.name, keep).await?
            {
                continue;
            }
            match self.empty(&part.name, range, passed).await? {
                Tried::Done(Some(rows)) => removed += rows,
                Tried::Done(None) => ranges.push(range),
                Tried::InUse => {}
            }
        }
        Ok((removed, ranges))
    }

    async fn is_old(&self, name: &str, keep: i64) -> Result<bool, StoreError> {
        let ask = format!(
            "select stated_at < clock_timestamp() - {keep} * interval '1 microsecond' \
             from only {} order by seq desc limit 1",
            self.table(name)
        );
        let mut transaction = self.begin().await?;
        let old: Option<bool> = sqlx::query_scalar(AssertSqlSafe(ask))
            .fetch_optional(&mut *transaction)
            .await
            .map_err(self.failed("looking for old partitions"))?;
        Ok(old.unwrap_or(false))
    }

    /// How many rows were removed; `None` if some of them are needed still.
    async fn empty(
        &self,
        name: &str,
        (from, to): (i64, i64),
        passed: &Passed,
    ) -> Result<Tried<Option<u64>>, StoreError> {
        let failed = self.failed("emptying a partition of the outbox");
        let table = self.table(name);
        let Tried::Done(mut transaction) = self.locked(&table, "100ms").await? else {
            return Ok(Tried::InUse);
        };
        let needed: bool = self
            .query_scalar(NEEDED)
            .bind(from)
            .bind(to)
            .fetch_one(&mut *transaction)
            .await
            .map_err(&failed)?;
        if needed {
            return Ok(Tried::Done(None));
        }
        for frontier in passed.frontiers() {
            if !self.has_sent_all(&mut transaction, &table, frontier).await? {
                return Ok(Tried::Done(None));
            }
        }
        let count = format!("select count(*) from only {table}");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count))
            .fetch_one(&mut *transaction)
            .await
            .map_err(&failed)?;
        let empty = format!("truncate only {table}");
        sqlx::raw_sql(AssertSqlSafe(empty)).execute(&mut *transaction).await.map_err(&failed)?;
        self.commit_quietly(transaction).await?;
        Ok(Tried::Done(Some(number::count(rows))))
    }

    /// Whether the rows of a partition that is below the frontier were all sent. Where that is
    /// more than a snapshot can say, the answer is no for now.
    async fn has_sent_all(
        &self,
        connection: &mut PgConnection,
        table: &str,
        frontier: &Frontier,
    ) -> Result<bool, StoreError> {
        if frontier.inheriting()
            || frontier.adopting().is_some()
            || frontier.catching_up().is_some()
        {
            return Ok(false);
        }
        let seen = frontier.seen();
        let running: Vec<String> = seen.in_progress().iter().map(u64::to_string).collect();
        let ask = format!(
            "select not exists (select 1 from only {table} where seq > $1 \
               and (seq > $2 or xid = any($3::text[]::xid8[]) or xid >= $4::text::xid8))"
        );
        sqlx::query_scalar(AssertSqlSafe(ask))
            .bind(number::long(frontier.floor()))
            .bind(number::long(frontier.through()))
            .bind(running)
            .bind(seen.xmax().to_string())
            .fetch_one(connection)
            .await
            .map_err(self.failed("looking through an old partition"))
    }
}
