//! Laws of lanes: every message in one of them, and no change of their number is seen by a key.
//!
//! A database that has one lane only says so when it is asked for more; the other laws ask nothing
//! else of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use posthaste_core::lane::{Division, Lane, MAX_LANES};
use posthaste_core::lease::Lease;
use posthaste_core::outbox::{Entry, Feed, ReadLimit};
use posthaste_core::retry::Jitter;
use posthaste_core::{Checkpoint, Message, MessageId, StoreError, Verdict};

use crate::case::{DatabaseCase, Store};
use crate::hand::{
    ALL, DESTINATION, HandRelay, LONG, body, claim, ids, ids_of, joins, retry, settled, state,
    unroutable,
};
use crate::sample::{keyed, message};
use crate::timing::eventually;

/// Makes a test of every law of lanes.
#[macro_export]
macro_rules! lanes_suite {
    ($make:ident) => {
        $crate::laws!(
            lanes,
            $make(),
            [
                a_destination_has_one_lane_until_more_are_asked_for,
                a_number_of_lanes_that_cannot_be_is_refused,
                what_is_asked_for_is_seen_by_every_handle_and_can_be_taken_back,
                every_message_is_read_in_one_lane_and_a_key_always_in_the_same,
                lanes_settle_each_for_itself,
                a_division_needs_the_leases_of_all_present_lanes,
                a_settlement_in_a_lane_of_an_earlier_division_is_refused,
                a_division_loses_and_repeats_nothing_whatever_was_settled_by_then,
                a_division_waits_until_the_one_before_is_worked_off,
                what_commits_after_a_division_is_read_in_its_lane,
                what_waits_moves_with_its_key,
                what_is_set_aside_is_tried_in_every_lane_after_a_division,
                what_one_lane_has_not_sent_is_not_pruned,
            ]
        );
    };
}

/// Asks for lanes; `None` from a database that has one only, which must say so.
async fn want<D: Store>(database: &D, lanes: u16) -> Option<()> {
    match database.want_lanes(DESTINATION, lanes).await {
        Ok(()) => Some(()),
        Err(StoreError::Rejected { reason, .. }) => {
            assert!(reason.contains("lane"), "it says that it has one lane: {reason}");
            let one = Division { now: 1, wanted: 1 };
            assert_eq!(division(database).await, one, "nothing was changed");
            None
        }
        Err(other) => panic!("asking for {lanes} lanes gave {other:?}"),
    }
}

async fn division<D: Store>(database: &D) -> Division {
    database.division(DESTINATION).await.expect("division")
}

/// The leases of all present lanes.
async fn all_leases<D: Store>(database: &D, owner: &str) -> Vec<Lease> {
    let mut leases = Vec::new();
    for lane in Lane::all(DESTINATION, division(database).await.now) {
        leases.push(claim(database, &lane.lease_name(), owner, LONG).await);
    }
    leases
}

/// Divides into so many lanes, which must be possible; `None` if the database has one only.
async fn divide<D: Store>(database: &D, lanes: u16) -> Option<()> {
    want(database, lanes).await?;
    let leases = all_leases(database, "by-hand").await;
    database.divide(DESTINATION, &leases).await.expect("divide");
    assert_eq!(division(database).await, Division { now: lanes, wanted: lanes });
    Some(())
}

/// A relay by hand in each of the present lanes.
async fn relays<D: Store>(database: &D) -> Vec<HandRelay<'_, D>> {
    let mut relays = Vec::new();
    for lane in Lane::all(DESTINATION, division(database).await.now) {
        relays.push(HandRelay::of(database, lane).await);
    }
    relays
}

fn messages(count: usize, keys: usize) -> Vec<Message> {
    let keyed = |n: usize| keyed("orders", &format!("key-{}", n % keys), &n.to_string());
    (0..count).map(|n| if n % 4 == 3 { message("orders") } else { keyed(n) }).collect()
}

/// Until somebody wants more, everything is as if there were no lanes.
pub async fn a_destination_has_one_lane_until_more_are_asked_for<D: Store>(case: DatabaseCase<D>) {
    let one = Division { now: 1, wanted: 1 };
    assert_eq!(division(&case.database).await, one);
    case.database.want_lanes(DESTINATION, 1).await.expect("one lane is always possible");
    assert_eq!(division(&case.second).await, one);
    assert_eq!(case.second.status(DESTINATION).await.expect("status").lanes, 1);
    assert_eq!(case.second.division("never/used").await.expect("division"), one);
}

/// Not none, and not more than there may be.
pub async fn a_number_of_lanes_that_cannot_be_is_refused<D: Store>(case: DatabaseCase<D>) {
    for lanes in [0, MAX_LANES + 1, u16::MAX] {
        let refused = case.database.want_lanes(DESTINATION, lanes).await;
        assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{lanes}: {refused:?}");
    }
    assert_eq!(division(&case.second).await, Division { now: 1, wanted: 1 });
    let _ = want(&case.database, 2).await;
}

/// The wish is in the database, and changes nothing by itself.
pub async fn what_is_asked_for_is_seen_by_every_handle_and_can_be_taken_back<D: Store>(
    case: DatabaseCase<D>,
) {
    let Some(()) = want(&case.database, 3).await else { return };
    assert_eq!(division(&case.second).await, Division { now: 1, wanted: 3 });
    assert_eq!(case.second.status(DESTINATION).await.expect("status").lanes, 1);
    let other = case.second.division("other").await.expect("division");
    assert_eq!(other, Division { now: 1, wanted: 1 }, "every destination has its own");
    want(&case.second, 1).await.expect("a wish can be taken back");
    assert_eq!(division(&case.database).await, Division { now: 1, wanted: 1 });
}

/// All new entries of a lane, in small batches.
async fn follow<D: Store>(database: &D, lane: &Lane, messages: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut from = database.checkpoint(lane).await.expect("checkpoint");
    let limit = ReadLimit { messages, bytes: ALL.bytes };
    loop {
        let batch = database.read(lane, &from, limit).await.expect("read");
        assert!(batch.entries.len() <= messages, "a batch keeps its limit");
        entries.extend(batch.entries);
        from = batch.checkpoint;
        if !batch.more {
            return entries;
        }
    }
}

/// The whole outbox is in the lanes, and nothing twice.
pub async fn every_message_is_read_in_one_lane_and_a_key_always_in_the_same<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated = messages(120, 16);
    state(&case.database, &stated[..60]).await;
    let Some(()) = divide(&case.database, 4).await else { return };
    assert_eq!(case.second.status(DESTINATION).await.expect("status").lanes, 4);
    state(&case.second, &stated[60..]).await;
    for limit in [1, 7, 1000] {
        let mut lane_of: BTreeMap<String, u16> = BTreeMap::new();
        let mut read: BTreeMap<MessageId, u16> = BTreeMap::new();
        for lane in Lane::all(DESTINATION, 4) {
            let entries = follow(&case.second, &lane, limit).await;
            assert!(entries.len() < 90, "{} of 120 messages in one of 4 lanes", entries.len());
            let wanted: Vec<_> = ids(&entries);
            let kept = ids_of(&stated).into_iter().filter(|id| wanted.contains(id));
            assert_eq!(wanted, kept.collect::<Vec<_>>(), "a lane is read in the order of stating");
            for entry in &entries {
                let message = body(entry);
                let before = read.insert(message.id, lane.index);
                assert_eq!(before, None, "{} is in two lanes", message.id);
                if let Some(key) = message.key.clone() {
                    let its = *lane_of.entry(key.clone()).or_insert(lane.index);
                    assert_eq!(its, lane.index, "{key} is in two lanes");
                }
            }
        }
        assert_eq!(read.len(), stated.len(), "every message is in a lane");
        let used: BTreeSet<u16> = read.values().copied().collect();
        assert!(used.len() > 1, "the keys are shared among the lanes");
    }
}

/// A lane that is behind, or whose relay is away, holds no other one back.
pub async fn lanes_settle_each_for_itself<D: Store>(case: DatabaseCase<D>) {
    let Some(()) = divide(&case.database, 2).await else { return };
    let stated = messages(40, 8);
    state(&case.database, &stated).await;
    let mut relays = relays(&case.database).await;
    let mut sent = BTreeSet::new();
    for (n, relay) in relays.iter_mut().enumerate() {
        let entries = relay.settle_new(|_| Verdict::Sent).await;
        assert!(!entries.is_empty(), "lane {n} has messages of its own");
        assert!(entries.iter().all(|entry| sent.insert(body(entry).id)));
        assert_eq!(relay.new_entries().await.0.len(), 0, "lane {n} is done");
    }
    assert_eq!(sent.len(), stated.len());
    assert_eq!(case.second.status(DESTINATION).await.expect("status").backlog, 0);
}

/// Whoever divides must be sure that nobody else is at work.
pub async fn a_division_needs_the_leases_of_all_present_lanes<D: Store>(case: DatabaseCase<D>) {
    let Some(()) = divide(&case.database, 3).await else { return };
    want(&case.database, 2).await.expect("it can be divided");
    let mine = all_leases(&case.database, "mine").await;
    let stolen = Lease { token: mine[1].token + 1, ..mine[1].clone() };
    let wrong = [
        Vec::new(),
        mine[..2].to_vec(),
        vec![mine[0].clone(), mine[0].clone(), mine[2].clone()],
        vec![mine[0].clone(), stolen, mine[2].clone()],
    ];
    for leases in wrong {
        let fenced = case.second.divide(DESTINATION, &leases).await;
        assert!(matches!(fenced, Err(StoreError::Fenced)), "{fenced:?} with {leases:?}");
        assert_eq!(division(&case.second).await, Division { now: 3, wanted: 2 });
    }
    case.second.divide(DESTINATION, &mine).await.expect("divide");
    assert_eq!(division(&case.database).await, Division { now: 2, wanted: 2 });
    for lane in Lane::all(DESTINATION, 2) {
        claim(&case.second, &lane.lease_name(), "the next one", LONG).await;
    }
}

/// Its relay may have been paused over the change.
pub async fn a_settlement_in_a_lane_of_an_earlier_division_is_refused<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated = messages(12, 5);
    state(&case.database, &stated).await;
    let mut old = HandRelay::start(&case.database).await;
    let (entries, checkpoint) = old.new_entries().await;
    let Some(()) = divide(&case.second, 2).await else { return };
    let verdicts = entries.iter().map(|entry| settled(entry, Feed::New, Verdict::Sent)).collect();
    let late = old.settlement(Some(checkpoint), verdicts);
    let refused = old.settle(&late).await;
    assert!(refused.is_err(), "it was settled under a lease that is over");
    // The same lane by number, with the lease of today.
    let today =
        HandRelay::of(&case.second, Lane::all(DESTINATION, 2).next().expect("lane 0")).await;
    let refused = today.settle(&late).await;
    assert!(refused.is_err(), "it was settled in a lane that is no more");
    let mut left = 0;
    for lane in Lane::all(DESTINATION, 2) {
        left += follow(&case.second, &lane, 100).await.len();
    }
    assert_eq!(left, stated.len(), "nothing was settled");
}

/// What a relay by hand has done in the lanes so far.
#[derive(Default)]
struct Log {
    sent: Vec<Message>,
}

impl Log {
    /// In every lane: sends some of what is ready and of what is new, lets some fail.
    async fn work<D: Store>(&mut self, database: &D, jitter: &mut Jitter, wholly: bool) {
        for mut relay in relays(database).await {
            let limit = if wholly { ALL.messages } else { Self::some(jitter, 9) };
            let limit = ReadLimit { messages: limit, bytes: ALL.bytes };
            let ready = database.ready(&relay.lane, limit).await.expect("ready").entries;
            self.settle(&mut relay, Feed::Ready, ready, None, jitter, wholly).await;
            let from = database.checkpoint(&relay.lane).await.expect("checkpoint");
            let batch = database.read(&relay.lane, &from, limit).await.expect("read");
            let checkpoint = Some(batch.checkpoint);
            self.settle(&mut relay, Feed::New, batch.entries, checkpoint, jitter, wholly).await;
            database.release(&relay.lease).await.expect("release");
        }
    }

    fn some(jitter: &mut Jitter, most: u64) -> usize {
        usize::try_from(jitter.draw() % most).unwrap_or(0) + 1
    }

    /// Judges as a relay does: what follows a failed entry of its key steps behind it.
    async fn settle<D: Store>(
        &mut self,
        relay: &mut HandRelay<'_, D>,
        feed: Feed,
        entries: Vec<Entry>,
        checkpoint: Option<Checkpoint>,
        jitter: &mut Jitter,
        wholly: bool,
    ) {
        let mut failed: BTreeSet<Option<String>> = BTreeSet::new();
        let mut verdicts = Vec::new();
        for entry in &entries {
            let key = body(entry).key.clone();
            let behind = entry.blocked || (key.is_some() && failed.contains(&key));
            let verdict = if behind {
                Verdict::Behind
            } else if !wholly && jitter.draw().is_multiple_of(5) {
                retry(Duration::ZERO)
            } else {
                self.sent.push(body(entry).clone());
                Verdict::Sent
            };
            if verdict != Verdict::Sent {
                failed.insert(key);
            }
            verdicts.push(settled(entry, feed, verdict));
        }
        let settlement = relay.settlement(checkpoint, verdicts);
        relay.settle(&settlement).await.expect("the settlement is carried out");
    }
}

/// More and fewer lanes, while some are behind and others ahead and some messages wait.
pub async fn a_division_loses_and_repeats_nothing_whatever_was_settled_by_then<D: Store>(
    case: DatabaseCase<D>,
) {
    let mut jitter = Jitter::new(7);
    let mut log = Log::default();
    let mut stated = Vec::new();
    for lanes in [3, 2, 5, 1, 4, 4, 2] {
        let Some(()) = want(&case.second, lanes).await else { return };
        for _ in 0..3 {
            let more = messages(Log::some(&mut jitter, 40), 6);
            state(&case.database, &more).await;
            stated.extend(more);
            log.work(&case.database, &mut jitter, false).await;
        }
        // The change before this one may have to be worked off first.
        for attempt in 0.. {
            // Relays ask this before they hand over their lanes.
            let same = division(&case.second).await.now == lanes;
            let may = case.second.can_divide(DESTINATION).await.expect("an answer") || same;
            let leases = all_leases(&case.second, "divider").await;
            let divided = case.second.divide(DESTINATION, &leases).await;
            assert_eq!(divided.is_ok(), may, "what was said of it holds: {divided:?}");
            for lease in &leases {
                case.second.release(lease).await.expect("release");
            }
            if divided.is_ok() {
                break;
            }
            assert!(matches!(divided, Err(StoreError::Rejected { .. })), "{divided:?}");
            assert!(attempt < 3, "working everything off was not enough: {divided:?}");
            log.work(&case.database, &mut jitter, true).await;
        }
        assert_eq!(division(&case.database).await, Division { now: lanes, wanted: lanes });
    }
    eventually("everything is sent", async || {
        log.work(&case.database, &mut jitter, true).await;
        (log.sent.len() >= stated.len()).then_some(())
    })
    .await;
    log.work(&case.database, &mut jitter, true).await;
    let mut once = ids_of(&log.sent);
    once.sort_unstable();
    let mut wanted = ids_of(&stated);
    wanted.sort_unstable();
    assert_eq!(once, wanted, "everything was sent exactly once");
    let keys: BTreeSet<_> = stated.iter().filter_map(|message| message.key.clone()).collect();
    for key in keys {
        let of_key = |messages: &[Message]| -> Vec<MessageId> {
            let mine = messages.iter().filter(|message| message.key.as_ref() == Some(&key));
            mine.map(|message| message.id).collect()
        };
        assert_eq!(of_key(&log.sent), of_key(&stated), "the order of {key}");
    }
}

/// A lane that inherits from several has to read past what each of them had sent; before that its
/// own checkpoint says too little to be inherited.
pub async fn a_division_waits_until_the_one_before_is_worked_off<D: Store>(case: DatabaseCase<D>) {
    let Some(()) = divide(&case.database, 2).await else { return };
    let stated = messages(40, 8);
    state(&case.database, &stated).await;
    let mut sent = ids(&relays(&case.database).await[0].settle_new(|_| Verdict::Sent).await);
    assert!(!sent.is_empty() && sent.len() < stated.len(), "one lane is ahead of the other");
    divide(&case.database, 3).await.expect("it can be divided");

    // Only one of the new lanes is past it.
    for mut relay in relays(&case.second).await {
        if relay.lane.index == 0 {
            sent.extend(ids(&relay.settle_new(|_| Verdict::Sent).await));
        }
        case.second.release(&relay.lease).await.expect("release");
    }
    want(&case.second, 2).await.expect("a wish is always taken");
    let may = case.second.can_divide(DESTINATION).await.expect("an answer");
    assert!(!may, "two lanes have read nothing");
    let leases = all_leases(&case.second, "divider").await;
    let early = case.second.divide(DESTINATION, &leases).await;
    assert!(matches!(early, Err(StoreError::Rejected { .. })), "{early:?}");
    assert_eq!(division(&case.second).await, Division { now: 3, wanted: 2 });
    for lease in &leases {
        case.second.release(lease).await.expect("release");
    }

    for mut relay in relays(&case.second).await {
        sent.extend(ids(&relay.settle_new(|_| Verdict::Sent).await));
        case.second.release(&relay.lease).await.expect("release");
    }
    assert!(case.database.can_divide(DESTINATION).await.expect("an answer"), "all have read it");
    divide(&case.database, 2).await.expect("it can be divided");
    for relay in relays(&case.database).await {
        sent.extend(ids(&relay.new_entries().await.0));
    }
    sent.sort_unstable();
    let mut wanted = ids_of(&stated);
    wanted.sort_unstable();
    assert_eq!(sent, wanted, "everything was sent exactly once");
}

/// A transaction may be open over the change.
pub async fn what_commits_after_a_division_is_read_in_its_lane<D: Store>(case: DatabaseCase<D>) {
    let Some(()) = want(&case.second, 3).await else { return };
    let (late, early) = (messages(12, 6), messages(12, 6));
    let mut slow = case.database.begin().await.expect("begin");
    case.database.enqueue(D::connection(&mut slow), &late).await.expect("enqueue");
    state(&case.second, &early).await;
    HandRelay::start(&case.second).await.settle_new(|_| Verdict::Sent).await;
    divide(&case.second, 3).await.expect("it can be divided");
    case.database.commit(slow).await.expect("commit");
    let mut read = Vec::new();
    for mut relay in relays(&case.second).await {
        read.extend(ids(&relay.settle_new(|_| Verdict::Sent).await));
        assert_eq!(relay.new_entries().await.0.len(), 0);
    }
    read.sort_unstable();
    let mut wanted = ids_of(&late);
    wanted.sort_unstable();
    assert_eq!(read, wanted, "what committed late, and nothing that was sent before");
}

/// Failed, behind and parked ones.
pub async fn what_waits_moves_with_its_key<D: Store>(case: DatabaseCase<D>) {
    let stated = messages(40, 10);
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let fails = |n: usize| n < 10 || stated[n].key.is_none();
    relay.settle_new(|n| if fails(n) { retry(Duration::ZERO) } else { Verdict::Behind }).await;
    let Some(()) = divide(&case.database, 3).await else { return };
    let mut sent = Vec::new();
    for mut relay in relays(&case.database).await {
        loop {
            let entries = relay.ready().await.entries;
            if entries.is_empty() {
                break;
            }
            sent.push(body(&entries[0]).clone());
            relay.settle_ready(&entries[0], Verdict::Sent).await;
        }
    }
    assert_eq!(sent.len(), stated.len(), "nothing waits for ever");
    for key in stated.iter().filter_map(|message| message.key.clone()) {
        let of_key = |messages: &[Message]| -> Vec<MessageId> {
            let mine = messages.iter().filter(|message| message.key.as_ref() == Some(&key));
            mine.map(|message| message.id).collect()
        };
        assert_eq!(of_key(&sent), of_key(&stated), "the order of {key}");
    }
}

/// Each lane has its own first of a route.
pub async fn what_is_set_aside_is_tried_in_every_lane_after_a_division<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated: Vec<_> = (0..24).map(|n| keyed("orders", &n.to_string(), "{}")).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let soon = Duration::from_millis(50);
    relay.settle_new(|n| if n == 0 { unroutable(soon) } else { joins() }).await;
    let Some(()) = divide(&case.database, 3).await else { return };
    let mut sent = Vec::new();
    for mut relay in relays(&case.database).await {
        let first = relay.wait_ready().await;
        assert_eq!(first.len(), 1, "one of each lane is tried: {:?}", ids(&first));
        relay.settle_ready(&first[0], unroutable(soon)).await;
        let first = relay.wait_ready().await.swap_remove(0);
        relay.settle_ready(&first, Verdict::Sent).await;
        sent.push(body(&first).id);
        loop {
            let entries = relay.ready().await.entries;
            if entries.is_empty() {
                break;
            }
            sent.extend(ids(&entries));
            let verdicts = entries.iter().map(|entry| settled(entry, Feed::Ready, Verdict::Sent));
            let settlement = relay.settlement(None, verdicts.collect());
            relay.settle(&settlement).await.expect("the settlement is carried out");
        }
    }
    sent.sort_unstable();
    assert_eq!(sent, ids_of(&stated), "all of them were let go, each in its lane");
}

/// Sent means sent by the lane of the message.
pub async fn what_one_lane_has_not_sent_is_not_pruned<D: Store>(case: DatabaseCase<D>) {
    let Some(()) = divide(&case.database, 2).await else { return };
    let stated = messages(30, 9);
    state(&case.database, &stated).await;
    let mut relays = relays(&case.database).await;
    let mut slow = relays.swap_remove(1);
    relays[0].settle_new(|_| Verdict::Sent).await;
    let (waiting, _) = slow.new_entries().await;
    let lease = relays[0].lease.clone();
    let prune = async || case.database.prune_sent(&lease, Duration::ZERO, 1000).await;
    prune().await.expect("prune");
    assert_eq!(ids(&slow.new_entries().await.0), ids(&waiting), "all of the slow lane is there");
    slow.settle_new(|_| Verdict::Sent).await;
    eventually("what both lanes have passed can go", async || {
        prune().await.expect("prune");
        let filter = posthaste_core::database::EntryFilter {
            destination: DESTINATION.to_owned(),
            limit: 1000,
            ..Default::default()
        };
        let left = case.second.entries(&filter).await.expect("entries");
        left.is_empty().then_some(())
    })
    .await;
}
