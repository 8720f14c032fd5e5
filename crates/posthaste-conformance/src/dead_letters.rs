//! Laws of dead letters: kept whole until a person decides, and then exactly once.

use std::sync::Arc;
use std::time::Duration;

use posthaste_core::dead_letter::{DeadFilter, DeadLetter, Origin};
use posthaste_core::inbox::{Acceptance, Burial, InboxWindow};
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Message, StoreError, Verdict};

use crate::case::{DatabaseCase, Store};
use crate::hand::{DESTINATION, HandRelay, body, dead, ids, ids_of, retry, state};
use crate::inbox::assert_letter;
use crate::sample::{edges, keyed, message};

/// Makes a test of every law of dead letters.
#[macro_export]
macro_rules! dead_letters_suite {
    ($make:ident) => {
        $crate::laws!(
            dead_letters,
            $make(),
            [
                a_dead_letter_of_the_relay_keeps_the_whole_message,
                a_dead_letter_tells_why_and_what_failed_before,
                dead_letters_are_listed_oldest_first_and_page_by_page,
                dead_letters_are_found_by_topic_and_by_id,
                a_reference_that_is_not_there_is_none,
                a_reposted_entry_is_sent_ahead_of_those_that_wait_behind_it,
                a_reposted_entry_that_was_skipped_is_sent_again,
                a_discarded_entry_lets_its_key_go_on,
                a_key_goes_on_only_after_the_last_of_its_parked_entries,
                a_reposted_message_of_a_consumer_is_that_consumers_only,
                a_reposted_message_of_a_consumer_is_seen_until_it_is_handled,
                a_reposted_message_of_a_consumer_can_be_given_up_but_not_reposted,
                a_discarded_message_of_a_consumer_stays_done,
                an_act_on_one_that_is_not_there_changes_nothing,
                of_two_equal_acts_at_once_exactly_one_succeeds,
                acts_on_several_are_carried_out_together,
                nothing_but_an_act_removes_a_dead_letter,
                dead_letters_of_destinations_and_consumers_are_told_apart,
            ]
        );
    };
}

async fn listed<D: Store>(database: &D) -> Vec<DeadLetter> {
    let filter = DeadFilter { limit: 1000, ..DeadFilter::default() };
    database.list(&filter).await.expect("list")
}

async fn references<D: Store>(database: &D) -> Vec<String> {
    listed(database).await.into_iter().map(|letter| letter.reference).collect()
}

/// States messages and makes every one of them a dead letter of the relay.
async fn kill<D: Store>(relay: &mut HandRelay<'_, D>, messages: &[Message], park: bool) {
    state(relay.database, messages).await;
    relay.settle_new(|_| dead(park)).await;
}

async fn bury<D: Store>(database: &D, consumer: &str, message: &Message) {
    let burial = Burial { reason: DeadReason::Rejected, detail: "no".into(), attempts: 1 };
    let mut transaction = database.begin().await.expect("begin");
    let connection = D::connection(&mut transaction);
    database.bury(connection, consumer, message, &burial).await.expect("bury");
    database.commit(transaction).await.expect("commit");
}

async fn accept<D: Store>(database: &D, consumer: &str, message: &Message) -> Acceptance {
    let mut transaction = database.begin().await.expect("begin");
    let connection = D::connection(&mut transaction);
    let answers = database.accept(connection, consumer, &[message.id]).await.expect("accept");
    database.commit(transaction).await.expect("commit");
    answers[0]
}

/// Whatever a message may hold is there for a person to see.
pub async fn a_dead_letter_of_the_relay_keeps_the_whole_message<D: Store>(case: DatabaseCase<D>) {
    let messages = edges("orders");
    let mut relay = HandRelay::start(&case.database).await;
    kill(&mut relay, &messages, false).await;
    let letters = listed(&case.second).await;
    assert_eq!(letters.len(), messages.len());
    for (message, letter) in messages.iter().zip(&letters) {
        assert_letter(message, letter);
        assert_eq!(letter.origin, Origin::Relay(DESTINATION.into()));
        let one = case.second.get(&letter.reference).await.expect("get");
        assert_eq!(one.as_ref(), Some(letter));
    }
}

/// The history of the side table goes with it.
pub async fn a_dead_letter_tells_why_and_what_failed_before<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &[keyed("orders", "a", "1")]).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| retry(Duration::ZERO)).await;
    let entry = relay.wait_ready().await.swap_remove(0);
    let (delay, detail) = (Duration::ZERO, "busy again".to_owned());
    relay.settle_ready(&entry, Verdict::Retry { attempts: 2, delay, detail }).await;
    let entry = relay.wait_ready().await.swap_remove(0);
    relay.settle_ready(&entry, dead(true)).await;
    let letter = listed(&case.second).await.swap_remove(0);
    assert_eq!((letter.reason.as_str(), letter.attempts), (DeadReason::Refused.code(), 3));
    assert_eq!((letter.detail.as_str(), letter.parked), ("the broker said no", true));
    let told: Vec<_> = letter.history.iter().map(|f| (f.attempt, f.detail.as_str())).collect();
    assert_eq!(told[..2], [(1, "the broker was busy"), (2, "busy again")]);
    let first = letter.first_failed_at.expect("there was a first failure");
    assert!(first <= letter.history[1].at && letter.history[1].at <= letter.dead_at);
}

/// A long list is read in pages, and a page ends where the next begins.
pub async fn dead_letters_are_listed_oldest_first_and_page_by_page<D: Store>(
    case: DatabaseCase<D>,
) {
    let messages: Vec<_> = (0..7).map(|_| message("orders")).collect();
    let mut relay = HandRelay::start(&case.database).await;
    for message in &messages {
        kill(&mut relay, std::slice::from_ref(message), false).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let filter = DeadFilter { after, limit: 3, ..DeadFilter::default() };
        let page = case.database.list(&filter).await.expect("list");
        assert!(page.len() <= 3, "a page keeps its limit");
        after = page.last().map(|letter| letter.reference.clone());
        seen.extend(page.into_iter().map(|letter| letter.id));
        if after.is_none() {
            break;
        }
    }
    let stated: Vec<_> = messages.iter().map(|message| message.id.to_string()).collect();
    assert_eq!(seen, stated);
}

/// People look for a topic or for one message.
pub async fn dead_letters_are_found_by_topic_and_by_id<D: Store>(case: DatabaseCase<D>) {
    let messages = [message("orders"), message("invoices"), message("orders")];
    let mut relay = HandRelay::start(&case.database).await;
    kill(&mut relay, &messages[..2], false).await;
    bury(&case.database, "mailer", &messages[2]).await;
    let found = async |topic: Option<&str>, id: Option<String>| {
        let topic = topic.map(str::to_owned);
        let filter = DeadFilter { topic, id, after: None, limit: 10 };
        let letters = case.database.list(&filter).await.expect("list");
        letters.into_iter().map(|letter| letter.id).collect::<Vec<_>>()
    };
    let [one, two, three] = messages.map(|message| message.id.to_string());
    assert_eq!(found(Some("orders"), Some(two.clone())).await, Vec::<String>::new());
    assert_eq!(found(Some("orders"), None).await, [one, three]);
    assert_eq!(found(None, Some(two.clone())).await, [two]);
    assert_eq!(found(Some("nothing"), None).await, Vec::<String>::new());
}

/// Looking for nothing finds nothing.
pub async fn a_reference_that_is_not_there_is_none<D: Store>(case: DatabaseCase<D>) {
    for reference in ["", "1", "nonsense", "999999999999999999999999", "' or 1 = 1 --", "ü"] {
        assert_eq!(case.database.get(reference).await.expect("get"), None, "{reference}");
    }
}

/// The same message, in its place, with a fresh count.
pub async fn a_reposted_entry_is_sent_ahead_of_those_that_wait_behind_it<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated: Vec<_> = (0..3).map(|n| keyed("orders", "a", &n.to_string())).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n == 0 { dead(true) } else { Verdict::Behind }).await;
    assert_eq!(relay.ready_ids().await, vec![], "the key waits for a person");
    case.second.repost(&references(&case.second).await, "operator").await.expect("repost");
    assert_eq!(listed(&case.database).await, [], "it has left the dead letters");
    state(&case.database, &[keyed("orders", "a", "new")]).await;
    assert!(relay.new_entries().await.0[0].blocked, "the key still waits for it");
    for message in &stated {
        let entries = relay.wait_ready().await;
        assert_eq!((body(&entries[0]).id, entries[0].attempts), (message.id, 0));
        assert!(!entries[0].blocked);
        relay.settle_ready(&entries[0], Verdict::Sent).await;
    }
    assert!(!relay.new_entries().await.0[0].blocked, "the key goes on");
}

/// Its key went on without it; it is sent all the same.
pub async fn a_reposted_entry_that_was_skipped_is_sent_again<D: Store>(case: DatabaseCase<D>) {
    let messages = [keyed("orders", "a", "1"), message("orders")];
    let mut relay = HandRelay::start(&case.database).await;
    kill(&mut relay, &messages, false).await;
    assert_eq!(relay.ready_ids().await, vec![]);
    case.database.repost(&references(&case.database).await, "operator").await.expect("repost");
    let entries = relay.wait_ready().await;
    assert_eq!(ids(&entries), ids_of(&messages));
    for entry in entries {
        assert_eq!(entry.attempts, 0);
        relay.settle_ready(&entry, Verdict::Sent).await;
    }
    assert_eq!((relay.ready_ids().await, listed(&case.database).await), (vec![], vec![]));
}

/// What waits behind it goes on.
pub async fn a_discarded_entry_lets_its_key_go_on<D: Store>(case: DatabaseCase<D>) {
    let stated: Vec<_> = (0..3).map(|n| keyed("orders", "a", &n.to_string())).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n == 0 { dead(true) } else { Verdict::Behind }).await;
    let references = references(&case.second).await;
    case.second.discard(&references, "operator", "a test order").await.expect("discard");
    assert_eq!(listed(&case.database).await, []);
    for message in &stated[1..] {
        let entries = relay.wait_ready().await;
        assert_eq!(body(&entries[0]).id, message.id);
        relay.settle_ready(&entries[0], Verdict::Sent).await;
    }
    assert_eq!(relay.ready_ids().await, vec![]);
    assert_eq!(case.database.status(DESTINATION).await.expect("status").parked_keys, 0);
}

/// Two dead letters of one key are two decisions.
pub async fn a_key_goes_on_only_after_the_last_of_its_parked_entries<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated: Vec<_> = (0..3).map(|n| keyed("orders", "a", &n.to_string())).collect();
    state(&case.database, &stated).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|n| if n < 2 { dead(true) } else { Verdict::Behind }).await;
    let both = references(&case.database).await;
    case.database.discard(&both[1..], "operator", "no").await.expect("discard the second");
    assert_eq!(relay.ready_ids().await, vec![], "the first is still parked");
    case.database.repost(&both[..1], "operator").await.expect("repost the first");
    let entries = relay.wait_ready().await;
    assert_eq!(body(&entries[0]).id, stated[0].id);
    relay.settle_ready(&entries[0], Verdict::Sent).await;
    let entries = relay.wait_ready().await;
    assert_eq!(ids(&entries), vec![stated[2].id], "the discarded one is skipped");
}

/// Other consumers have handled it and the relay has sent it; neither does it again.
pub async fn a_reposted_message_of_a_consumer_is_that_consumers_only<D: Store>(
    case: DatabaseCase<D>,
) {
    let message = message("orders");
    state(&case.database, std::slice::from_ref(&message)).await;
    let mut relay = HandRelay::start(&case.database).await;
    relay.settle_new(|_| Verdict::Sent).await;
    accept(&case.database, "billing", &message).await;
    bury(&case.database, "mailer", &message).await;
    case.database.repost(&references(&case.database).await, "operator").await.expect("repost");
    assert_eq!((relay.ready_ids().await, ids(&relay.new_entries().await.0)), (vec![], vec![]));
    let again = case.second.reposted("mailer", 10).await.expect("reposted");
    assert_eq!(ids_of(&again), vec![message.id]);
    assert_eq!(ids_of(&case.second.reposted("billing", 10).await.expect("reposted")), vec![]);
    assert_eq!(accept(&case.database, "billing", &message).await, Acceptance::Before);
    assert_eq!(accept(&case.database, "mailer", &message).await, Acceptance::First);
}

/// The consumer may be gone for good: an operator has to see that.
pub async fn a_reposted_message_of_a_consumer_is_seen_until_it_is_handled<D: Store>(
    case: DatabaseCase<D>,
) {
    let message = message("orders");
    bury(&case.database, "mailer", &message).await;
    let before = listed(&case.database).await.swap_remove(0);
    assert!(!before.reposted);
    let reference = before.reference.clone();
    case.database.repost(std::slice::from_ref(&reference), "operator").await.expect("repost");
    let after = DeadLetter { reposted: true, ..before };
    assert_eq!(listed(&case.second).await, std::slice::from_ref(&after));
    assert_eq!(case.second.get(&reference).await.expect("get"), Some(after));
    assert_eq!(case.second.status(DESTINATION).await.expect("status").dead_letters, 1);
    accept(&case.database, "mailer", &message).await;
    assert_eq!(listed(&case.second).await, []);
    assert_eq!(case.second.get(&reference).await.expect("get"), None);
    assert_eq!(case.second.status(DESTINATION).await.expect("status").dead_letters, 0);
}

/// A second repost would change nothing, and is told so; a discard ends the waiting.
pub async fn a_reposted_message_of_a_consumer_can_be_given_up_but_not_reposted<D: Store>(
    case: DatabaseCase<D>,
) {
    let message = message("orders");
    bury(&case.database, "mailer", &message).await;
    let references = references(&case.database).await;
    case.database.repost(&references, "operator").await.expect("repost");
    let refused = case.second.repost(&references, "operator").await;
    assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{refused:?}");
    case.second.discard(&references, "operator", "nobody handles these").await.expect("discard");
    assert_eq!(listed(&case.database).await, []);
    assert_eq!(ids_of(&case.database.reposted("mailer", 10).await.expect("reposted")), vec![]);
    assert_eq!(accept(&case.database, "mailer", &message).await, Acceptance::Before);
}

/// Given up is done: a late duplicate has no effect.
pub async fn a_discarded_message_of_a_consumer_stays_done<D: Store>(case: DatabaseCase<D>) {
    let message = message("orders");
    bury(&case.database, "mailer", &message).await;
    let references = references(&case.database).await;
    case.database.discard(&references, "operator", "a test order").await.expect("discard");
    assert_eq!(listed(&case.database).await, []);
    assert_eq!(ids_of(&case.database.reposted("mailer", 10).await.expect("reposted")), vec![]);
    assert_eq!(accept(&case.database, "mailer", &message).await, Acceptance::Before);
}

/// All or nothing.
pub async fn an_act_on_one_that_is_not_there_changes_nothing<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    kill(&mut relay, &[message("orders"), message("orders")], false).await;
    bury(&case.database, "mailer", &message("orders")).await;
    let before = listed(&case.database).await;
    let there: Vec<_> = before.iter().map(|letter| letter.reference.clone()).collect();
    for missing in ["424242", "nonsense", ""] {
        let mut some = there.clone();
        some.insert(1, missing.to_owned());
        let refused = case.database.repost(&some, "operator").await;
        assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{refused:?}");
        let refused = case.database.discard(&some, "operator", "because").await;
        assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{refused:?}");
    }
    assert_eq!(listed(&case.second).await, before);
    assert_eq!(relay.ready_ids().await, vec![]);
    assert_eq!(ids_of(&case.database.reposted("mailer", 10).await.expect("reposted")), vec![]);
}

/// Two operators press the button together, or one presses it twice.
pub async fn of_two_equal_acts_at_once_exactly_one_succeeds<D: Store>(case: DatabaseCase<D>) {
    let handles = [Arc::new(case.database), Arc::new(case.second)];
    let mut relay = HandRelay::start(&*handles[0]).await;
    for round in 0..6 {
        kill(&mut relay, &[message("orders")], false).await;
        let references = references(&*handles[0]).await;
        let acts: Vec<_> = (0..4)
            .map(|n| {
                let (database, references) = (handles[n % 2].clone(), references.clone());
                tokio::spawn(async move {
                    if round % 2 == 0 {
                        database.repost(&references, "operator").await
                    } else {
                        database.discard(&references, "operator", "because").await
                    }
                })
            })
            .collect();
        let mut done = 0;
        for act in acts {
            match act.await.expect("ends") {
                Ok(()) => done += 1,
                Err(StoreError::Rejected { .. }) => {}
                Err(error) => panic!("an act that came too late: {error}"),
            }
        }
        assert_eq!(done, 1, "acts that succeeded in round {round}");
        let entries = relay.ready().await.entries;
        assert_eq!(entries.len(), usize::from(round % 2 == 0), "it is sent again once");
        for entry in entries {
            relay.settle_ready(&entry, Verdict::Sent).await;
        }
    }
}

/// A bulk act is one act.
pub async fn acts_on_several_are_carried_out_together<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    let stated: Vec<_> = (0..3).map(|n| keyed("orders", &format!("k{n}"), "{}")).collect();
    kill(&mut relay, &stated, true).await;
    let buried = message("orders");
    bury(&case.database, "mailer", &buried).await;
    case.database.repost(&references(&case.database).await, "operator").await.expect("repost");
    assert!(listed(&case.database).await.iter().all(|letter| letter.reposted));
    assert_eq!(ids(&relay.wait_ready().await), ids_of(&stated));
    let again = case.database.reposted("mailer", 10).await.expect("reposted");
    assert_eq!(ids_of(&again), vec![buried.id]);
}

/// Not time, not cleaning, not another message.
pub async fn nothing_but_an_act_removes_a_dead_letter<D: Store>(case: DatabaseCase<D>) {
    let mut relay = HandRelay::start(&case.database).await;
    kill(&mut relay, &[keyed("orders", "a", "1"), message("orders")], false).await;
    bury(&case.database, "mailer", &message("orders")).await;
    let before = listed(&case.database).await;
    state(&case.database, &[keyed("orders", "a", "2")]).await;
    relay.settle_new(|_| Verdict::Sent).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let lease = relay.lease.clone();
    case.database.prune_sent(&lease, Duration::from_millis(5), 100).await.expect("prune");
    let window = InboxWindow { age: Duration::from_millis(5), count: Some(0) };
    case.database.prune_inbox("mailer", window, 100).await.expect("prune");
    assert_eq!(listed(&case.second).await, before);
    let references: Vec<_> = before.into_iter().map(|letter| letter.reference).collect();
    case.database.repost(&references, "operator").await.expect("all can still be sent again");
    assert_eq!(relay.wait_ready().await.len(), 2);
}

/// Where it died decides what a repost does.
pub async fn dead_letters_of_destinations_and_consumers_are_told_apart<D: Store>(
    case: DatabaseCase<D>,
) {
    let message = message("orders");
    state(&case.database, std::slice::from_ref(&message)).await;
    for destination in ["one", "two"] {
        let mut relay = HandRelay::to(&case.database, destination).await;
        relay.settle_new(|_| dead(false)).await;
    }
    bury(&case.database, "mailer", &message).await;
    let letters = listed(&case.database).await;
    let origins: Vec<_> = letters.iter().map(|letter| letter.origin.clone()).collect();
    for origin in [
        Origin::Relay("one".into()),
        Origin::Relay("two".into()),
        Origin::Consumer("mailer".into()),
    ] {
        assert!(origins.contains(&origin), "{origin:?} among {origins:?}");
    }
    let of_two = letters.iter().find(|letter| letter.origin == Origin::Relay("two".into()));
    let reference = of_two.expect("it is there").reference.clone();
    case.database.repost(&[reference], "operator").await.expect("repost");
    let one = HandRelay::to(&case.database, "one").await;
    let two = HandRelay::to(&case.database, "two").await;
    assert_eq!(ids(&two.wait_ready().await), vec![message.id]);
    assert_eq!(one.ready_ids().await, vec![]);
    assert_eq!(listed(&case.database).await.len(), 2);
}
