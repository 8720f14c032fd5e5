//! Seams that a wrapper passes on unchanged to its field `inner`.

/// Implements the named seams of a database for a wrapper by passing every call on.
macro_rules! delegate_seams {
    ($wrapper:ident: $($seam:ident),* $(,)?) => {
        $( $crate::testing::fault::delegate::delegate_seam!($seam, $wrapper); )*
    };
}

macro_rules! delegate_seam {
    (OutboxReader, $wrapper:ident) => {
        #[async_trait::async_trait]
        impl<D: ?Sized + posthaste_core::outbox::OutboxReader> posthaste_core::outbox::OutboxReader
            for $wrapper<D>
        {
            async fn checkpoint(
                &self,
                lane: &posthaste_core::Lane,
            ) -> Result<posthaste_core::Checkpoint, posthaste_core::StoreError> {
                self.inner.checkpoint(lane).await
            }

            async fn read(
                &self,
                lane: &posthaste_core::Lane,
                from: &posthaste_core::Checkpoint,
                limit: posthaste_core::outbox::ReadLimit,
            ) -> Result<posthaste_core::outbox::Batch, posthaste_core::StoreError> {
                self.inner.read(lane, from, limit).await
            }

            async fn ready(
                &self,
                lane: &posthaste_core::Lane,
                limit: posthaste_core::outbox::ReadLimit,
            ) -> Result<posthaste_core::outbox::Ready, posthaste_core::StoreError> {
                self.inner.ready(lane, limit).await
            }

            async fn settle(
                &self,
                lease: &posthaste_core::lease::Lease,
                settlement: &posthaste_core::outbox::Settlement,
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.settle(lease, settlement).await
            }
        }
    };
    (Signal, $wrapper:ident) => {
        #[async_trait::async_trait]
        impl<D: ?Sized + posthaste_core::outbox::Signal> posthaste_core::outbox::Signal
            for $wrapper<D>
        {
            async fn changed(&self) {
                self.inner.changed().await;
            }

            fn wake(&self) {
                self.inner.wake();
            }

            fn pace(&self) -> posthaste_core::outbox::Pace {
                self.inner.pace()
            }
        }
    };
    (Leases, $wrapper:ident) => {
        #[async_trait::async_trait]
        impl<D: ?Sized + posthaste_core::lease::Leases> posthaste_core::lease::Leases
            for $wrapper<D>
        {
            async fn acquire(
                &self,
                name: &str,
                owner: &str,
                ttl: std::time::Duration,
            ) -> Result<posthaste_core::lease::Claim, posthaste_core::StoreError> {
                self.inner.acquire(name, owner, ttl).await
            }

            async fn renew(
                &self,
                lease: &posthaste_core::lease::Lease,
                ttl: std::time::Duration,
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.renew(lease, ttl).await
            }

            async fn release(
                &self,
                lease: &posthaste_core::lease::Lease,
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.release(lease).await
            }

            async fn held(
                &self,
                prefix: &str,
            ) -> Result<Vec<posthaste_core::database::HeldLease>, posthaste_core::StoreError> {
                self.inner.held(prefix).await
            }
        }
    };
    (Lanes, $wrapper:ident) => {
        #[async_trait::async_trait]
        impl<D: ?Sized + posthaste_core::lane::Lanes> posthaste_core::lane::Lanes for $wrapper<D> {
            async fn division(
                &self,
                destination: &str,
            ) -> Result<posthaste_core::lane::Division, posthaste_core::StoreError> {
                self.inner.division(destination).await
            }

            async fn can_divide(
                &self,
                destination: &str,
            ) -> Result<bool, posthaste_core::StoreError> {
                self.inner.can_divide(destination).await
            }

            async fn want_lanes(
                &self,
                destination: &str,
                lanes: u16,
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.want_lanes(destination, lanes).await
            }

            async fn divide(
                &self,
                destination: &str,
                leases: &[posthaste_core::lease::Lease],
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.divide(destination, leases).await
            }
        }
    };
    (DeadLetters, $wrapper:ident) => {
        #[async_trait::async_trait]
        impl<D: ?Sized + posthaste_core::dead_letter::DeadLetters>
            posthaste_core::dead_letter::DeadLetters for $wrapper<D>
        {
            async fn list(
                &self,
                filter: &posthaste_core::dead_letter::DeadFilter,
            ) -> Result<Vec<posthaste_core::dead_letter::DeadLetter>, posthaste_core::StoreError>
            {
                self.inner.list(filter).await
            }

            async fn get(
                &self,
                reference: &str,
            ) -> Result<Option<posthaste_core::dead_letter::DeadLetter>, posthaste_core::StoreError>
            {
                self.inner.get(reference).await
            }

            async fn repost(
                &self,
                references: &[String],
                actor: &str,
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.repost(references, actor).await
            }

            async fn discard(
                &self,
                references: &[String],
                actor: &str,
                reason: &str,
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.discard(references, actor, reason).await
            }
        }
    };
    (Schema, $wrapper:ident) => {
        #[async_trait::async_trait]
        impl<D: ?Sized + posthaste_core::database::Schema> posthaste_core::database::Schema
            for $wrapper<D>
        {
            async fn version(&self) -> Result<Option<u32>, posthaste_core::StoreError> {
                self.inner.version().await
            }

            async fn migrate(
                &self,
            ) -> Result<posthaste_core::database::Migrated, posthaste_core::StoreError> {
                self.inner.migrate().await
            }

            fn script(&self) -> String {
                self.inner.script()
            }

            async fn adopt(&self, actor: &str) -> Result<Vec<String>, posthaste_core::StoreError> {
                self.inner.adopt(actor).await
            }
        }
    };
    (Monitor, $wrapper:ident) => {
        #[async_trait::async_trait]
        impl<D: ?Sized + posthaste_core::database::Monitor> posthaste_core::database::Monitor
            for $wrapper<D>
        {
            async fn status(
                &self,
                destination: &str,
            ) -> Result<posthaste_core::database::Status, posthaste_core::StoreError> {
                self.inner.status(destination).await
            }

            async fn entries(
                &self,
                filter: &posthaste_core::database::EntryFilter,
            ) -> Result<Vec<posthaste_core::database::Listed>, posthaste_core::StoreError> {
                self.inner.entries(filter).await
            }

            async fn findings(&self) -> Vec<posthaste_core::finding::Finding> {
                self.inner.findings().await
            }
        }
    };
    (Upkeep, $wrapper:ident) => {
        #[async_trait::async_trait]
        impl<D: ?Sized + posthaste_core::database::Upkeep> posthaste_core::database::Upkeep
            for $wrapper<D>
        {
            async fn enqueue_alone(
                &self,
                messages: &[posthaste_core::Message],
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.enqueue_alone(messages).await
            }

            async fn prune_sent(
                &self,
                lease: &posthaste_core::lease::Lease,
                keep: std::time::Duration,
                limit: usize,
            ) -> Result<u64, posthaste_core::StoreError> {
                self.inner.prune_sent(lease, keep, limit).await
            }
        }
    };
    (InboxUpkeep, $wrapper:ident) => {
        #[async_trait::async_trait]
        impl<D: ?Sized + posthaste_core::inbox::InboxUpkeep> posthaste_core::inbox::InboxUpkeep
            for $wrapper<D>
        {
            async fn reposted(
                &self,
                consumer: &str,
                limit: usize,
            ) -> Result<Vec<posthaste_core::Message>, posthaste_core::StoreError> {
                self.inner.reposted(consumer, limit).await
            }

            async fn prune_inbox(
                &self,
                consumer: &str,
                window: posthaste_core::inbox::InboxWindow,
                limit: usize,
            ) -> Result<u64, posthaste_core::StoreError> {
                self.inner.prune_inbox(consumer, window, limit).await
            }
        }
    };
    (Transactional, $wrapper:ident) => {
        impl<D: posthaste_core::transaction::Transactional>
            posthaste_core::transaction::Transactional for $wrapper<D>
        {
            type Connection = D::Connection;
            type Transaction = D::Transaction;

            async fn begin(&self) -> Result<D::Transaction, posthaste_core::StoreError> {
                self.inner.begin().await
            }

            fn connection(transaction: &mut D::Transaction) -> &mut D::Connection {
                D::connection(transaction)
            }

            async fn commit(
                &self,
                transaction: D::Transaction,
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.commit(transaction).await
            }
        }
    };
    (OutboxWriter, $wrapper:ident) => {
        impl<D: posthaste_core::transaction::OutboxWriter> posthaste_core::transaction::OutboxWriter
            for $wrapper<D>
        {
            const UNIQUE_IDS: bool = D::UNIQUE_IDS;

            async fn enqueue(
                &self,
                connection: &mut D::Connection,
                messages: &[posthaste_core::Message],
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.enqueue(connection, messages).await
            }

            fn limits(&self) -> posthaste_core::Limits {
                self.inner.limits()
            }
        }
    };
    (Inbox, $wrapper:ident) => {
        impl<D: posthaste_core::inbox::Inbox> posthaste_core::inbox::Attempts for $wrapper<D> {
            async fn begin_attempt(
                &self,
                consumer: &str,
                id: posthaste_core::MessageId,
            ) -> Result<u32, posthaste_core::StoreError> {
                self.inner.begin_attempt(consumer, id).await
            }

            async fn record_failure(
                &self,
                consumer: &str,
                id: posthaste_core::MessageId,
                attempt: u32,
                detail: &str,
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.record_failure(consumer, id, attempt, detail).await
            }
        }

        impl<D: posthaste_core::inbox::Inbox> posthaste_core::inbox::Inbox for $wrapper<D> {
            async fn accept(
                &self,
                connection: &mut D::Connection,
                consumer: &str,
                ids: &[posthaste_core::MessageId],
            ) -> Result<Vec<posthaste_core::inbox::Acceptance>, posthaste_core::StoreError> {
                self.inner.accept(connection, consumer, ids).await
            }

            async fn holds(
                &self,
                connection: &mut D::Connection,
                consumer: &str,
                id: posthaste_core::MessageId,
            ) -> Result<bool, posthaste_core::StoreError> {
                self.inner.holds(connection, consumer, id).await
            }

            async fn bury(
                &self,
                connection: &mut D::Connection,
                consumer: &str,
                message: &posthaste_core::Message,
                burial: &posthaste_core::inbox::Burial,
            ) -> Result<(), posthaste_core::StoreError> {
                self.inner.bury(connection, consumer, message, burial).await
            }
        }
    };
}

pub(crate) use {delegate_seam, delegate_seams};
