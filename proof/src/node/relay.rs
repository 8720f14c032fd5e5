//! Relays from the database to the bus.

use std::sync::Arc;
use std::time::Duration;

use posthaste::core::Database;
use posthaste::{Relay, RelayOptions, RetryPolicy, TopicPolicy};

use super::Relaying;
use super::run::Site;
use crate::Failure;
use crate::carrier::Carrier;
use crate::ground::Ground;

pub(super) async fn relay<D: Ground>(
    site: Site<D>,
    carrier: Carrier,
    relaying: Relaying,
) -> Result<(), Failure> {
    let stop = site.stopped();
    let plain = site.database.clone();
    let database: Arc<dyn Database> = match (site.node.death, site.node.sabotage) {
        (Some(death), _) => Arc::new(death.database(plain)),
        (None, Some(sabotage)) => sabotage.database(plain),
        (None, None) => Arc::new(plain),
    };
    let relay = Relay::new(database, site.broker(&carrier));
    relay.options(options(&site.node.name, &relaying)).run_until(stop).await;
    Ok(())
}

/// Quick, so that a proof need not wait.
pub fn options(owner: &str, relaying: &Relaying) -> RelayOptions {
    let retry = RetryPolicy {
        limit: relaying.attempts,
        first: Duration::from_millis(20),
        longest: Duration::from_millis(200),
    };
    RelayOptions {
        owner: owner.to_owned(),
        window_messages: relaying.window,
        lease_ttl: Duration::from_millis(relaying.lease_ms),
        poll: Some(Duration::from_millis(250)),
        policy: TopicPolicy {
            retry,
            probe_every: Duration::from_millis(relaying.probe_ms),
            ..TopicPolicy::default()
        },
        lanes: relaying.lanes,
        ..RelayOptions::default()
    }
}
