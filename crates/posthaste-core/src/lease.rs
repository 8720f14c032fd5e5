//! Who may act, until when, and with which token.
//!
//! Leases live in the database and run on its clock. The token grows with every grant,
//! and every settlement carries it: a relay that was paused beyond its lease and goes on can
//! change nothing.

use std::time::Duration;

use async_trait::async_trait;

use crate::StoreError;
use crate::database::HeldLease;

/// A lease that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is on, for example `relay/default/0` (destination and lane).
    pub name: String,
    /// Who holds it: unique to a process and its start.
    pub owner: String,
    /// Fencing token: higher than that of every earlier grant.
    pub token: u64,
}

/// The destination in the name of a relay's lease: `default` in `relay/default/0`. `None` for a
/// lease on something else.
pub fn destination(name: &str) -> Option<&str> {
    let (destination, _lane) = name.strip_prefix("relay/")?.rsplit_once('/')?;
    Some(destination)
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is yours for the time asked for.
    Granted(Lease),
    /// It is someone else's.
    Held {
        /// Whose.
        by: String,
        /// How long it still runs if it is not renewed.
        remaining: Duration,
    },
}

/// Leases of one database.
///
/// Laws (suite `leases`):
/// 1. At most one holder at a time, by the database's clock.
/// 2. Tokens grow with every grant, also with one to the same owner: claiming one's own lease again
///    keeps holding it and begins anew, with the numbers of the settlements as well. So a machine
///    that is started in the place of another one of its process is not taken for it.
/// 3. A lease that has run out, or was released, can be claimed at once.
/// 4. Renewal and release with an old token change nothing.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Claims `name` for `owner` and `ttl`.
    async fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<Claim, StoreError>;

    /// Extends a lease to `ttl` from now. A lease that ran out but was claimed by nobody else can
    /// still be renewed.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if someone else has it.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<(), StoreError>;

    /// Gives a lease back, so that the next holder need not wait. Doing it twice is no error.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;

    /// The leases that are held now and whose names begin with `prefix`, by name.
    async fn held(&self, prefix: &str) -> Result<Vec<HeldLease>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::destination;

    #[test]
    fn a_destination_is_what_stands_between_relay_and_lane() {
        assert_eq!(destination("relay/default/0"), Some("default"));
        assert_eq!(destination("relay/a/b/12"), Some("a/b"));
        for other in ["relay/default", "relays/default/0", "cleaning", ""] {
            assert_eq!(destination(other), None, "{other}");
        }
    }
}
