//! The demo in SQLite: a file for the shop and one for each consumer, in the demo's folder.

use std::time::Duration;

use posthaste::HandlerError;
use posthaste_sqlite::{Options, Sqlite};

use super::statements::{self, stage};
use super::{Count, Dialect, Entry, Order, Row, Trouble, failed, unreadable};
use crate::command::demo::site::Site;
use crate::failure::Failure;

/// How long a statement waits for the lock of a file.
const PATIENCE: Duration = Duration::from_secs(10);

impl Dialect for Sqlite {
    // Nobody else can write meanwhile.
    const LONGEST_HOLD: u64 = 30;
    const SHOP: &'static str = "
        create table customer (name text primary key, version integer not null);
        create table orders (
            id text primary key,
            customer text not null,
            amount integer not null,
            messages integer not null
        );
    ";
    const LEDGER: &'static str = "
        create table if not exists ledger (
            number integer primary key autoincrement,
            consumer text not null,
            message text not null,
            digest text not null,
            amount integer not null
        );
        create table if not exists balance (consumer text primary key, amount integer not null);
    ";
    const OUTBOX: &'static str =
        "select id, topic, kind, key, content_type, headers, cast(payload as blob) as payload
         from posthaste.outbox order by seq";

    fn open(site: &Site, database: &str, create: bool) -> Result<Self, Failure> {
        let options = Options { create, busy_timeout: PATIENCE, ..Options::default() };
        Self::open(&site.file_url(database), options).map_err(Failure::from)
    }

    fn text(&self, template: &'static str) -> String {
        template.replace("posthaste.", "posthaste_").replace("shop.", "")
    }

    async fn begin_reading(&self) -> Result<Self::Transaction, Trouble> {
        // It takes the lock only when it writes.
        self.pool().begin().await.map_err(|error| Trouble::of::<Self>(&error))
    }

    fn is_busy(error: &sqlx::Error) -> bool {
        // SQLITE_BUSY and what it is made of: the low byte is 5.
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        code.is_some_and(|code| code & 0xff == 5)
    }

    async fn leave(&self, _: &Site, _: bool) -> Result<(), Failure> {
        self.pool().close().await;
        Ok(())
    }
}

stage!(Sqlite);
