//! Partitions of the outbox: made ahead of the sequence, and those that are empty put together.
//!
//! A writer never fails for want of a partition, whatever number it brings: together they cover
//! everything from the lowest to the highest number at every moment. The last one has no end, so
//! that rows go there where nobody makes partitions. It is moved up, and empty ones are put
//! together, in one short transaction for which no transaction that has written to the outbox may
//! be open: it is tried now and then and given up within milliseconds, for which writers wait.
//!
//! All of them belong to the owner of the outbox, whoever makes them.

use std::sync::Arc;
use std::time::Duration;

use posthaste_core::StoreError;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::time::{Instant, timeout};

use crate::layout::{Change, Layout, Part, ROOM};
use crate::lent::Lent;
use crate::pruning::{Memory, Proof};
use crate::store::Store;
use crate::{error, number};

/// How often the lock on the whole outbox is tried for in one go, and the time in between.
const TRIES: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(40);

/// How long a call waits for the rows of the last partition to be looked at, which goes on without
/// it, and for how long.
const PROOF_WITHIN: Duration = Duration::from_millis(300);
const PROOF_AT_MOST: Duration = Duration::from_secs(300);

/// Partitions whose emptiness is asked for in one statement; each takes a lock or two, and one for
/// every index, out of a table that the whole server shares.
const AT_ONCE: usize = 64;

/// How this role and the outbox stand to each other: whether it is a member of the owner's role,
/// and the owner's name, quoted.
const OWNER: &str = "select pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
       pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)) from pg_catalog.pg_class c \
     where c.oid = 'posthaste.outbox'::pg_catalog.regclass";

/// The partitions, their bounds as the server prints them, whether one is half detached, whether
/// it belongs to somebody else than the outbox, and whether it has a bound for a time.
const PARTITIONS: &str = "select c.relname::text, pg_catalog.pg_get_expr(c.relpartbound, c.oid), \
       i.inhdetachpending, c.relowner <> o.relowner, exists (select 1 from \
         pg_catalog.pg_constraint n where n.conrelid = c.oid and n.conname = 'posthaste_bound') \
     from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid \
       join pg_catalog.pg_class o on o.oid = i.inhparent \
     where i.inhparent = 'posthaste.outbox'::pg_catalog.regclass";

/// The last number that the sequence gave; 0 if it has given none.
const LAST: &str = "select coalesce(pg_catalog.pg_sequence_last_value( \
     pg_catalog.pg_get_serial_sequence('posthaste.outbox', 'seq')::pg_catalog.regclass), 0)";

/// Under these, rows are looked up by their indexes whatever the statistics say, and a statement
/// that takes longer than thought is given up.
pub(crate) const CAREFUL: &str = "set local enable_seqscan = off; \
     set local enable_bitmapscan = off; set local enable_hashjoin = off; \
     set local enable_mergejoin = off; set local jit = off; \
     set local statement_timeout = '1s'; ";

/// A partition as the catalog has it.
type Child = (String, String, bool, bool, bool);

/// What became of an attempt to change what others use.
pub(crate) enum Tried<T> {
    Done(T),
    InUse,
}

impl Store {
    /// The quoted name of a table of ours.
    pub(crate) fn table(&self, name: &str) -> String {
        self.namespace.text("posthaste.").into_owned() + "\"" + &name.replace('"', "\"\"") + "\""
    }

    /// The owner of the outbox, quoted, if partitions can be made and removed by this role.
    pub(crate) async fn owner_of_outbox(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<String>, StoreError> {
        let owner: Option<(bool, String)> =
            self.query_as(OWNER)
                .fetch_optional(connection)
                .await
                .map_err(self.failed("looking for the owner of the outbox"))?;
        Ok(owner.filter(|(is_member, _)| *is_member).map(|(_, owner)| owner))
    }

    async fn children(&self, connection: &mut PgConnection) -> Result<Vec<Child>, StoreError> {
        let children = self.query_as(PARTITIONS).fetch_all(connection).await;
        children.map_err(self.failed("looking at the partitions of the outbox"))
    }

    /// The partitions by their bounds, and where the sequence is.
    async fn lie_of(
        &self,
        connection: &mut PgConnection,
        children: Vec<Child>,
    ) -> Result<Layout, StoreError> {
        let last: i64 = self
            .query_scalar(LAST)
            .fetch_one(connection)
            .await
            .map_err(self.failed("looking at the partitions of the outbox"))?;
        let bounded = children.iter().any(|child| child.4);
        let bounds = children.into_iter().filter(|child| !child.2);
        let bounds = bounds.map(|(name, bound, ..)| (name, bound)).collect();
        let layout = Layout::new(last, bounds).map_err(StoreError::failed)?;
        Ok(Layout { bounded, ..layout })
    }

    /// The partitions as they are now, after those were put right that somebody has half detached
    /// or that belong to somebody else.
    pub(crate) async fn layout(
        self: &Arc<Self>,
        owner: &str,
        memory: &mut Memory,
    ) -> Result<Layout, StoreError> {
        let mut connection = self.reading().await?;
        let mut children = self.children(&mut connection).await?;
        if children.iter().any(|child| child.2 || child.3) {
            drop(connection);
            for child in children.iter().filter(|child| child.2 || child.3) {
                if let Err(refused) = self.put_right(child, owner).await {
                    memory.tell(&refused);
                }
            }
            connection = self.reading().await?;
            children = self.children(&mut connection).await?;
        }
        let mut layout = self.lie_of(&mut connection, children).await?;
        drop(connection);
        for parts in layout.parts.chunks_mut(AT_ONCE) {
            let mut connection = self.reading().await?;
            self.look_for_rows(&mut connection, parts).await?;
        }
        Ok(layout)
    }

    /// Asks by way of the outbox, where the rights are that a relay has.
    async fn look_for_rows(
        &self,
        connection: &mut PgConnection,
        parts: &mut [Part],
    ) -> Result<(), StoreError> {
        let outbox = self.table("outbox");
        let asks: Vec<String> = parts
            .iter()
            .map(|part| format!("exists (select 1 from {outbox} where {})", part.condition()))
            .collect();
        let ask = format!("select array[{}]", asks.join(", "));
        let full: Vec<bool> = sqlx::query_scalar(AssertSqlSafe(ask))
            .persistent(false)
            .fetch_one(connection)
            .await
            .map_err(self.failed("looking for empty partitions"))?;
        for (part, full) in parts.iter_mut().zip(full) {
            part.is_empty = !full;
        }
        Ok(())
    }

    /// The rows of a partition that is half detached are nowhere; the owner of the outbox cannot
    /// do what he may with what is not his.
    async fn put_right(&self, child: &Child, owner: &str) -> Result<(), StoreError> {
        let (name, bound, is_pending, is_foreign, _) = child;
        let (outbox, table) = (self.table("outbox"), self.table(name));
        let mut script = String::from("set local lock_timeout = '50ms'; ");
        script.push_str("set local statement_timeout = '1s'; ");
        if *is_pending {
            script.push_str(&format!(
                "alter table {outbox} detach partition {table} finalize; \
                 alter table {outbox} attach partition {table} {bound}; "
            ));
        }
        if *is_foreign {
            script.push_str(&format!("alter table {table} owner to {owner}; "));
        }
        let mut transaction = self.begin().await?;
        match sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *transaction).await {
            Ok(_) => self.commit_quietly(transaction).await,
            Err(refused) if error::is_lock_timeout(&refused) => Ok(()),
            Err(other) => Err(self.error("putting a partition of the outbox right", other)),
        }
    }

    /// Makes partitions ahead and puts empty ones together, if it is time to and nobody has to
    /// wait long for it.
    pub(crate) async fn arrange_partitions(
        self: &Arc<Self>,
        layout: &Layout,
        owner: &str,
        until: Instant,
        memory: &mut Memory,
    ) -> Result<(), StoreError> {
        let rows = layout.rows(number::long(u64::from(self.options.partition_rows.max(1))));
        let change = layout.change(rows);
        let wanted = change.as_ref().and_then(|change| change.bound);
        let begins = layout.parts.last().and_then(|part| part.from);
        let is_near = |proof: &Proof| proof.bound.saturating_sub(layout.last) < ROOM / 2;
        memory.proof = memory.proof.take().filter(|proof| proof.from == begins && !is_near(proof));
        if layout.bounded && (memory.proof.is_none() || wanted.is_none()) {
            memory.proof = None;
            self.forget_bound(layout).await?;
        }
        let Some(first) = change else { return Ok(()) };
        let bound = match wanted {
            None => None,
            Some(bound) => match self.proven(layout, bound, memory).await? {
                Some(bound) => Some(bound),
                None => return Ok(()),
            },
        };
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            if Instant::now() > until {
                break;
            }
            let arranging = self.try_arranging(layout, &first, owner, bound).await?;
            if let Tried::Done(()) = arranging {
                memory.proof = None;
                return Ok(());
            }
        }
        tracing::debug!("the outbox is in use all the time; its partitions stay as they are");
        Ok(())
    }

    /// Begins a transaction that holds a lock, unless others are in the way. `tables` are names
    /// with `only` before each.
    pub(crate) async fn locked(
        &self,
        tables: &str,
        patience: &str,
    ) -> Result<Tried<Lent>, StoreError> {
        let mut transaction = self.begin().await?;
        let lock = format!(
            "{CAREFUL} set local lock_timeout = '{patience}'; \
             lock table {tables} in access exclusive mode"
        );
        match sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await {
            Ok(_) => Ok(Tried::Done(transaction)),
            Err(refused) if error::is_lock_timeout(&refused) => Ok(Tried::InUse),
            Err(other) => Err(self.error("locking the outbox", other)),
        }
    }

    async fn try_arranging(
        &self,
        before: &Layout,
        planned: &Change,
        owner: &str,
        bound: Option<i64>,
    ) -> Result<Tried<()>, StoreError> {
        let outbox = self.table("outbox");
        let going: Vec<String> =
            planned.drop.iter().map(|name| format!("only {}", self.table(name))).collect();
        let tables = [vec![format!("only {outbox}")], going].concat().join(", ");
        let Tried::Done(mut transaction) = self.locked(&tables, "20ms").await? else {
            return Ok(Tried::InUse);
        };
        // Nobody writes now: what is seen here stays so.
        let children = self.children(&mut transaction).await?;
        let layout = self.lie_of(&mut transaction, children).await?;
        if !layout.has_bounds_of(before) {
            return Ok(Tried::Done(()));
        }
        let mut layout = Layout { parts: before.parts.clone(), ..layout };
        let mut going: Vec<Part> =
            layout.parts.iter().filter(|part| planned.drop.contains(&part.name)).cloned().collect();
        if !going.is_empty() {
            self.look_for_rows(&mut transaction, &mut going).await?;
        }
        for part in &mut layout.parts {
            if let Some(seen) = going.iter().find(|seen| seen.name == part.name) {
                part.is_empty = seen.is_empty;
            }
        }
        let rows = layout.rows(number::long(u64::from(self.options.partition_rows.max(1))));
        let change = match bound {
            // Its rows were looked at before, up to this bound.
            Some(bound) if layout.last < bound => layout.change_up_to(rows, bound),
            Some(_) => return Ok(Tried::InUse),
            None => layout.change(rows).unwrap_or_default(),
        };
        // What is not locked, or has no bound that was proven, has to wait for the next time.
        let is_planned = change.drop.iter().all(|name| planned.drop.contains(name));
        if !is_planned || (change.bound.is_some() && bound.is_none()) {
            return Ok(Tried::Done(()));
        }
        let script = self.script_of(&outbox, owner, &change);
        match sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *transaction).await {
            Ok(_) => self.commit_quietly(transaction).await.map(Tried::Done),
            Err(refused) if error::is_lock_timeout(&refused) => Ok(Tried::InUse),
            Err(other) => Err(self.error("making partitions of the outbox", other)),
        }
    }

    fn script_of(&self, outbox: &str, owner: &str, change: &Change) -> String {
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
                "create table {table} partition of {outbox} for values from ({from}) to ({to}); \
                 alter table {table} owner to {owner}; "
            ));
        }
        script
    }

    /// Lets the server look at the rows of the last partition while writers go on, so that it need
    /// not do that under the lock. Until the partition is moved, nobody can write above the bound,
    /// which is further up than anybody gets in that time. Returns the bound once it holds.
    async fn proven(
        self: &Arc<Self>,
        layout: &Layout,
        bound: i64,
        memory: &mut Memory,
    ) -> Result<Option<i64>, StoreError> {
        let Some(overflow) = layout.parts.last() else { return Ok(None) };
        if memory.proof.is_none() {
            if !self.set_bound(overflow, bound).await? {
                return Ok(None);
            }
            let validate = Arc::clone(self).validate(self.table(&overflow.name));
            let task = Some(tokio::spawn(validate));
            memory.proof = Some(Proof { from: overflow.from, bound, task });
        }
        let Some(proof) = &mut memory.proof else { return Ok(None) };
        let Some(task) = &mut proof.task else { return Ok(Some(proof.bound)) };
        let refused = match timeout(PROOF_WITHIN, task).await {
            Err(_) => return Ok(None),
            Ok(Ok(Ok(()))) => {
                proof.task = None;
                return Ok(Some(proof.bound));
            }
            Ok(Ok(Err(refused))) => refused.to_string(),
            Ok(Err(lost)) => lost.to_string(),
        };
        // Somebody gave a number of their own that is far above all others.
        tracing::debug!(error = refused, "the last partition of the outbox stays");
        memory.proof = None;
        self.forget_bound(layout).await?;
        Ok(None)
    }

    /// Whether it was possible.
    async fn set_bound(&self, overflow: &Part, bound: i64) -> Result<bool, StoreError> {
        let table = self.table(&overflow.name);
        let Tried::Done(mut transaction) = self.locked(&format!("only {table}"), "20ms").await?
        else {
            return Ok(false);
        };
        let from = overflow.lower();
        let state = format!(
            "alter table {table} drop constraint if exists posthaste_bound; \
             alter table {table} add constraint posthaste_bound \
               check (seq is not null and seq >= {from} and seq < {bound}) not valid"
        );
        let done = sqlx::raw_sql(AssertSqlSafe(state)).execute(&mut *transaction).await;
        done.map_err(self.failed("bounding the last partition of the outbox"))?;
        self.commit_quietly(transaction).await.map(|()| true)
    }

    /// On a connection of its own: it takes as long as there are rows, and those of the pool are
    /// for others.
    async fn validate(self: Arc<Self>, table: String) -> Result<(), sqlx::Error> {
        let script = format!(
            "begin; set local statement_timeout = '{}s'; set local lock_timeout = '1s'; \
             alter table {table} validate constraint posthaste_bound; commit",
            PROOF_AT_MOST.as_secs()
        );
        let connect = self.pool.connect_options();
        let validate = async {
            let mut connection = connect.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await?;
            connection.close().await
        };
        timeout(2 * PROOF_AT_MOST, validate).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Takes the bound away again, because it would stop writers one day. If it cannot now, the
    /// next call does.
    async fn forget_bound(&self, layout: &Layout) -> Result<(), StoreError> {
        let Some(overflow) = layout.parts.last() else { return Ok(()) };
        let table = self.table(&overflow.name);
        let forget = format!("alter table {table} drop constraint if exists posthaste_bound");
        for _ in 0..TRIES {
            if let Tried::Done(mut transaction) =
                self.locked(&format!("only {table}"), "50ms").await?
            {
                let done = sqlx::raw_sql(AssertSqlSafe(forget)).execute(&mut *transaction).await;
                done.map_err(self.failed("freeing the last partition of the outbox"))?;
                return self.commit_quietly(transaction).await;
            }
            tokio::time::sleep(BETWEEN).await;
        }
        Err(StoreError::unavailable(format!(
            "the last partition of the outbox still has a bound and is tried again; or run: {forget}"
        )))
    }
}
