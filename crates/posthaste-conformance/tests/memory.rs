//! The memory backends keep every law.

use std::sync::Arc;
use std::time::Duration;

use posthaste::memory::{MemoryBroker, MemoryDatabase};
use posthaste_conformance::{BrokerCase, DatabaseCase};

async fn migrated() -> DatabaseCase<MemoryDatabase> {
    let database = MemoryDatabase::new();
    DatabaseCase::new(database.clone(), database)
}

async fn empty() -> DatabaseCase<MemoryDatabase> {
    let database = MemoryDatabase::unmigrated();
    DatabaseCase::new(database.clone(), database)
}

posthaste_conformance::database_suite!(migrated);
posthaste_conformance::schema_suite!(empty);
