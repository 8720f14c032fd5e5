//! Lines of keys in the side table: what stands behind one that failed costs nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste_core::dead_letter::{DeadFilter, DeadLetters};
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::outbox::{Entry, Feed, OutboxReader, ReadLimit, Settled, Settlement};
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Lane, Verdict};

use crate::fixture::Fixture;

const KEYS: usize = 40;
const EACH: usize = 250;
const MANY: ReadLimit = ReadLimit { messages: 20_000, bytes: 1 << 30 };

/// Lines in which everything was made ready, as it is behind a head that was sent.
const READY: &str = "insert into posthaste.held \
       (destination, seq, hash, lane, topic, kind, key, state, ready_at) \
     select 'default', seq, posthaste.lane_hash(key, id), 0, topic, kind, key, 'retry', \
       clock_timestamp() from posthaste.outbox";

/// Rows that a reading would look at.
const LOOKED_AT: &str = "select looked_at from posthaste.read_held('default', 0, 1, 500, 1, 99999) \
     where looked_at is not null";

fn settled(entry: &Entry, verdict: Verdict) -> Settled {
    let message = entry.body.as_ref().expect("a message");
    let address = Some((message.topic.clone(), message.key.clone()));
    Settled { position: entry.position.clone(), feed: Feed::Ready, address, verdict }
}

/// The settlements of one leader.
struct Leader {
    fixture: Fixture,
    lane: Lane,
    lease: Lease,
    number: u64,
}

impl Leader {
    async fn new() -> Option<Self> {
        let (fixture, lane) = (Fixture::new().await?, Lane::whole("default"));
        let name = lane.lease_name();
        let claim = fixture.database.acquire(&name, "me", Duration::from_secs(600)).await;
        let Claim::Granted(lease) = claim.expect("a claim") else { panic!("held") };
        Some(Self { fixture, lane, lease, number: 0 })
    }

    async fn settle(&mut self, verdicts: Vec<Settled>) {
        self.number += 1;
        let settlement =
            Settlement { lane: self.lane.clone(), number: self.number, checkpoint: None, verdicts };
        self.fixture.database.settle(&self.lease, &settlement).await.expect("settle");
    }

    async fn ready(&self, limit: ReadLimit) -> Vec<Entry> {
        self.fixture.database.ready(&self.lane, limit).await.expect("ready").entries
    }

    /// Sends all that is ready until nothing is held, and returns what was sent of each key.
    async fn work_off(&mut self) -> BTreeMap<String, Vec<usize>> {
        let mut sent: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.fixture.sql("select count(*) from posthaste.held").await != "0" {
            assert!(tokio::time::Instant::now() < deadline, "{} keys flowed", sent.len());
            let ready = self.fixture.database.ready(&self.lane, MANY).await.expect("ready");
            for entry in &ready.entries {
                let message = entry.body.as_ref().expect("a message");
                let payload = message.payload.as_text().expect("text").parse().expect("a number");
                sent.entry(message.key.clone().expect("a key")).or_default().push(payload);
            }
            let sent = ready.entries.iter().map(|entry| settled(entry, Verdict::Sent)).collect();
            self.settle(sent).await;
            if let Some(wait) = ready.next_in.filter(|_| ready.entries.is_empty()) {
                tokio::time::sleep(wait).await;
            }
        }
        sent
    }
}

/// Fails the heads of lines in which all is ready, by turns for good and for two seconds.
async fn fail_heads(leader: &mut Leader) {
    let rows = format!(
        "insert into posthaste.outbox (topic, kind, key, payload) select 'orders', 'placed', k, n \
         from generate_series(1, {EACH}) n, generate_series(1, {KEYS}) k order by n, k"
    );
    leader.fixture.sql(&rows).await;
    leader.fixture.sql(READY).await;
    let heads = leader.ready(ReadLimit { messages: KEYS, ..MANY }).await;
    assert_eq!(heads.len(), KEYS);
    let fail = |(n, head): (usize, &Entry)| {
        let detail = "no".to_owned();
        settled(
            head,
            match n % 2 {
                0 => Verdict::Retry { delay: Duration::from_secs(2), detail, attempts: 1 },
                _ => Verdict::Dead { reason: DeadReason::Refused, detail, attempts: 1, park: true },
            },
        )
    };
    leader.settle(heads.iter().enumerate().map(fail).collect()).await;
}

#[tokio::test]
async fn nothing_behind_a_failed_head_is_looked_at_until_it_is_out_of_the_way() {
    let Some(mut leader) = Leader::new().await else { return };
    fail_heads(&mut leader).await;
    assert_eq!(leader.fixture.sql(LOOKED_AT).await, "0", "of {} rows", KEYS * EACH);

    let all = DeadFilter { limit: KEYS, ..DeadFilter::default() };
    let letters = leader.fixture.database.list(&all).await.expect("list");
    let letters: Vec<_> = letters.into_iter().map(|letter| letter.reference).collect();
    assert_eq!(letters.len(), KEYS / 2);
    leader.fixture.database.repost(&letters, "ann").await.expect("repost");
    let sent = leader.work_off().await;
    assert_eq!(sent.len(), KEYS);
    for (key, numbers) in sent {
        assert!(numbers.iter().copied().eq(1..=EACH), "{key}: {numbers:?}");
    }
}

#[tokio::test]
async fn what_is_sent_again_comes_before_all_that_are_ready_behind_it() {
    let Some(mut leader) = Leader::new().await else { return };
    let rows = "insert into posthaste.outbox (topic, kind, key, payload) \
         select 'orders', 'placed', 'k', n from generate_series(1, 300) n";
    leader.fixture.sql(rows).await;
    leader.fixture.sql(READY).await;
    // More than are looked at for one row became ready before the first, and stand behind it.
    let later = "update posthaste.held set ready_at = clock_timestamp() where seq = 1";
    leader.fixture.sql(later).await;
    let one = leader.ready(ReadLimit { messages: 1, ..MANY }).await;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].position.as_str(), "1");
    let sent = leader.work_off().await;
    assert!(sent["k"].iter().copied().eq(1..=300));
}

#[tokio::test]
async fn what_is_not_held_back_is_seen_to_be_looked_at() {
    let Some(mut leader) = Leader::new().await else { return };
    let idle = "create or replace function posthaste.hold_back( \
           the_destination text, topics text[], keys text[], seqs bigint[]) returns void \
         language sql as ''";
    leader.fixture.sql(idle).await;
    fail_heads(&mut leader).await;
    let looked_at: usize = leader.fixture.sql(LOOKED_AT).await.parse().expect("a number");
    assert_eq!(looked_at, KEYS * (EACH - 1), "the other test would not notice");
}
