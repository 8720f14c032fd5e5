//! Laws of what operators see, and of the cleaning that must never remove what is needed.

use std::time::Duration;

use posthaste_core::database::{EntryFilter, Listed};
use posthaste_core::dead_letter::DeadFilter;
use posthaste_core::finding::Severity;
use posthaste_core::inbox::Burial;
use posthaste_core::verdict::DeadReason;
use posthaste_core::{StoreError, Verdict};

use crate::case::{DatabaseCase, Store};
use crate::hand::{DESTINATION, HandRelay, LONG, dead, ids, ids_of, retry, state};
use crate::sample::{keyed, message, now};
use crate::timing::eventually;

/// Makes a test of every law of monitoring and cleaning.
#[macro_export]
macro_rules! monitor_suite {
    ($make:ident) => {
        $crate::laws!(
            monitor,
            $make(),
            [
                an_empty_outbox_has_nothing_to_show,
                the_backlog_is_what_could_be_sent_and_is_not,
                the_side_table_is_counted_by_state,
                dead_letters_of_relay_and_consumers_are_counted,
                held_leases_are_shown,
                rates_follow_what_was_settled,
                every_entry_is_listed_with_its_state,
                entries_are_filtered_and_paged,
                a_healthy_database_has_no_problem,
                what_was_sent_is_pruned_after_its_time,
                what_one_destination_has_not_sent_is_not_pruned,
                what_a_destination_that_was_never_reached_needs_is_not_pruned,
                what_waits_or_is_dead_is_not_pruned,
                pruning_under_an_old_token_removes_nothing,
                a_pruned_number_is_not_read_again,
            ]
        );
    };
}

async fn entries<D: Store>(database: &D, filter: EntryFilter) -> Vec<Listed> {
    let destination = DESTINATION.to_owned();
    database.entries(&EntryFilter { destination, ..filter }).await.expect("entries")
}

/// Nothing is not an error.
pub async fn an_empty_outbox_has_nothing_to_show<D: Store>(case: DatabaseCase<D>) {
    let status = case.database.status(DESTINATION).await.expect("status");
    assert_eq!((status.backlog, status.oldest_unsent_seconds), (0, None));
    assert_eq!((status.parked_keys, status.dead_letters), (0, 0));
    assert!(status.leases.is_empty());
    let all = EntryFilter { limit: 10, ..EntryFilter::default() };
    assert_eq!(entries(&case.database, all).await, []);
}

/// Not sent, but neither parked, nor dead, nor before its time.
pub async fn the_backlog_is_what_could_be_sent_and_is_not<D: Store>(case: DatabaseCase<D>) {
    let mut later = message("orders");
    later.due_at = Some(now().plus(LONG));
    let stated = [message("orders"), message("orders"), later, message("orders")];
    state(&case.database, &stated).await;
    let status = case.database.status(DESTINATION).await.expect("status");
    assert_eq!(status.backlog, 3, "all but the one before its time");
    let age = status.oldest_unsent_seconds.expect("there is an oldest one");
    assert!((0.0..60.0).contains(&age), "{age} seconds");
    let mut relay = HandRelay::start(&case.database).await;
    let verdicts = [Verdict::Sent, retry(LONG), Verdict::Due, dead(false)];
    relay.settle_new(|n| verdicts[n].clone()).await;
    let status = case.second.status(DESTINATION).await.expect("status");
    assert_eq!(status.backlog, 1, "the one that is tried again");
    let elsewhere = case.second.status("elsewhere").await.expect("status");
    assert_eq!(elsewhere.backlog, 3, "another destination has sent nothing");
}

/// What waits is visible, and why.
pub async fn the_side_table_is_counted_by_state<D: Store>(case: DatabaseCase<D>) {
    let mut later = message("orders");
    later.due_at = Some(now().plus(LONG));
    let stated = [
        keyed("orders", "a", "fails"),
        keyed("orders", "a", "follows"),
        keyed("orders", "a", "follows"),
        keyed("orders", "b", "dies"),
        keyed("orders", "b", "follows"),
        later,
    ];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let (behind, due) = (Verdict::Behind, Verdict::Due);
    let verdicts = [retry(LONG), behind.clone(), behind.clone(), dead(true), behind, due];
    relay.settle_new(|n| verdicts[n].clone()).await;
    let status = case.second.status(DESTINATION).await.expect("status");
    assert_eq!((status.held.due, status.held.retry, status.held.behind), (1, 1, 3));
    assert_eq!((status.parked_keys, status.dead_letters), (1, 1));
}

/// One figure for all that needs a person.
pub async fn dead_letters_of_relay_and_consumers_are_counted<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &[message("orders"), message("orders")]).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| dead(false)).await;
    let burial = Burial { reason: DeadReason::Rejected, detail: "no".into(), attempts: 1 };
    let mut transaction = case.database.begin().await.expect("begin");
    let connection = D::connection(&mut transaction);
    case.database.bury(connection, "mailer", &message("orders"), &burial).await.expect("bury");
    case.database.commit(transaction).await.expect("commit");
    assert_eq!(case.second.status(DESTINATION).await.expect("status").dead_letters, 3);
}

/// Who leads, and for how long.
pub async fn held_leases_are_shown<D: Store>(case: DatabaseCase<D>) {
    let relay = HandRelay::start(&case.database).await;
    let held = case.second.status(DESTINATION).await.expect("status").leases.swap_remove(0);
    assert_eq!((held.name, held.owner), (relay.lease.name.clone(), relay.lease.owner.clone()));
    assert_eq!(held.token, relay.lease.token);
    let left = held.remaining_seconds;
    assert!((1.0..=LONG.as_secs_f64()).contains(&left), "{left} seconds");
    case.database.release(&relay.lease).await.expect("release");
    assert!(case.second.status(DESTINATION).await.expect("status").leases.is_empty());
}

/// From the database itself, so that a restart shows the same.
pub async fn rates_follow_what_was_settled<D: Store>(case: DatabaseCase<D>) {
    let none = case.database.status(DESTINATION).await.expect("status").rates;
    assert!(none.sent_per_second.abs() < f64::EPSILON);
    let stated: Vec<_> = (0..60).map(|_| message("orders")).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n < 6 { retry(LONG) } else { Verdict::Sent }).await;
    let rates = case.second.status(DESTINATION).await.expect("status").rates;
    assert!(rates.sent_per_second > 0.0, "54 were sent: {rates:?}");
    assert!(rates.failed_per_second > 0.0, "6 failed: {rates:?}");
    assert!(rates.sent_per_second > rates.failed_per_second, "{rates:?}");
}

/// Nothing is hidden.
pub async fn every_entry_is_listed_with_its_state<D: Store>(case: DatabaseCase<D>) {
    let mut later = message("orders");
    later.due_at = Some(now().plus(LONG));
    let stated = [
        message("orders"),
        later,
        keyed("orders", "a", "fails"),
        keyed("orders", "a", "follows"),
        keyed("orders", "b", "dies"),
    ];
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let verdicts = [Verdict::Sent, Verdict::Due, retry(LONG), Verdict::Behind, dead(true)];
    let read = relay.settle_new(|n| verdicts[n].clone()).await;
    let new = message("orders");
    state(&case.database, std::slice::from_ref(&new)).await;
    let listed = entries(&case.second, EntryFilter { limit: 100, ..Default::default() }).await;
    let states: Vec<_> = listed.iter().map(|entry| entry.state.as_str()).collect();
    assert_eq!(states, ["sent", "due", "retry", "behind", "parked", "new"]);
    for (entry, message) in listed.iter().zip(stated.iter().chain([&new])) {
        assert_eq!(entry.id, message.id.to_string());
        assert_eq!((&entry.topic, &entry.kind), (&message.topic, &message.kind));
        assert_eq!((&entry.key, entry.stated_at), (&message.key, message.stated_at));
    }
    for (entry, read) in listed.iter().zip(&read) {
        assert_eq!(entry.position, read.position.to_string());
    }
    assert_eq!(listed[2].attempts, 1);
    assert_eq!(listed[2].detail.as_deref(), Some("the broker was busy"));
    assert!(listed[2].ready_at.is_some_and(|at| at > now()), "when it is tried next");
}

/// People look at a topic, at what is stuck, and page by page.
pub async fn entries_are_filtered_and_paged<D: Store>(case: DatabaseCase<D>) {
    let stated: Vec<_> =
        (0..5).map(|n| keyed(["orders", "invoices"][n % 2], "a", &n.to_string())).collect();
    state(&case.database, &stated).await;
    let invoices =
        EntryFilter { topic: Some("invoices".into()), limit: 10, ..EntryFilter::default() };
    let of_invoices = entries(&case.database, invoices).await;
    let wanted: Vec<_> = [1, 3].map(|n: usize| stated[n].id.to_string()).to_vec();
    assert_eq!(of_invoices.into_iter().map(|entry| entry.id).collect::<Vec<_>>(), wanted);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let filter = EntryFilter { after, limit: 2, ..EntryFilter::default() };
        let page = entries(&case.database, filter).await;
        assert!(page.len() <= 2);
        after = page.last().map(|entry| entry.position.clone());
        seen.extend(page.into_iter().map(|entry| entry.id));
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, stated.iter().map(|m| m.id.to_string()).collect::<Vec<_>>());
    let mut relay = HandRelay::start(&case.database).await;
    let verdicts = [Verdict::Sent, retry(LONG), dead(true), Verdict::Behind, Verdict::Behind];
    relay.settle_new(|n| verdicts[n].clone()).await;
    let stuck = EntryFilter { stuck: true, limit: 10, ..EntryFilter::default() };
    let stuck = entries(&case.second, stuck).await;
    let wanted: Vec<_> = stated[1..].iter().map(|message| message.id.to_string()).collect();
    assert_eq!(stuck.into_iter().map(|entry| entry.id).collect::<Vec<_>>(), wanted);
}

/// A doctor who finds something everywhere is not believed anywhere.
pub async fn a_healthy_database_has_no_problem<D: Store>(case: DatabaseCase<D>) {
    let findings = case.database.findings().await;
    let problems: Vec<_> =
        findings.iter().filter(|finding| finding.severity == Severity::Problem).collect();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Old, sent, and no more than asked for.
pub async fn what_was_sent_is_pruned_after_its_time<D: Store>(case: DatabaseCase<D>) {
    let stated: Vec<_> = (0..5).map(|_| message("orders")).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let lease = relay.lease.clone();
    let prune =
        async |keep, limit| case.database.prune_sent(&lease, keep, limit).await.expect("prune");
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(prune(Duration::from_millis(5), 100).await, 0, "nothing is sent yet");
    relay.settle_new(|_| Verdict::Sent).await;
    assert_eq!(prune(LONG, 100).await, 0, "nothing is old enough");
    assert_eq!(prune(Duration::from_millis(5), 3).await, 3, "as many as asked for");
    assert_eq!(prune(Duration::from_millis(5), 100).await, 2);
    let all = EntryFilter { limit: 100, ..EntryFilter::default() };
    assert_eq!(entries(&case.second, all).await, []);
}

/// Several brokers are served from one outbox.
pub async fn what_one_destination_has_not_sent_is_not_pruned<D: Store>(case: DatabaseCase<D>) {
    let mut one = HandRelay::to(&case.database, "one").await;
    let mut two = HandRelay::to(&case.database, "two").await;
    state(&case.database, &[message("orders")]).await;
    two.settle_new(|_| Verdict::Sent).await;
    let stated = [message("orders")];
    state(&case.database, &stated).await;
    one.settle_new(|_| Verdict::Sent).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let pruned = case.database.prune_sent(&one.lease, Duration::from_millis(5), 100).await;
    assert_eq!(pruned.expect("prune"), 1, "what both have sent");
    assert_eq!(ids(&two.new_entries().await.0), ids_of(&stated));
}

/// The broker of one of them may be away from the first day on.
pub async fn what_a_destination_that_was_never_reached_needs_is_not_pruned<D: Store>(
    case: DatabaseCase<D>,
) {
    let never = HandRelay::to(&case.second, "never").await;
    let mut relay = HandRelay::start(&case.database).await;
    let stated = [message("orders")];
    state(&case.database, &stated).await;
    relay.settle_new(|_| Verdict::Sent).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let pruned = case.database.prune_sent(&relay.lease, Duration::from_millis(5), 100).await;
    assert_eq!(pruned.expect("prune"), 0);
    assert_eq!(ids(&never.new_entries().await.0), ids_of(&stated));
}

/// Whatever may still be sent stays.
pub async fn what_waits_or_is_dead_is_not_pruned<D: Store>(case: DatabaseCase<D>) {
    let stated: Vec<_> =
        ["a", "a", "b", "b", "c", "d"].into_iter().map(|key| keyed("orders", key, "{}")).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    let verdicts = [
        retry(Duration::ZERO),
        Verdict::Behind,
        dead(true),
        Verdict::Behind,
        dead(false),
        Verdict::Sent,
    ];
    relay.settle_new(|n| verdicts[n].clone()).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let lease = relay.lease.clone();
    let pruned = case.database.prune_sent(&lease, Duration::from_millis(5), 100).await;
    assert_eq!(pruned.expect("prune"), 1, "only the one that was sent");
    let head = relay.wait_ready().await.swap_remove(0);
    relay.settle_ready(&head, Verdict::Sent).await;
    let next = relay.wait_ready().await;
    assert_eq!(ids(&next), vec![stated[1].id], "what waited behind it is still there");
    let letters = case.database.list(&DeadFilter { limit: 10, ..DeadFilter::default() }).await;
    let references: Vec<_> =
        letters.expect("list").into_iter().map(|letter| letter.reference).collect();
    case.database.repost(&references, "operator").await.expect("repost");
    let all = eventually("all that is left is ready", async || {
        let entries = relay.ready().await.entries;
        (entries.len() >= 3).then_some(entries)
    })
    .await;
    let all = ids(&all);
    assert!(all.contains(&stated[2].id) && all.contains(&stated[4].id), "{all:?}");
}

/// Cleaning is done by the leader.
pub async fn pruning_under_an_old_token_removes_nothing<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &[message("orders")]).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| Verdict::Sent).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let mut old = relay.lease.clone();
    case.database.release(&old).await.expect("release");
    let next = HandRelay::start(&case.second).await;
    old.token = next.lease.token - 1;
    let refused = case.database.prune_sent(&old, Duration::from_millis(5), 100).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    let all = EntryFilter { limit: 10, ..EntryFilter::default() };
    assert_eq!(entries(&case.database, all).await.len(), 1);
}

/// An emptied table goes on counting: a number never comes twice.
pub async fn a_pruned_number_is_not_read_again<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    for _ in 0..3 {
        let stated = [message("orders"), message("orders")];
        state(&case.database, &stated).await;
        assert_eq!(ids(&relay.settle_new(|_| Verdict::Sent).await), ids_of(&stated));
        tokio::time::sleep(Duration::from_millis(15)).await;
        let lease = relay.lease.clone();
        let pruned = case.second.prune_sent(&lease, Duration::from_millis(2), 100).await;
        assert_eq!(pruned.expect("prune"), 2);
        assert_eq!(ids(&relay.new_entries().await.0), vec![]);
    }
}
