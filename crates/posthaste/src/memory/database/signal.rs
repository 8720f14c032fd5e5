//! Hints that a look may be worth it: every handle is told of every change once.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use posthaste_core::outbox::Signal;

use super::MemoryDatabase;

#[async_trait]
impl Signal for MemoryDatabase {
    async fn changed(&self) {
        let mut changes = self.shared.changes.subscribe();
        let latest = *changes.borrow_and_update();
        if self.told.swap(latest, Ordering::AcqRel) != latest {
            return;
        }
        // The sender lives in this handle, so that the wait ends with a change and nothing else.
        if changes.changed().await.is_ok() {
            let latest = *changes.borrow_and_update();
            self.told.fetch_max(latest, Ordering::AcqRel);
        }
    }

    fn wake(&self) {
        self.shared.announce();
    }
}
