//! Leases on the database's clock.

use std::time::Duration;

use posthaste_core::Timestamp;
use posthaste_core::lease::{Claim, Lease};
use posthaste_core::relay::Failure;

use super::state::Grant;
use super::{Database, EPOCH, remaining};
use crate::sabotage::Sabotage;

impl Database {
    /// Claims a lease. `host` is what the calendar of the claimer says, which nobody looks at.
    pub fn acquire(&mut self, name: &str, owner: &str, ttl: Duration, host: Timestamp) -> Claim {
        let by_host = self.is_sabotaged(Sabotage::LeaseByHostClock);
        let now = if by_host { host } else { self.now };
        let grant = self.state.leases.get(name);
        if let Some(held) = grant.filter(|grant| grant.owner != owner)
            && let Some(remaining) = remaining(held.expires_at, held.ttl, now)
        {
            return Claim::Held { by: held.owner.clone(), remaining };
        }
        // Each grant has a token of its own, also one to the same owner: whoever claims begins anew
        // with the numbers of its settlements.
        let kept = grant.filter(|grant| {
            let same = grant.owner == owner && grant.expires_at != EPOCH;
            same && self.is_this(grant.life) && self.is_sabotaged(Sabotage::OwnLeaseKept)
        });
        let (token, settlement) = match (kept, grant) {
            (Some(kept), _) => (kept.token, kept.settlement),
            (None, Some(before)) => (before.token + 1, 0),
            (None, None) => (1, 0),
        };
        let (expires_at, life) = (now.plus(ttl), self.life);
        let owner = owner.to_owned();
        let granted = Grant { owner: owner.clone(), token, expires_at, ttl, life, settlement };
        self.state.leases.insert(name.to_owned(), granted);
        self.spend_xid();
        Claim::Granted(Lease { name: name.to_owned(), owner, token })
    }

    /// Extends a lease.
    ///
    /// # Errors
    /// [`Failure::Fenced`] if it is not the current one.
    pub fn renew(&mut self, lease: &Lease, ttl: Duration) -> Result<(), Failure> {
        self.fence(lease)?;
        let expires_at = self.now.plus(ttl);
        if let Some(grant) = self.state.leases.get_mut(&lease.name) {
            (grant.expires_at, grant.ttl) = (expires_at, ttl);
        }
        self.spend_xid();
        Ok(())
    }

    /// Gives a lease back, also in another life of the server.
    pub fn release(&mut self, lease: &Lease) {
        let grant = self.state.leases.get_mut(&lease.name);
        if let Some(grant) = grant.filter(|it| it.token == lease.token && it.owner == lease.owner) {
            grant.expires_at = EPOCH;
            self.spend_xid();
        }
    }

    /// Whether a lease was granted in this life of the server.
    pub(crate) fn is_of_this_life(&self, name: &str) -> bool {
        self.state.leases.get(name).is_some_and(|grant| self.is_this(grant.life))
    }

    /// The leases that are held now and whose names begin with `prefix`: name, owner, token.
    pub fn held(&self, prefix: &str) -> Vec<(String, String, u64)> {
        let named = self.state.leases.iter().filter(|(name, _)| name.starts_with(prefix));
        named
            .filter(|(_, grant)| remaining(grant.expires_at, grant.ttl, self.now).is_some())
            .map(|(name, grant)| (name.clone(), grant.owner.clone(), grant.token))
            .collect()
    }
}
