//! The laws of every seam of a database, over SQLite.

use posthaste_conformance::DatabaseCase;
use posthaste_core::database::Schema;
use posthaste_sqlite::{Options, Sqlite};

use crate::fixture::Fixture;

/// An application's database in which nothing was done yet.
async fn empty() -> DatabaseCase<Sqlite> {
    let options = Options::default();
    let fixture = Fixture::unmigrated(options);
    std::fs::write(fixture.path(), "").expect("an empty file is an empty database");
    let second = Sqlite::open(&fixture.url(), options).expect("a good URL");
    DatabaseCase::new(fixture.database, second).keep(fixture.folder)
}

async fn migrated() -> DatabaseCase<Sqlite> {
    let case = empty().await;
    case.database.migrate().await.expect("migrating a new file");
    case
}

posthaste_conformance::database_suite!(migrated);
posthaste_conformance::schema_suite!(empty);
