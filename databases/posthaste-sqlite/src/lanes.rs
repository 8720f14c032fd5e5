//! Lanes: SQLite has one.
//!
//! One process writes at a time, and one relay keeps up with all that it can write, so that a
//! second lane would only add waiting for each other.

use async_trait::async_trait;
use posthaste_core::lane::{Division, Lanes};
use posthaste_core::lease::Lease;
use posthaste_core::{Lane, StoreError};

use crate::{Sqlite, leases};

/// Refuses a lane that this database does not have.
pub(crate) fn refuse_other(lane: &Lane) -> Result<(), StoreError> {
    if lane.index == 0 && lane.of == 1 {
        return Ok(());
    }
    let Lane { destination, index, of } = lane;
    Err(StoreError::rejected(format!(
        "there is no lane {index} of {of} of '{destination}': SQLite has one lane"
    )))
}

#[async_trait]
impl Lanes for Sqlite {
    async fn division(&self, _destination: &str) -> Result<Division, StoreError> {
        self.store.check().await?;
        Ok(Division { now: 1, wanted: 1 })
    }

    async fn can_divide(&self, _destination: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn want_lanes(&self, destination: &str, lanes: u16) -> Result<(), StoreError> {
        self.store.check().await?;
        if lanes == 1 {
            return Ok(());
        }
        Err(StoreError::rejected(format!(
            "{lanes} lanes for '{destination}' are not possible: SQLite has one writer at a time, \
             so one relay is enough for it; leave lanes at 1, or use PostgreSQL"
        )))
    }

    /// There is never another number to change to.
    async fn divide(&self, _destination: &str, leases: &[Lease]) -> Result<(), StoreError> {
        let failed = self.store.failed("looking at the lease");
        let mut connection = self.store.pool.acquire().await.map_err(failed)?;
        for lease in leases {
            leases::fence(&self.store, &mut connection, lease).await?;
        }
        Ok(())
    }
}
