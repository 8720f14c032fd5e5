//! The laws of every seam of a database, over PostgreSQL.

use posthaste_conformance::{DatabaseCase, skipped};
use posthaste_core::database::Schema;
use posthaste_postgres::{Options, Postgres};

use crate::fixture::Fixture;

/// An application's database in which nothing was done yet.
async fn empty() -> DatabaseCase<Postgres> {
    let Some(fixture) = Fixture::unmigrated(Options::default()).await else { skipped() };
    let second = fixture.second();
    DatabaseCase::new(fixture.database, second).keep(fixture.test)
}

async fn migrated() -> DatabaseCase<Postgres> {
    let case = empty().await;
    case.database.migrate().await.expect("migrating a new database");
    case
}

posthaste_conformance::database_suite!(migrated);
posthaste_conformance::schema_suite!(empty);
