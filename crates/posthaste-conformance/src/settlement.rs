//! Laws of settlement and of the side table: what waits, why, and when it comes back.

use std::time::Duration;

use posthaste_core::lease::Claim;
use posthaste_core::outbox::{Feed, ReadLimit};
use posthaste_core::{Checkpoint, Lane, StoreError, Verdict};
use tokio::time::Instant;

use crate::case::{DatabaseCase, Store};
use crate::hand::{
    ALL, DESTINATION, HandRelay, LONG, body, claim, dead, ids, ids_of, lane, retry, settled, state,
};
use crate::sample::{assert_same, assert_same_form, edges, keyed, message, now};
use crate::timing::eventually;

/// Makes a test of every law of settlement.
#[macro_export]
macro_rules! settlement_suite {
    ($make:ident) => {
        $crate::laws!(
            settlement,
            $make(),
            [
                a_settlement_moves_the_checkpoint_of_its_destination_only,
                an_empty_settlement_is_no_error,
                a_settlement_under_an_old_token_changes_nothing,
                a_settlement_under_a_lease_that_was_never_granted_changes_nothing,
                a_settlement_that_is_repeated_changes_nothing,
                a_new_holder_counts_its_settlements_from_one_again,
                a_sent_entry_is_gone_for_good,
                a_failed_entry_comes_back_after_its_delay_and_not_before,
                an_entry_in_the_side_table_comes_back_byte_for_byte,
                attempts_persist_and_are_told_with_the_entry,
                a_reader_that_starts_again_goes_on_where_the_last_one_settled,
                a_due_entry_comes_back_when_its_time_has_come,
                a_due_entry_holds_nobody_back,
                a_due_entry_of_a_waiting_key_comes_back_blocked,
                a_new_entry_of_a_waiting_key_is_blocked_and_no_other,
                entries_without_a_key_never_wait_for_each_other,
                what_waits_behind_a_failed_entry_is_ready_once_it_is_sent,
                what_waits_behind_several_is_ready_after_the_last_of_them,
                a_line_without_a_failure_at_its_head_is_made_ready,
                ready_entries_of_a_key_come_in_the_order_of_their_positions,
                an_entry_is_not_ready_ahead_of_an_earlier_one_that_is_not,
                an_entry_that_is_skipped_lets_its_key_go_on,
                a_parked_entry_holds_its_key_and_no_other,
                ready_keeps_its_limits_and_says_when_there_is_more,
                ready_says_how_long_until_the_next_one,
                destinations_have_side_tables_of_their_own,
            ]
        );
    };
}

const SOON: Duration = Duration::from_millis(250);

/// The checkpoint is per destination.
pub async fn a_settlement_moves_the_checkpoint_of_its_destination_only<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated = [message("orders"), message("orders")];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| Verdict::Sent).await;
    assert_eq!(ids(&relay.new_entries().await.0), vec![]);
    let other = HandRelay::to(&case.database, "elsewhere").await;
    assert_eq!(ids(&other.new_entries().await.0), ids_of(&stated));
}

/// Nothing to settle is settled.
pub async fn an_empty_settlement_is_no_error<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let nothing = relay.settlement(None, Vec::new());
    relay.settle(&nothing).await.expect("settle nothing");
}

/// A relay that was paused beyond its lease can change nothing, whatever it says.
pub async fn a_settlement_under_an_old_token_changes_nothing<D: Store>(case: DatabaseCase<D>) {
    let stated: Vec<_> = (0..5).map(|n| keyed("orders", "a", &n.to_string())).collect();
    state(&case.database, &stated).await;
    let mut paused = HandRelay::start(&case.database).await;
    let (entries, checkpoint) = paused.new_entries().await;
    let name = paused.lease.name.clone();
    paused.lease = claim(&case.database, &name, "by-hand", Duration::from_millis(50)).await;
    let leader = eventually("the lease runs out", async || {
        match case.second.acquire(&name, "leader", LONG).await.expect("acquire") {
            Claim::Granted(lease) => Some(lease),
            Claim::Held { .. } => None,
        }
    })
    .await;
    let verdicts = [Verdict::Sent, Verdict::Due, retry(Duration::ZERO), dead(true), dead(false)];
    let verdicts = entries.iter().zip(verdicts).map(|(e, v)| settled(e, Feed::New, v)).collect();
    let settlement = paused.settlement(Some(checkpoint), verdicts);
    for _ in 0..2 {
        let refused = paused.settle(&settlement).await;
        assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    }
    let mut forged = leader.clone();
    forged.token = leader.token + 1;
    let refused = case.second.settle(&forged, &settlement).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "a token of the future: {refused:?}");
    assert_eq!(ids(&paused.new_entries().await.0), ids_of(&stated), "all is still to be read");
    assert_eq!(paused.ready_ids().await, vec![], "nothing was filed");
    let status = case.database.status(DESTINATION).await.expect("status");
    assert_eq!((status.dead_letters, status.parked_keys), (0, 0), "no dead letter was written");
}

/// A lease that nobody granted is not a lease.
pub async fn a_settlement_under_a_lease_that_was_never_granted_changes_nothing<D: Store>(
    case: DatabaseCase<D>,
) {
    state(&case.database, &[message("orders")]).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.lease.name = "relay/default/7".into();
    let (entries, checkpoint) = relay.new_entries().await;
    let sent = vec![settled(&entries[0], Feed::New, Verdict::Sent)];
    let settlement = relay.settlement(Some(checkpoint), sent);
    let refused = relay.settle(&settlement).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    assert_eq!(relay.new_entries().await.0.len(), 1);
}

/// A reply that was lost makes a relay repeat itself; the database must not.
pub async fn a_settlement_that_is_repeated_changes_nothing<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &[keyed("orders", "a", "1"), message("orders")]).await;
    let mut relay = HandRelay::start(&case.database).await;
    let (entries, checkpoint) = relay.new_entries().await;
    let verdicts = vec![
        settled(&entries[0], Feed::New, dead(true)),
        settled(&entries[1], Feed::New, retry(Duration::ZERO)),
    ];
    let first = relay.settlement(Some(checkpoint), verdicts);
    for _ in 0..3 {
        relay.settle(&first).await.expect("a repeated settlement is no error");
    }
    let status = case.database.status(DESTINATION).await.expect("status");
    assert_eq!((status.dead_letters, status.parked_keys, status.held.retry), (1, 1, 1));
    let again = relay.wait_ready().await;
    relay.settle_ready(&again[0], Verdict::Sent).await;
    relay.settle(&first).await.expect("also when it comes late");
    assert_eq!(relay.ready_ids().await, vec![], "what was sent stays sent");
    let held = case.database.status(DESTINATION).await.expect("status").held;
    assert_eq!((held.retry, held.behind, held.due), (0, 0, 0));
}

/// Numbers belong to a token: the next holder's first settlement is not taken for a repetition.
pub async fn a_new_holder_counts_its_settlements_from_one_again<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &[message("orders")]).await;
    let mut first = HandRelay::start(&case.database).await;
    first.settle_new(|_| Verdict::Sent).await;
    case.database.release(&first.lease).await.expect("release");
    state(&case.database, &[message("orders")]).await;
    let mut next = HandRelay::start(&case.second).await;
    next.lease = claim(&case.second, &next.lease.name.clone(), "by-hand", LONG).await;
    assert!(next.lease.token > first.lease.token, "a released lease changes hands");
    assert_eq!(next.settle_new(|_| Verdict::Sent).await.len(), 1);
    assert_eq!(ids(&next.new_entries().await.0), vec![]);
}

/// Sent is sent: neither reading gives it again.
pub async fn a_sent_entry_is_gone_for_good<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &[keyed("orders", "a", "1"), message("orders")]).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| retry(Duration::ZERO)).await;
    for entry in relay.wait_ready().await {
        relay.settle_ready(&entry, Verdict::Sent).await;
    }
    assert_eq!(relay.ready_ids().await, vec![]);
    assert_eq!(ids(&relay.new_entries().await.0), vec![]);
    let status = case.database.status(DESTINATION).await.expect("status");
    assert_eq!((status.backlog, status.held.retry, status.dead_letters), (0, 0, 0));
}

/// Backoff runs on the database's clock.
pub async fn a_failed_entry_comes_back_after_its_delay_and_not_before<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated = [message("orders")];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let start = Instant::now();
    relay.settle_new(|_| retry(SOON)).await;
    let entries = eventually("the delay is over", async || {
        let entries = relay.ready().await.entries;
        (!entries.is_empty()).then_some(entries)
    })
    .await;
    // A millisecond of grace for databases whose clock ticks no finer.
    let waited = start.elapsed() + Duration::from_millis(1);
    assert!(waited >= SOON, "it came back after {waited:?}");
    assert_eq!(ids(&entries), ids_of(&stated));
}

/// The side table loses nothing of a message.
pub async fn an_entry_in_the_side_table_comes_back_byte_for_byte<D: Store>(case: DatabaseCase<D>) {
    let stated = edges("orders");
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let new = relay.settle_new(|_| retry(Duration::ZERO)).await;
    let again = eventually("all are ready", async || {
        let entries = relay.ready().await.entries;
        (entries.len() == stated.len()).then_some(entries)
    })
    .await;
    for ((message, first), second) in stated.iter().zip(&new).zip(&again) {
        assert_eq!(first.position, second.position, "an entry keeps its position");
        assert_same(message, body(second));
        assert_same_form(&message.payload, &body(second).payload);
    }
}

/// A count that a restart forgets is no limit.
pub async fn attempts_persist_and_are_told_with_the_entry<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &[message("orders")]).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| retry(Duration::ZERO)).await;
    for attempts in 1..4 {
        let entries = relay.wait_ready().await;
        assert_eq!(entries[0].attempts, attempts);
        let (delay, detail) = (Duration::ZERO, "again".to_owned());
        let verdict = Verdict::Retry { attempts: attempts + 1, delay, detail };
        relay.settle_ready(&entries[0], verdict).await;
    }
    let seen = case.second.ready(&lane(), ALL).await.expect("ready");
    assert_eq!(seen.entries[0].attempts, 4, "through another handle too");
}

/// A restart resumes at the checkpoint, with the side table as it was.
pub async fn a_reader_that_starts_again_goes_on_where_the_last_one_settled<D: Store>(
    case: DatabaseCase<D>,
) {
    let first = [keyed("orders", "a", "1"), message("orders")];
    state(&case.database, &first).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n == 0 { retry(Duration::ZERO) } else { Verdict::Sent }).await;
    let second = [message("orders")];
    state(&case.database, &second).await;
    let restarted = HandRelay::start(&case.second).await;
    assert_eq!(ids(&restarted.new_entries().await.0), ids_of(&second));
    assert_eq!(ids(&restarted.wait_ready().await), vec![first[0].id]);
}

/// Never early, by the database's clock, and then without anybody asking for it.
pub async fn a_due_entry_comes_back_when_its_time_has_come<D: Store>(case: DatabaseCase<D>) {
    let due = now().plus(Duration::from_millis(700));
    let mut later = message("orders");
    later.due_at = Some(due);
    state(&case.database, std::slice::from_ref(&later)).await;
    let mut relay = HandRelay::start(&case.database).await;
    let entries = relay.settle_new(|_| Verdict::Due).await;
    assert!(entries[0].due_in.is_some(), "read before its time");
    let entries = relay.wait_ready().await;
    assert!(now() >= due, "it came back before its time");
    assert_eq!((ids(&entries), entries[0].attempts), (vec![later.id], 0));
    assert_eq!(entries[0].due_in, None);
}

/// A message that is not yet due is not ahead of anything.
pub async fn a_due_entry_holds_nobody_back<D: Store>(case: DatabaseCase<D>) {
    let mut later = keyed("orders", "a", "later");
    later.due_at = Some(now().plus(LONG));
    state(&case.database, &[later]).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| Verdict::Due).await;
    state(&case.database, &[keyed("orders", "a", "now")]).await;
    let (entries, _) = relay.new_entries().await;
    assert!(!entries[0].blocked, "a due entry does not block its key");
    assert_eq!(relay.ready_ids().await, vec![], "and is not ready itself");
}

/// When its time has come its key may be waiting; then it has to wait as well.
pub async fn a_due_entry_of_a_waiting_key_comes_back_blocked<D: Store>(case: DatabaseCase<D>) {
    let mut later = keyed("orders", "a", "later");
    later.due_at = Some(now().plus(SOON));
    let failing = keyed("orders", "a", "failing");
    state(&case.database, &[later.clone(), failing.clone()]).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n == 0 { Verdict::Due } else { retry(LONG) }).await;
    let entries = relay.wait_ready().await;
    assert_eq!(ids(&entries), vec![later.id]);
    assert!(entries[0].blocked, "its key has an entry that failed");
    relay.settle_ready(&entries[0], Verdict::Behind).await;
    let entries = relay.wait_ready().await;
    assert_eq!(ids(&entries), vec![later.id], "nothing failed stands before it: it heads its line");
}

/// Only of the same topic and the same key.
pub async fn a_new_entry_of_a_waiting_key_is_blocked_and_no_other<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    for verdict in [retry(LONG), dead(true)] {
        state(&case.database, &[keyed("orders", "a", "fails")]).await;
        relay.settle_new(|_| verdict.clone()).await;
        let stated = [
            keyed("orders", "a", "follows"),
            keyed("orders", "b", "another key"),
            keyed("invoices", "a", "another topic"),
            message("orders"),
        ];
        state(&case.database, &stated).await;
        let (entries, _) = relay.new_entries().await;
        let blocked: Vec<_> = entries.iter().map(|entry| entry.blocked).collect();
        assert_eq!(blocked, [true, false, false, false], "after {verdict:?}");
        relay.settle_new(|n| if n == 0 { Verdict::Behind } else { Verdict::Sent }).await;
    }
}

/// Without a key there is no line.
pub async fn entries_without_a_key_never_wait_for_each_other<D: Store>(case: DatabaseCase<D>) {
    let stated = [message("orders"), message("orders"), message("orders")];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n == 1 { retry(Duration::ZERO) } else { retry(LONG) }).await;
    assert_eq!(ids(&relay.wait_ready().await), vec![stated[1].id]);
    state(&case.database, &[message("orders")]).await;
    assert!(!relay.new_entries().await.0[0].blocked);
}

/// The line moves up when its head is gone.
pub async fn what_waits_behind_a_failed_entry_is_ready_once_it_is_sent<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated = [keyed("orders", "a", "1"), keyed("orders", "a", "2")];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n == 0 { retry(Duration::ZERO) } else { Verdict::Behind }).await;
    let entries = relay.wait_ready().await;
    assert_eq!(ids(&entries), vec![stated[0].id], "the second waits for the first");
    relay.settle_ready(&entries[0], retry(SOON)).await;
    let entries = relay.wait_ready().await;
    assert_eq!(ids(&entries), vec![stated[0].id], "also while it fails again");
    relay.settle_ready(&entries[0], Verdict::Sent).await;
    let entries = relay.wait_ready().await;
    assert_eq!((ids(&entries), entries[0].attempts), (vec![stated[1].id], 0));
    relay.settle_ready(&entries[0], Verdict::Sent).await;
    assert_eq!(relay.ready_ids().await, vec![]);
}

/// Several failures of a key in one batch: the broker refused one after the other.
pub async fn what_waits_behind_several_is_ready_after_the_last_of_them<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated: Vec<_> = (0..4).map(|n| keyed("orders", "a", &n.to_string())).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n < 2 { retry(Duration::ZERO) } else { Verdict::Behind }).await;
    let mut sent = Vec::new();
    while sent.len() < stated.len() {
        let head = relay.wait_ready().await.swap_remove(0);
        sent.push(body(&head).id);
        relay.settle_ready(&head, Verdict::Sent).await;
    }
    assert_eq!(sent, ids_of(&stated), "the key left the side table in its order");
}

/// A line of nothing but followers would wait for ever.
pub async fn a_line_without_a_failure_at_its_head_is_made_ready<D: Store>(case: DatabaseCase<D>) {
    let stated: Vec<_> = (0..3).map(|n| keyed("orders", "a", &n.to_string())).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| Verdict::Behind).await;
    let entries = relay.wait_ready().await;
    assert_eq!(body(&entries[0]).id, stated[0].id, "the line has a head");
    for message in &stated {
        let head = relay.wait_ready().await.swap_remove(0);
        assert_eq!(body(&head).id, message.id);
        relay.settle_ready(&head, Verdict::Sent).await;
    }
}

/// Whatever becomes ready together is given in order.
pub async fn ready_entries_of_a_key_come_in_the_order_of_their_positions<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated: Vec<_> =
        (0..12).map(|n| keyed("orders", ["a", "b", "c"][n % 3], &n.to_string())).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let new = relay.settle_new(|_| retry(Duration::ZERO)).await;
    let entries = eventually("all are ready", async || {
        let entries = relay.ready().await.entries;
        (entries.len() == stated.len()).then_some(entries)
    })
    .await;
    assert_eq!(ids(&entries), ids(&new), "in the order of their positions");
    assert!(entries.is_sorted_by_key(|entry| entry.position.clone()));
}

/// A shorter delay does not overtake.
pub async fn an_entry_is_not_ready_ahead_of_an_earlier_one_that_is_not<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated = [keyed("orders", "a", "1"), keyed("orders", "a", "2"), keyed("orders", "b", "3")];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| retry(if n == 0 { LONG } else { Duration::ZERO })).await;
    assert_eq!(ids(&relay.wait_ready().await), vec![stated[2].id], "the second waits in its line");
}

/// Skipped is not parked.
pub async fn an_entry_that_is_skipped_lets_its_key_go_on<D: Store>(case: DatabaseCase<D>) {
    let stated = [keyed("orders", "a", "1"), keyed("orders", "a", "2")];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n == 0 { dead(false) } else { Verdict::Behind }).await;
    assert_eq!(ids(&relay.wait_ready().await), vec![stated[1].id]);
    let status = case.database.status(DESTINATION).await.expect("status");
    assert_eq!((status.dead_letters, status.parked_keys), (1, 0));
}

/// A dead head keeps its followers, and nobody else.
pub async fn a_parked_entry_holds_its_key_and_no_other<D: Store>(case: DatabaseCase<D>) {
    let stated = [keyed("orders", "a", "1"), keyed("orders", "a", "2"), keyed("orders", "b", "3")];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let verdicts = [dead(true), Verdict::Behind, retry(Duration::ZERO)];
    relay.settle_new(|n| verdicts[n].clone()).await;
    assert_eq!(ids(&relay.wait_ready().await), vec![stated[2].id]);
    assert_eq!(case.database.status(DESTINATION).await.expect("status").parked_keys, 1);
}

/// Memory is bounded here too.
pub async fn ready_keeps_its_limits_and_says_when_there_is_more<D: Store>(case: DatabaseCase<D>) {
    let stated: Vec<_> =
        (0..6).map(|n| keyed("orders", &format!("k{n}"), &"x".repeat(100_000))).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| retry(Duration::ZERO)).await;
    eventually("all are ready", async || (relay.ready().await.entries.len() == 6).then_some(()))
        .await;
    let ready = async |messages, bytes| {
        let limit = ReadLimit { messages, bytes };
        case.database.ready(&lane(), limit).await.expect("ready")
    };
    let cut = ready(4, ALL.bytes).await;
    assert_eq!((ids(&cut.entries), cut.more), (ids_of(&stated[..4]), true));
    let cut = ready(100, 250_000).await;
    assert!((2..=4).contains(&cut.entries.len()) && cut.more, "bytes cut the list");
    assert_eq!(ready(100, 1).await.entries.len(), 1, "one entry is always given");
    assert!(!ready(7, ALL.bytes).await.more, "nothing was left out");
}

/// A relay that has nothing to do sleeps exactly as long as it may.
pub async fn ready_says_how_long_until_the_next_one<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    assert_eq!(relay.ready().await.next_in, None, "nothing waits for a time");
    state(&case.database, &[keyed("orders", "a", "1"), keyed("orders", "b", "2")]).await;
    relay.settle_new(|n| retry(Duration::from_secs([60, 3600][n]))).await;
    let ready = relay.ready().await;
    assert_eq!(ids(&ready.entries), vec![]);
    let next = ready.next_in.expect("one of them is next");
    assert!((50..=60).contains(&next.as_secs()), "about a minute: {next:?}");
}

/// One destination's failures are not another's.
pub async fn destinations_have_side_tables_of_their_own<D: Store>(case: DatabaseCase<D>) {
    let stated = [keyed("orders", "a", "1")];
    state(&case.database, &stated).await;
    let mut one = HandRelay::to(&case.database, "one").await;
    let mut two = HandRelay::to(&case.database, "two").await;
    one.settle_new(|_| retry(LONG)).await;
    let (entries, _) = two.new_entries().await;
    assert!(!entries[0].blocked, "what failed for one does not block two");
    two.settle_new(|_| Verdict::Sent).await;
    assert_eq!(two.ready_ids().await, vec![]);
    state(&case.database, &[keyed("orders", "a", "2")]).await;
    assert!(one.new_entries().await.0[0].blocked && !two.new_entries().await.0[0].blocked);
    let start = Checkpoint::start();
    assert_ne!(case.second.checkpoint(&Lane::whole("one")).await.expect("checkpoint"), start);
    assert_eq!(case.second.checkpoint(&Lane::whole("three")).await.expect("checkpoint"), start);
}
