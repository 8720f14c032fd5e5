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

async fn broker(lock: Duration) -> BrokerCase {
    case_of(MemoryBroker::new().with_lock(lock))
}

fn case_of(broker: MemoryBroker) -> BrokerCase {
    BrokerCase::new(Arc::new(broker.clone()), Arc::new(broker))
}

posthaste_conformance::broker_suite!(broker);
posthaste_conformance::topics_suite!(broker);

/// A broker that promises less keeps exactly that.
mod modest {
    use super::*;
    use posthaste::core::Promises;

    async fn broker(lock: Duration) -> BrokerCase {
        let promises = Promises {
            prefix_per_key: false,
            durable: false,
            ordered: false,
            dedupe_window: None,
            max_batch: 7,
            max_payload: 1024 * 1024,
            counts_deliveries: false,
        };
        case_of(MemoryBroker::promising(promises).with_lock(lock))
    }

    posthaste_conformance::broker_suite!(broker);
}

/// A broker that returns what no subscription is there for.
mod returning {
    use super::*;

    async fn broker(lock: Duration) -> BrokerCase {
        case_of(MemoryBroker::new().with_lock(lock).returning()).returning()
    }

    posthaste_conformance::broker_suite!(broker);
}

/// A broker that drops repeated ids.
mod deduplicating {
    use super::*;
    use posthaste::core::{Broker, Promises};

    async fn broker(lock: Duration) -> BrokerCase {
        let promises = Promises {
            dedupe_window: Some(Duration::from_secs(120)),
            ..MemoryBroker::new().promises()
        };
        case_of(MemoryBroker::promising(promises).with_lock(lock))
    }

    posthaste_conformance::broker_suite!(broker);
}

/// A broker behind a line that can be cut.
mod with_outages {
    use super::*;
    use async_trait::async_trait;
    use posthaste::core::{Broker, Promises};
    use posthaste::testing::fault::{OutageBroker, OutageSwitch};
    use posthaste_conformance::{Outage, OutageCase};

    struct Line(OutageSwitch);

    #[async_trait]
    impl Outage for Line {
        async fn away(&self) {
            self.0.away();
        }

        async fn back(&self) {
            self.0.back();
        }
    }

    async fn broker_with_outages() -> OutageCase {
        let promises = Promises { durable: true, ..MemoryBroker::new().promises() };
        let (broker, switch) = OutageBroker::new(Arc::new(MemoryBroker::promising(promises)));
        OutageCase::new(Arc::new(broker), Arc::new(Line(switch)))
    }

    posthaste_conformance::outage_suite!(broker_with_outages);
}
