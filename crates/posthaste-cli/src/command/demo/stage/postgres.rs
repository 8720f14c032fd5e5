//! The demo in PostgreSQL: one schema of its own for the tables of Posthaste, the shop and the
//! consumers, which is dropped at the end.

use std::time::Duration;

use posthaste::HandlerError;
use posthaste_core::transaction::Transactional;
use posthaste_postgres::{Options, Postgres};

use super::statements::{self, stage};
use super::{Count, Dialect, Entry, Order, Row, Trouble, failed, unreadable};
use crate::command::demo::site::Site;
use crate::failure::{Failure, sentence};

/// Enough for the writers, and for a look at what they do. Somebody's server has other guests.
const CONNECTIONS: u32 = 6;

/// How long a call waits for one of them, also where no server answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A statement of the child that was killed may be at its end a moment later.
const TRIES: u32 = 3;

impl Dialect for Postgres {
    // Others write meanwhile, and commit before it.
    const LONGEST_HOLD: u64 = 400;
    const SHOP: &'static str = "
        create table shop.customer (name text primary key, version bigint not null);
        create table shop.orders (
            id text primary key,
            customer text not null,
            amount bigint not null,
            messages bigint not null
        );
    ";
    const LEDGER: &'static str = "
        create table if not exists shop.ledger (
            number bigint generated always as identity primary key,
            consumer text not null,
            message text not null,
            digest text not null,
            amount bigint not null
        );
        create table if not exists shop.balance (
            consumer text primary key,
            amount bigint not null
        );
    ";
    const OUTBOX: &'static str =
        "select id::text, topic, kind, key, content_type, headers::text as headers,
             coalesce(convert_to(payload, 'UTF8'), payload_bytes) as payload
         from posthaste.outbox order by seq";

    fn open(site: &Site, _: &str, _: bool) -> Result<Self, Failure> {
        let url = site.database.as_ref().map_or("", |address| address.expose());
        let options = Options {
            schema: site.name.clone(),
            connections: CONNECTIONS,
            acquire_timeout: PATIENCE,
            ..Options::default()
        };
        let postgres = Self::open(url, options)?;
        if postgres.schema() != site.name {
            return Err(Failure::usage(
                "leave schema= out of the URL: the demo makes a schema of its own and drops it",
            ));
        }
        Ok(postgres)
    }

    fn text(&self, template: &'static str) -> String {
        let schema = format!("\"{}\".", self.schema());
        template.replace("posthaste.", &schema).replace("shop.", &schema)
    }

    async fn begin_reading(&self) -> Result<Self::Transaction, Trouble> {
        Ok(Transactional::begin(self).await?)
    }

    fn is_busy(error: &sqlx::Error) -> bool {
        // A failure to serialise, a deadlock, a lock that was not to be had.
        let code = error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| matches!(&*code, "40001" | "40P01" | "55P03"))
    }

    async fn leave(&self, site: &Site, keep: bool) -> Result<(), Failure> {
        let left = match keep {
            true => Ok(()),
            false => drop_schema(self, site).await,
        };
        self.pool().close().await;
        left
    }
}

stage!(Postgres);

async fn drop_schema(postgres: &Postgres, site: &Site) -> Result<(), Failure> {
    let statement = format!("drop schema if exists \"{}\" cascade", site.name);
    let mut tries = 1;
    loop {
        let dropping = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone()));
        match dropping.execute(postgres.pool()).await {
            Ok(_) => return Ok(()),
            Err(error) if Postgres::is_busy(&error) && tries < TRIES => tries += 1,
            Err(error) => {
                return Err(Failure::failed(format!(
                    "the demo's schema is left in the database ({}); run: {statement}",
                    sentence(&error)
                )));
            }
        }
    }
}
