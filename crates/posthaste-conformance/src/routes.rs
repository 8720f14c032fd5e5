//! Laws of routes: what nobody is bound to waits in order, holds nobody else back, and flows again.
//!
//! A route is a topic and a kind. Its entries are set aside by a verdict of the relay; the first of
//! them is tried now and then on behalf of all.

use std::time::Duration;

use posthaste_core::database::EntryFilter;
use posthaste_core::dead_letter::DeadFilter;
use posthaste_core::outbox::{Entry, Feed};
use posthaste_core::{Message, MessageId, Verdict};

use crate::case::{DatabaseCase, Store};
use crate::hand::{
    DESTINATION, HandRelay, LONG, body, dead, ids, ids_of, joins, retry, settled, state, unroutable,
};
use crate::sample::{keyed, message, now};
use crate::timing::{WATCH, eventually};

/// Makes a test of every law of routes.
#[macro_export]
macro_rules! routes_suite {
    ($make:ident) => {
        $crate::laws!(
            routes,
            $make(),
            [
                of_what_nobody_is_bound_to_only_the_first_is_tried_when_its_time_has_come,
                what_is_set_aside_keeps_its_attempts,
                a_new_entry_of_a_closed_route_joins_it_and_no_other_does,
                what_is_set_aside_holds_back_nobody_of_its_key,
                a_relay_that_starts_again_finds_what_is_set_aside,
                once_the_first_is_sent_the_others_follow_in_order,
                a_first_that_is_given_up_lets_the_others_go,
                a_first_that_comes_back_keeps_its_route_closed,
                an_open_route_is_let_go_in_portions_and_in_order,
                while_a_route_is_worked_off_only_its_own_keys_join_it,
                a_route_of_which_one_came_back_is_closed_although_another_was_sent,
                a_first_whose_key_waits_comes_back_blocked_and_the_next_is_tried,
                what_was_not_due_joins_its_route,
                what_failed_joins_its_route_only_behind_others_of_it,
                an_entry_that_is_set_aside_later_is_tried_in_its_place,
                a_dead_letter_that_is_reposted_joins_its_route,
                what_nobody_is_bound_to_is_counted_by_topic_and_kind,
                what_is_set_aside_is_listed_and_not_pruned,
            ]
        );
    };
}

const SOON: Duration = Duration::from_millis(250);

/// Two kinds of one topic.
const KIND: &str = "order.placed";
const OTHER: &str = "order.paid";

fn of_kind(kind: &str, key: Option<&str>) -> Message {
    let mut message = message("orders");
    message.kind = kind.to_owned();
    message.key = key.map(str::to_owned);
    message
}

fn placed(count: usize) -> Vec<Message> {
    (0..count).map(|_| of_kind(KIND, None)).collect()
}

/// States messages and sets all of them aside; the first of a route says when it is tried.
async fn set_aside<D: Store>(relay: &mut HandRelay<'_, D>, messages: &[Message], probe: Duration) {
    state(relay.database, messages).await;
    relay.settle_new(|n| if n == 0 { unroutable(probe) } else { joins() }).await;
}

/// Waits until exactly one entry is ready, and returns it.
async fn the_first<D: Store>(relay: &HandRelay<'_, D>) -> Entry {
    let mut entries = relay.wait_ready().await;
    assert_eq!(entries.len(), 1, "one is tried on behalf of all: {:?}", ids(&entries));
    entries.swap_remove(0)
}

/// Sends whatever is ready until nothing is, and returns it in the order of sending.
async fn work_off<D: Store>(relay: &mut HandRelay<'_, D>) -> Vec<MessageId> {
    let mut sent = Vec::new();
    loop {
        let entries = relay.ready().await.entries;
        if entries.is_empty() {
            return sent;
        }
        sent.extend(ids(&entries));
        let verdicts = entries.iter().map(|entry| settled(entry, Feed::Ready, Verdict::Sent));
        let settlement = relay.settlement(None, verdicts.collect());
        relay.settle(&settlement).await.expect("the settlement is carried out");
    }
}

async fn aside<D: Store>(database: &D) -> u64 {
    database.status(DESTINATION).await.expect("status").held.unroutable
}

/// One message finds out for all of them, and not all the time.
pub async fn of_what_nobody_is_bound_to_only_the_first_is_tried_when_its_time_has_come<D: Store>(
    case: DatabaseCase<D>,
) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = placed(3);
    set_aside(&mut relay, &stated, LONG).await;
    let ready = relay.ready().await;
    assert_eq!(ids(&ready.entries), vec![], "its time has not come");
    let next = ready.next_in.expect("the first of them is tried at some time");
    assert!(next > SOON && next <= LONG, "{next:?} of {LONG:?}");
    let more = [of_kind(OTHER, None), of_kind(OTHER, None)];
    set_aside(&mut relay, &more, SOON).await;
    let first = the_first(&relay).await;
    assert_eq!(body(&first).id, more[0].id, "every route has its own time");
    assert!(!first.blocked && !first.unroutable, "it is tried on behalf of its route");
    tokio::time::sleep(WATCH).await;
    assert_eq!(relay.ready_ids().await, vec![more[0].id], "and only the first of it");
}

/// That nobody is bound is no fault of the message.
pub async fn what_is_set_aside_keeps_its_attempts<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &placed(1)).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| retry(Duration::ZERO)).await;
    for _ in 0..3 {
        let entry = the_first(&relay).await;
        assert_eq!(entry.attempts, 1, "as many as before it was set aside");
        relay.settle_ready(&entry, unroutable(Duration::from_millis(1))).await;
    }
}

/// Those that come later would overtake it, whatever their key.
pub async fn a_new_entry_of_a_closed_route_joins_it_and_no_other_does<D: Store>(
    case: DatabaseCase<D>,
) {
    let mut relay = HandRelay::start(&case.database).await;
    set_aside(&mut relay, &[of_kind(KIND, Some("a"))], LONG).await;
    let mut elsewhere = of_kind(KIND, Some("a"));
    elsewhere.topic = "invoices".to_owned();
    let stated = [
        of_kind(KIND, Some("a")),
        of_kind(KIND, Some("b")),
        of_kind(KIND, None),
        of_kind(OTHER, Some("a")),
        elsewhere,
    ];
    state(&case.database, &stated).await;
    let (entries, _) = relay.new_entries().await;
    let joining: Vec<bool> = entries.iter().map(|entry| entry.unroutable).collect();
    assert_eq!(joining, [true, true, true, false, false]);
    assert!(entries.iter().all(|entry| !entry.blocked), "nobody waits for a key");
}

/// A kind that nobody wants must not stop the others.
pub async fn what_is_set_aside_holds_back_nobody_of_its_key<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    set_aside(&mut relay, &[of_kind(KIND, Some("a"))], LONG).await;
    state(&case.database, &[of_kind(OTHER, Some("a"))]).await;
    let failing = relay.settle_new(|_| retry(Duration::ZERO)).await;
    assert!(!failing[0].blocked && !failing[0].unroutable);
    let entry = the_first(&relay).await;
    assert_eq!(body(&entry).id, body(&failing[0]).id, "its turn comes before what is set aside");
    assert!(!entry.blocked && !entry.unroutable);
    relay.settle_ready(&entry, Verdict::Sent).await;
    assert_eq!(aside(&case.second).await, 1);
}

/// What is set aside is in the database.
pub async fn a_relay_that_starts_again_finds_what_is_set_aside<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = placed(2);
    set_aside(&mut relay, &stated, SOON).await;
    case.database.release(&relay.lease).await.expect("release");
    let mut next = HandRelay::start(&case.second).await;
    state(&case.second, &placed(1)).await;
    assert!(next.new_entries().await.0[0].unroutable, "it knows that the route is closed");
    next.settle_new(|_| joins()).await;
    assert_eq!(body(&the_first(&next).await).id, stated[0].id);
}

/// A binding has appeared.
pub async fn once_the_first_is_sent_the_others_follow_in_order<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let keys = [Some("a"), None, Some("b"), Some("a"), None];
    let stated: Vec<Message> = keys.into_iter().map(|key| of_kind(KIND, key)).collect();
    set_aside(&mut relay, &stated, SOON).await;
    let first = the_first(&relay).await;
    relay.settle_ready(&first, Verdict::Sent).await;
    let mut sent = vec![body(&first).id];
    sent.extend(work_off(&mut relay).await);
    assert_eq!(sent, ids_of(&stated));
    assert_eq!(aside(&case.second).await, 0);
    state(&case.database, &placed(1)).await;
    assert!(!relay.new_entries().await.0[0].unroutable, "nothing is left to join");
}

/// Given up by policy: those behind it are tried for themselves.
pub async fn a_first_that_is_given_up_lets_the_others_go<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = placed(3);
    set_aside(&mut relay, &stated, SOON).await;
    let first = the_first(&relay).await;
    relay.settle_ready(&first, dead(false)).await;
    assert_eq!(work_off(&mut relay).await, ids_of(&stated[1..]));
}

/// Still nobody: the same one is tried again, and later.
pub async fn a_first_that_comes_back_keeps_its_route_closed<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = placed(3);
    set_aside(&mut relay, &stated, Duration::from_millis(1)).await;
    for _ in 0..3 {
        let first = the_first(&relay).await;
        assert_eq!(body(&first).id, stated[0].id);
        relay.settle_ready(&first, unroutable(SOON)).await;
        assert_eq!(relay.ready_ids().await, vec![], "it waits for its time");
        state(&case.database, &placed(1)).await;
        assert!(relay.settle_new(|_| joins()).await[0].unroutable);
    }
    assert_eq!(aside(&case.second).await, 6);
}

/// No settlement may take long because much was set aside.
pub async fn an_open_route_is_let_go_in_portions_and_in_order<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated: Vec<Message> =
        (0..3500).map(|n| of_kind(KIND, [Some("a"), Some("b"), None][n % 3])).collect();
    set_aside(&mut relay, &stated, SOON).await;
    let first = the_first(&relay).await;
    relay.settle_ready(&first, Verdict::Sent).await;
    let left = aside(&case.second).await;
    assert!((1..3499).contains(&left), "{left} of 3499 are still set aside after one settlement");
    let mut sent = vec![body(&first).id];
    sent.extend(work_off(&mut relay).await);
    assert_eq!(sent, ids_of(&stated));
}

/// A steady flow of new messages must not keep a route from being worked off.
pub async fn while_a_route_is_worked_off_only_its_own_keys_join_it<D: Store>(
    case: DatabaseCase<D>,
) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated: Vec<Message> = (0..3500).map(|_| of_kind(KIND, Some("a"))).collect();
    set_aside(&mut relay, &stated, SOON).await;
    let first = the_first(&relay).await;
    relay.settle_ready(&first, Verdict::Sent).await;
    assert!(aside(&case.second).await > 0, "it is worked off in portions");
    let new = [of_kind(KIND, Some("a")), of_kind(KIND, Some("b")), of_kind(KIND, None)];
    state(&case.database, &new).await;
    let (entries, _) = relay.new_entries().await;
    let joining: Vec<bool> = entries.iter().map(|entry| entry.unroutable).collect();
    assert_eq!(joining, [true, false, false]);
}

/// Between the two the binding has gone again.
pub async fn a_route_of_which_one_came_back_is_closed_although_another_was_sent<D: Store>(
    case: DatabaseCase<D>,
) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = placed(3);
    set_aside(&mut relay, &stated, SOON).await;
    let first = the_first(&relay).await;
    state(&case.database, &placed(1)).await;
    let (new, checkpoint) = relay.new_entries().await;
    let verdicts = vec![
        settled(&first, Feed::Ready, Verdict::Sent),
        settled(&new[0], Feed::New, unroutable(LONG)),
    ];
    let settlement = relay.settlement(Some(checkpoint), verdicts);
    relay.settle(&settlement).await.expect("the settlement is carried out");
    assert_eq!(relay.ready_ids().await, vec![], "nothing was let go");
    assert_eq!(aside(&case.second).await, 3);
}

/// It has to step behind its key first; that says nothing of the route.
pub async fn a_first_whose_key_waits_comes_back_blocked_and_the_next_is_tried<D: Store>(
    case: DatabaseCase<D>,
) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = [of_kind(KIND, Some("a")), of_kind(KIND, Some("b")), of_kind(KIND, Some("c"))];
    set_aside(&mut relay, &stated, SOON).await;
    state(&case.database, &[of_kind(OTHER, Some("a"))]).await;
    relay.settle_new(|_| retry(LONG)).await;
    let first = the_first(&relay).await;
    assert!(first.blocked && !first.unroutable, "its key waits for a retry");
    relay.settle_ready(&first, Verdict::Behind).await;
    let ready = eventually("the head of the line and the next of the route", async || {
        Some(relay.ready().await.entries).filter(|entries| entries.len() == 2)
    })
    .await;
    assert_eq!(ids(&ready), ids_of(&stated[..2]));
    assert_eq!(aside(&case.second).await, 2);
}

/// It was stated later than those that are set aside.
pub async fn what_was_not_due_joins_its_route<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let mut early = of_kind(KIND, None);
    early.due_at = Some(now().plus(SOON));
    let late = Message { id: crate::sample::id(), ..early.clone() };
    state(&case.database, &[early.clone(), of_kind(KIND, None), late.clone()]).await;
    relay.settle_new(|n| if n == 1 { unroutable(LONG) } else { Verdict::Due }).await;
    let ready = eventually("both are due", async || {
        Some(relay.ready().await.entries).filter(|entries| entries.len() == 2)
    })
    .await;
    let joining: Vec<_> = ready.iter().map(|entry| (body(entry).id, entry.unroutable)).collect();
    assert_eq!(joining, [(early.id, false), (late.id, true)]);
    relay.settle_ready(&ready[1], joins()).await;
    assert_eq!(relay.ready_ids().await, vec![early.id]);
}

/// One that stands before those that are set aside is ahead of them.
pub async fn what_failed_joins_its_route_only_behind_others_of_it<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = [of_kind(KIND, Some("a")), of_kind(KIND, None), of_kind(KIND, Some("b"))];
    state(&case.database, &stated).await;
    relay.settle_new(|n| if n == 1 { unroutable(LONG) } else { retry(Duration::ZERO) }).await;
    let ready = relay.ready().await.entries;
    let joining: Vec<_> = ready.iter().map(|entry| (body(entry).id, entry.unroutable)).collect();
    assert_eq!(joining, [(stated[0].id, false), (stated[2].id, true)]);
    relay.settle_ready(&ready[1], joins()).await;
    state(&case.database, &[of_kind(OTHER, Some("b"))]).await;
    assert!(!relay.new_entries().await.0[0].blocked, "its key waits for it no longer");
}

/// In order means by position, not by when it was found out.
pub async fn an_entry_that_is_set_aside_later_is_tried_in_its_place<D: Store>(
    case: DatabaseCase<D>,
) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = placed(2);
    state(&case.database, &stated).await;
    relay.settle_new(|n| if n == 0 { retry(SOON) } else { unroutable(SOON) }).await;
    let ready = eventually("both are ready", async || {
        Some(relay.ready().await.entries).filter(|entries| entries.len() == 2)
    })
    .await;
    relay.settle_ready(&ready[0], unroutable(SOON)).await;
    let first = the_first(&relay).await;
    assert_eq!(body(&first).id, stated[0].id, "the earlier one is the first now");
    relay.settle_ready(&first, Verdict::Sent).await;
    assert_eq!(work_off(&mut relay).await, vec![stated[1].id]);
}

/// An operator's repost is no way around the order.
pub async fn a_dead_letter_that_is_reposted_joins_its_route<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = placed(2);
    state(&case.database, &stated).await;
    relay.settle_new(|n| if n == 0 { unroutable(LONG) } else { dead(false) }).await;
    let filter = DeadFilter { limit: 10, ..DeadFilter::default() };
    let reference = case.database.list(&filter).await.expect("list").swap_remove(0).reference;
    case.second.repost(&[reference], "an operator").await.expect("repost");
    let entry = the_first(&relay).await;
    assert_eq!((body(&entry).id, entry.unroutable), (stated[1].id, true));
    relay.settle_ready(&entry, joins()).await;
    assert_eq!((relay.ready_ids().await, aside(&case.second).await), (vec![], 2));
}

/// Said out loud: which, how many, and what the broker said.
pub async fn what_nobody_is_bound_to_is_counted_by_topic_and_kind<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    set_aside(&mut relay, &[of_kind(OTHER, None)], LONG).await;
    set_aside(&mut relay, &placed(3), LONG).await;
    state(&case.database, &[keyed("orders", "a", "{}")]).await;
    let status = case.second.status(DESTINATION).await.expect("status");
    assert_eq!((status.held.unroutable, status.held.retry), (4, 0));
    assert_eq!(status.backlog, 1, "what nobody is bound to could not be sent");
    let shown: Vec<_> = status
        .unroutable
        .iter()
        .map(|route| (route.topic.as_str(), route.kind.as_str(), route.entries))
        .collect();
    assert_eq!(shown, [("orders", KIND, 3), ("orders", OTHER, 1)], "the largest first");
    for route in &status.unroutable {
        assert_eq!(route.detail.as_deref(), Some("nobody is bound to it"), "{}", route.kind);
    }
    let other = case.second.status("other").await.expect("status");
    assert_eq!((other.held.unroutable, other.unroutable.len()), (0, 0));
}

/// It is shown to whoever looks for what is stuck, and kept until it is sent.
pub async fn what_is_set_aside_is_listed_and_not_pruned<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated = placed(2);
    set_aside(&mut relay, &stated, SOON).await;
    for stuck in [false, true] {
        let destination = DESTINATION.to_owned();
        let filter = EntryFilter { destination, stuck, limit: 10, ..EntryFilter::default() };
        let listed = case.second.entries(&filter).await.expect("entries");
        let shown: Vec<_> = listed.iter().map(|it| (it.state.as_str(), it.kind.as_str())).collect();
        assert_eq!(shown, [("unroutable", KIND); 2], "stuck: {stuck}");
    }
    let prune = async || case.database.prune_sent(&relay.lease, Duration::ZERO, 100).await;
    assert_eq!(prune().await.expect("prune"), 0);
    assert_eq!(aside(&case.second).await, 2);
    let first = the_first(&relay).await;
    assert_eq!(body(&first).id, stated[0].id, "it is all there");
}
