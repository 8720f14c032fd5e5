//! The laws of the seams, over the bus: once in the owner's process, once over the socket.

/// The first handle owns the file, the second is a client of it.
mod owner_first {
    use std::sync::Arc;
    use std::time::Duration;

    use posthaste_conformance::BrokerCase;

    use crate::support::Folder;

    async fn bus(lock: Duration) -> BrokerCase {
        let folder = Folder::new();
        let owner = folder.open_with(|options| options.lock = lock);
        let client = folder.open_with(|options| options.lock = lock);
        BrokerCase::new(Arc::new(owner), Arc::new(client)).keep(folder)
    }
    posthaste_conformance::broker_suite!(bus);
    posthaste_conformance::topics_suite!(bus);
}

/// The first handle is the client.
mod client_first {
    use std::sync::Arc;
    use std::time::Duration;

    use posthaste_conformance::BrokerCase;

    use crate::support::Folder;

    async fn bus(lock: Duration) -> BrokerCase {
        let folder = Folder::new();
        let owner = folder.open_with(|options| options.lock = lock);
        let client = folder.open_with(|options| options.lock = lock);
        BrokerCase::new(Arc::new(client), Arc::new(owner)).keep(folder)
    }
    posthaste_conformance::broker_suite!(bus);
    posthaste_conformance::topics_suite!(bus);
}
