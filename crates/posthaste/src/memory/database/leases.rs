//! Leases: one holder at a time, by the database's clock.

use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::database::HeldLease;
use posthaste_core::lease::{self, Claim, Lease, Leases};

use super::MemoryDatabase;
use super::state::LeaseRow;

#[async_trait]
impl Leases for MemoryDatabase {
    async fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<Claim, StoreError> {
        let mut state = self.shared.migrated()?;
        let now = self.shared.clock.now();
        let row = state.leases.entry(name.to_owned()).or_insert(LeaseRow {
            owner: None,
            token: 0,
            until: now,
            settled: 0,
        });
        match &row.owner {
            Some(holder) if holder != owner && row.until > now => {
                let (by, remaining) = (holder.clone(), row.until.since(now));
                return Ok(Claim::Held { by, remaining });
            }
            _ => {
                row.owner = Some(owner.to_owned());
                row.token += 1;
                row.settled = 0;
            }
        }
        row.until = now.plus(ttl);
        let token = row.token;
        if let Some(destination) = lease::destination(name) {
            state.destination(destination);
        }
        let (name, owner, token) = (name.to_owned(), owner.to_owned(), token);
        Ok(Claim::Granted(Lease { name, owner, token }))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), StoreError> {
        let mut state = self.shared.migrated()?;
        let until = self.shared.clock.now().plus(ttl);
        state.held_under(lease)?.until = until;
        Ok(())
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut state = self.shared.migrated()?;
        // A lease that is someone else's by now is not this holder's to give back.
        if let Ok(row) = state.held_under(lease) {
            row.owner = None;
        }
        Ok(())
    }

    async fn held(&self, prefix: &str) -> Result<Vec<HeldLease>, StoreError> {
        let mut held = self.shared.migrated()?.held_leases(self.shared.clock.now());
        held.retain(|lease| lease.name.starts_with(prefix));
        Ok(held)
    }
}
