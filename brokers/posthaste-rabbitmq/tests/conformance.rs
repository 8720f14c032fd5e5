//! The laws of the seams on a real broker.

use std::time::Duration;

use posthaste_conformance::BrokerCase;

use crate::support::{open, vhost};

/// A vhost seen through two clients. There are no locks whose length could be chosen.
async fn rabbit(_lock: Duration) -> BrokerCase {
    let vhost = vhost().await;
    let (broker, second) = (open(&vhost.url()), open(&vhost.url()));
    BrokerCase::new(broker, second).returning().keep(vhost)
}

posthaste_conformance::broker_suite!(rabbit);

/// The broker behind a proxy that refuses for a while.
mod away {
    use std::sync::Arc;

    use async_trait::async_trait;
    use posthaste_conformance::{Outage, OutageCase};
    use posthaste_core::{Broker, Subscription};
    use posthaste_servers::Proxy;

    use crate::support::{open, vhost};

    struct Refusing(Proxy);

    #[async_trait]
    impl Outage for Refusing {
        async fn away(&self) {
            self.0.refuse().await;
            self.0.reset();
        }

        async fn back(&self) {
            self.0.heal().await;
        }
    }

    async fn case() -> OutageCase {
        let vhost = vhost().await;
        let proxy = Proxy::before(vhost.server().port()).await.expect("a port");
        let broker = open(&proxy.url(&vhost.url()));
        // Without a queue nothing is accepted.
        let subscription = Subscription::new("orders", "one");
        drop(broker.subscriber(&subscription).await.expect("a subscription"));
        OutageCase::new(broker, Arc::new(Refusing(proxy))).keep(vhost)
    }
    posthaste_conformance::outage_suite!(case);
}
