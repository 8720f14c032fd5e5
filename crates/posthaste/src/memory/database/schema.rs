//! The schema of a database that needs none: a version that a migration sets.

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::database::{Migrated, Schema};

use super::MemoryDatabase;

/// The version that a migration leads to.
pub(super) const VERSION: u32 = 1;

#[async_trait]
impl Schema for MemoryDatabase {
    async fn version(&self) -> Result<Option<u32>, StoreError> {
        Ok(self.shared.lock().version)
    }

    async fn migrate(&self) -> Result<Migrated, StoreError> {
        let from = self.shared.lock().version.replace(VERSION);
        Ok(Migrated { from, to: VERSION, notes: Vec::new() })
    }

    /// Two databases in memory never are copies of each other.
    async fn adopt(&self, _actor: &str) -> Result<Vec<String>, StoreError> {
        self.shared.migrated().map(|_| Vec::new())
    }

    fn script(&self) -> String {
        "-- A database in memory needs no statements.\n".to_owned()
    }
}
