//! The model with many writers against PostgreSQL.

use posthaste_core::database::Schema;
use posthaste_core::transaction::Transactional;
use posthaste_postgres::{Options, Postgres};
use posthaste_servers::postgres_or_skip;
use posthaste_simulator::database::Writers;

use super::script::script;
use super::scripts;
use super::twins::{Statements, Twins};

impl Statements for Postgres {
    async fn run(&self, transaction: &mut Self::Transaction, sql: &'static str) {
        let connection = Self::connection(transaction);
        sqlx::query(sql).execute(connection).await.expect(sql);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_are_modelled_as_postgresql_is() {
    let Some(server) = postgres_or_skip().await else { return };
    for seed in 0..scripts() {
        let test = server.database().await;
        let real = Postgres::open(&test.url(), Options::default()).expect("a good URL");
        real.migrate().await.expect("migrating a new database");
        Twins::new(&real, Writers::Many).play(&script(seed, false)).await;
    }
}
