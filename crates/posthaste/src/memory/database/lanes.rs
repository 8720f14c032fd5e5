//! Lanes: how a destination is divided among relays.

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::lane::{Division, Lanes};
use posthaste_core::lease::Lease;

use super::MemoryDatabase;

#[async_trait]
impl Lanes for MemoryDatabase {
    async fn division(&self, _destination: &str) -> Result<Division, StoreError> {
        drop(self.shared.migrated()?);
        Ok(Division { now: 1, wanted: 1 })
    }

    async fn want_lanes(&self, _destination: &str, lanes: u16) -> Result<(), StoreError> {
        drop(self.shared.migrated()?);
        if lanes == 1 {
            Ok(())
        } else {
            Err(StoreError::rejected("a database in memory has one lane"))
        }
    }

    async fn divide(&self, _destination: &str, _leases: &[Lease]) -> Result<(), StoreError> {
        self.shared.migrated().map(|_| ())
    }
}
