//! A relay moved by hand: the laws say what it reads and how it settles.

use std::time::Duration;

use posthaste_core::lease::{Claim, Lease};
use posthaste_core::outbox::{Entry, Feed, ReadLimit, Ready, Settled, Settlement};
use posthaste_core::verdict::{DeadReason, Verdict};
use posthaste_core::{Checkpoint, Lane, Message, MessageId, StoreError};

use crate::case::Store;
use crate::timing::eventually;

/// The destination that laws relay to unless they say otherwise.
pub(crate) const DESTINATION: &str = "default";
/// Room enough for everything a law states.
pub(crate) const ALL: ReadLimit = ReadLimit { messages: 100_000, bytes: usize::MAX / 2 };
/// Longer than any law runs.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Reads and settles under a lease of its own.
pub(crate) struct HandRelay<'a, D> {
    pub(crate) database: &'a D,
    pub(crate) lease: Lease,
    pub(crate) lane: Lane,
    number: u64,
}

impl<'a, D: Store> HandRelay<'a, D> {
    /// A relay of the default destination that holds its lease for long.
    pub(crate) async fn start(database: &'a D) -> Self {
        Self::to(database, DESTINATION).await
    }

    /// The same for another destination.
    pub(crate) async fn to(database: &'a D, destination: &str) -> Self {
        Self::of(database, Lane::whole(destination)).await
    }

    /// The same for one lane of a destination.
    pub(crate) async fn of(database: &'a D, lane: Lane) -> Self {
        let lease = claim(database, &lane.lease_name(), "by-hand", LONG).await;
        Self { database, lease, lane, number: 0 }
    }

    /// All new entries past the stored checkpoint, and the checkpoint after them.
    pub(crate) async fn new_entries(&self) -> (Vec<Entry>, Checkpoint) {
        let from = self.database.checkpoint(&self.lane).await.expect("checkpoint");
        let batch = self.database.read(&self.lane, &from, ALL).await.expect("read");
        assert!(!batch.more, "nothing cut this batch short");
        (batch.entries, batch.checkpoint)
    }

    /// What the side table gives now.
    pub(crate) async fn ready(&self) -> Ready {
        self.database.ready(&self.lane, ALL).await.expect("ready")
    }

    /// Ids of what the side table gives now.
    pub(crate) async fn ready_ids(&self) -> Vec<MessageId> {
        ids(&self.ready().await.entries)
    }

    /// Waits until the side table gives something, and returns it.
    pub(crate) async fn wait_ready(&self) -> Vec<Entry> {
        eventually("an entry of the side table is ready", async || {
            let entries = self.ready().await.entries;
            (!entries.is_empty()).then_some(entries)
        })
        .await
    }

    /// The next settlement, not yet carried out.
    pub(crate) fn settlement(
        &mut self,
        checkpoint: Option<Checkpoint>,
        verdicts: Vec<Settled>,
    ) -> Settlement {
        self.number += 1;
        Settlement { lane: self.lane.clone(), number: self.number, checkpoint, verdicts }
    }

    /// Settles all new entries, each with the verdict that `verdict` gives for its place.
    pub(crate) async fn settle_new(&mut self, verdict: impl Fn(usize) -> Verdict) -> Vec<Entry> {
        let (entries, checkpoint) = self.new_entries().await;
        let judged =
            entries.iter().enumerate().map(|(n, entry)| settled(entry, Feed::New, verdict(n)));
        let settlement = self.settlement(Some(checkpoint), judged.collect());
        self.settle(&settlement).await.expect("the settlement is carried out");
        entries
    }

    /// Settles one entry of the side table.
    pub(crate) async fn settle_ready(&mut self, entry: &Entry, verdict: Verdict) {
        let settlement = self.settlement(None, vec![settled(entry, Feed::Ready, verdict)]);
        self.settle(&settlement).await.expect("the settlement is carried out");
    }

    /// Carries out a settlement under the lease of this relay.
    pub(crate) async fn settle(&self, settlement: &Settlement) -> Result<(), StoreError> {
        self.database.settle(&self.lease, settlement).await
    }
}

/// The only lane of the default destination.
pub(crate) fn lane() -> Lane {
    Lane::whole(DESTINATION)
}

/// Claims a lease that must be free.
pub(crate) async fn claim<D: Store>(database: &D, name: &str, owner: &str, ttl: Duration) -> Lease {
    match database.acquire(name, owner, ttl).await.expect("acquire") {
        Claim::Granted(lease) => lease,
        Claim::Held { by, .. } => panic!("the lease {name} is held by {by} and should be free"),
    }
}

/// States messages in one transaction.
pub(crate) async fn state<D: Store>(database: &D, messages: &[Message]) {
    let mut transaction = database.begin().await.expect("begin");
    let connection = D::connection(&mut transaction);
    database.enqueue(connection, messages).await.expect("enqueue");
    database.commit(transaction).await.expect("commit");
}

/// The verdict on an entry.
pub(crate) fn settled(entry: &Entry, feed: Feed, verdict: Verdict) -> Settled {
    let address = entry.body.as_ref().ok().map(|m| (m.topic.clone(), m.key.clone()));
    Settled { position: entry.position.clone(), feed, address, verdict }
}

/// A first failure, to be tried again after `delay`.
pub(crate) fn retry(delay: Duration) -> Verdict {
    Verdict::Retry { attempts: 1, delay, detail: "the broker was busy".into() }
}

/// Nobody is bound to it; the first of its route is tried again after `probe_in`.
pub(crate) fn unroutable(probe_in: Duration) -> Verdict {
    Verdict::Unroutable { probe_in, detail: "nobody is bound to it".into() }
}

/// It joins others of its route without being tried.
pub(crate) fn joins() -> Verdict {
    Verdict::Unroutable { probe_in: Duration::ZERO, detail: String::new() }
}

/// Dead after three attempts.
pub(crate) fn dead(park: bool) -> Verdict {
    let (reason, detail) = (DeadReason::Refused, "the broker said no".to_owned());
    Verdict::Dead { attempts: 3, reason, detail, park }
}

/// The message of an entry that is one.
pub(crate) fn body(entry: &Entry) -> &Message {
    match &entry.body {
        Ok(message) => message,
        Err(malformed) => panic!("a valid message was read as malformed: {}", malformed.detail),
    }
}

/// The ids of entries, in their order.
pub(crate) fn ids(entries: &[Entry]) -> Vec<MessageId> {
    entries.iter().map(|entry| body(entry).id).collect()
}

/// The ids of messages, in their order.
pub(crate) fn ids_of(messages: &[Message]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}
