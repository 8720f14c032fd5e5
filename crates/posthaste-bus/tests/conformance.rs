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

/// The owner is another process that is killed, while nobody can take its place. A bus is away
/// once: afterwards this process owns the file, so the law that wants two outages of one case is
/// left to the tests that kill owners.
mod away {
    use std::fs::File;
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use posthaste_conformance::{Outage, OutageCase, outage, run};

    use crate::processes::Process;
    use crate::support::Folder;

    struct Killing {
        folder: Folder,
        owner: Mutex<Option<Process>>,
        lock: Mutex<Option<File>>,
    }

    #[async_trait]
    impl Outage for Killing {
        async fn away(&self) {
            // Another lock file in the place of the owner's, and it is taken already.
            let (name, old) = (self.folder.file("bus.db.lock"), self.folder.file("old"));
            std::fs::rename(&name, &old).expect("renamed");
            std::fs::copy(&old, self.folder.file("new")).expect("copied");
            let lock = File::open(self.folder.file("new")).expect("opened");
            lock.try_lock().expect("locked");
            std::fs::rename(self.folder.file("new"), &name).expect("renamed");
            *self.lock.lock().expect("no panic") = Some(lock);
            let owner = self.owner.lock().expect("no panic").take();
            owner.expect("the first outage").kill();
        }

        async fn back(&self) {
            drop(self.lock.lock().expect("no panic").take());
        }
    }

    async fn case() -> OutageCase {
        let folder = Folder::new();
        let owner = Process::start("own", &folder.url());
        let bus = Arc::new(folder.open());
        let (owner, lock) = (Mutex::new(Some(owner)), Mutex::default());
        OutageCase::new(bus, Arc::new(Killing { folder, owner, lock }))
    }

    macro_rules! laws_of_one_outage {
        ($($law:ident),* $(,)?) => {
            $(
                #[test]
                fn $law() {
                    run(stringify!($law), async { outage::$law(case().await).await });
                }
            )*
        };
    }

    laws_of_one_outage!(
        while_the_broker_is_away_nothing_is_accepted,
        what_was_unavailable_is_never_delivered,
        the_same_subscriber_goes_on_when_the_broker_is_back,
        what_was_accepted_before_is_delivered_after,
        what_was_in_hand_comes_again_and_is_counted,
    );
}
