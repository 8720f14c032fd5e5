//! The model with one writer against SQLite.

use posthaste_core::database::Schema;
use posthaste_core::transaction::Transactional;
use posthaste_simulator::database::Writers;
use posthaste_sqlite::{Options, Sqlite};

use super::script::script;
use super::scripts;
use super::twins::{Statements, Twins};

impl Statements for Sqlite {
    async fn run(&self, transaction: &mut Self::Transaction, sql: &'static str) {
        let connection = Self::connection(transaction);
        sqlx::query(sql).execute(connection).await.expect(sql);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writer_is_modelled_as_sqlite_is() {
    for seed in 0..scripts() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("app.db").display());
        let options = Options { create: true, ..Options::default() };
        let real = Sqlite::open(&url, options).expect("a good URL");
        real.migrate().await.expect("migrating a new file");
        Twins::new(&real, Writers::One).play(&script(seed, true)).await;
    }
}
