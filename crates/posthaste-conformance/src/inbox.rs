//! Laws of the inbox: each consumer is done with a message once, whatever races, fails or dies.

use std::sync::Arc;
use std::time::Duration;

use posthaste_core::dead_letter::{DeadFilter, DeadLetter, Origin};
use posthaste_core::inbox::{Acceptance, Burial, InboxWindow};
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Message, MessageId, StoreError};
use tokio::time::Instant;

use crate::case::{DatabaseCase, Store};
use crate::hand::ids_of;
use crate::sample::{assert_same, assert_same_form, edges, id, keyed, message};
use crate::timing::PATIENCE;

/// Makes a test of every law of the inbox.
#[macro_export]
macro_rules! inbox_suite {
    ($make:ident) => {
        $crate::laws!(
            inbox,
            $make(),
            [
                the_first_acceptance_is_first_and_every_later_one_is_before,
                consumers_do_not_see_one_anothers_acceptances,
                an_acceptance_is_rolled_back_with_its_transaction,
                an_acceptance_is_seen_in_its_own_transaction,
                of_acceptances_that_race_exactly_one_is_first,
                several_ids_are_answered_in_the_order_given,
                accepting_nothing_is_no_error,
                an_acceptance_and_what_it_states_are_one_transaction,
                attempts_are_counted_durably,
                attempts_are_counted_for_each_consumer_and_message,
                an_acceptance_forgets_the_attempts,
                an_acceptance_that_is_rolled_back_forgets_nothing,
                a_failure_of_an_attempt_that_was_not_begun_is_counted,
                a_failure_of_an_attempt_that_was_begun_is_not_counted_again,
                a_buried_message_is_kept_whole_and_accepted_as_before,
                a_burial_tells_why_and_what_failed_before,
                a_burial_is_rolled_back_with_its_transaction,
                a_message_can_be_buried_where_it_was_just_accepted,
                a_message_is_buried_once,
                a_reposted_message_is_first_again_once,
                a_reposted_message_comes_back_until_it_is_accepted,
                a_reposted_message_can_be_buried_again,
                reposted_messages_are_listed_for_their_consumer_oldest_first,
                a_reposted_message_starts_with_a_fresh_count,
                ids_older_than_the_window_are_forgotten,
                ids_beyond_the_count_are_forgotten_oldest_first,
                ids_of_dead_letters_are_never_forgotten,
                dead_letters_do_not_count_against_the_window,
                attempts_older_than_the_window_are_forgotten,
            ]
        );
    };
}

const CONSUMER: &str = "mailer";

/// Accepts in a transaction of its own.
async fn accept<D: Store>(database: &D, consumer: &str, ids: &[MessageId]) -> Vec<Acceptance> {
    let mut transaction = database.begin().await.expect("begin");
    let connection = D::connection(&mut transaction);
    let answers = database.accept(connection, consumer, ids).await.expect("accept");
    assert_eq!(answers.len(), ids.len(), "one answer for each id");
    database.commit(transaction).await.expect("commit");
    answers
}

async fn is_first<D: Store>(database: &D, consumer: &str, id: MessageId) -> bool {
    accept(database, consumer, &[id]).await == [Acceptance::First]
}

fn burial(reason: DeadReason) -> Burial {
    Burial { reason, detail: "the address does not exist".into(), attempts: 5 }
}

/// Buries in a transaction of its own.
async fn bury<D: Store>(database: &D, consumer: &str, message: &Message, burial: &Burial) {
    let mut transaction = database.begin().await.expect("begin");
    let connection = D::connection(&mut transaction);
    database.bury(connection, consumer, message, burial).await.expect("bury");
    database.commit(transaction).await.expect("commit");
}

async fn dead<D: Store>(database: &D) -> Vec<DeadLetter> {
    let filter = DeadFilter { limit: 1000, ..DeadFilter::default() };
    database.list(&filter).await.expect("list")
}

/// Buries and reposts.
async fn repost<D: Store>(database: &D, consumer: &str, message: &Message) {
    bury(database, consumer, message, &burial(DeadReason::Rejected)).await;
    let letters = dead(database).await;
    let letter = letters.iter().find(|letter| letter.id == message.id.to_string());
    let reference = letter.expect("it is a dead letter").reference.clone();
    database.repost(&[reference], "operator").await.expect("repost");
}

async fn reposted<D: Store>(database: &D, consumer: &str) -> Vec<MessageId> {
    ids_of(&database.reposted(consumer, 100).await.expect("reposted"))
}

/// The one thing an inbox is for.
pub async fn the_first_acceptance_is_first_and_every_later_one_is_before<D: Store>(
    case: DatabaseCase<D>,
) {
    let id = id();
    assert!(is_first(&case.database, CONSUMER, id).await);
    assert!(!is_first(&case.database, CONSUMER, id).await);
    assert!(!is_first(&case.second, CONSUMER, id).await, "through another handle too");
}

/// Every consumer handles every message.
pub async fn consumers_do_not_see_one_anothers_acceptances<D: Store>(case: DatabaseCase<D>) {
    let id = id();
    for consumer in ["mailer", "billing", "mailer/2"] {
        assert!(is_first(&case.database, consumer, id).await, "{consumer}");
    }
}

/// An effect that did not happen can still happen.
pub async fn an_acceptance_is_rolled_back_with_its_transaction<D: Store>(case: DatabaseCase<D>) {
    let id = id();
    for _ in 0..3 {
        let mut transaction = case.database.begin().await.expect("begin");
        let connection = D::connection(&mut transaction);
        let answers = case.database.accept(connection, CONSUMER, &[id]).await.expect("accept");
        assert_eq!(answers, [Acceptance::First]);
        drop(transaction);
    }
    assert!(is_first(&case.second, CONSUMER, id).await);
}

/// A batch may hold the same message twice.
pub async fn an_acceptance_is_seen_in_its_own_transaction<D: Store>(case: DatabaseCase<D>) {
    let id = id();
    let mut transaction = case.database.begin().await.expect("begin");
    for expected in [Acceptance::First, Acceptance::Before] {
        let connection = D::connection(&mut transaction);
        let answers = case.database.accept(connection, CONSUMER, &[id]).await.expect("accept");
        assert_eq!(answers, [expected]);
    }
    case.database.commit(transaction).await.expect("commit");
}

/// One of many processes of a consumer: tries until the database lets it through.
async fn race<D: Store>(database: Arc<D>, id: MessageId, commits: bool) -> Acceptance {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match race_once(&*database, id, commits).await {
            Ok(answer) => return answer,
            Err(error) => error,
        };
        assert!(error.is_transient() && Instant::now() < deadline, "accepting: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn race_once<D: Store>(
    database: &D,
    id: MessageId,
    commits: bool,
) -> Result<Acceptance, StoreError> {
    let mut transaction = database.begin().await?;
    let connection = D::connection(&mut transaction);
    let answer = database.accept(connection, CONSUMER, &[id]).await?[0];
    tokio::time::sleep(Duration::from_millis(2)).await;
    if !commits {
        return Ok(Acceptance::Before);
    }
    database.commit(transaction).await?;
    Ok(answer)
}

/// Competing processes get the same message, and some of them fail.
pub async fn of_acceptances_that_race_exactly_one_is_first<D: Store>(case: DatabaseCase<D>) {
    let handles = [Arc::new(case.database), Arc::new(case.second)];
    for round in 0..8 {
        let id = id();
        let tries: Vec<_> = (0..6)
            .map(|n| {
                let (database, commits) = (handles[n % 2].clone(), n != round % 6);
                tokio::spawn(race(database, id, commits))
            })
            .collect();
        let mut firsts = 0;
        for attempt in tries {
            firsts += usize::from(attempt.await.expect("ends") == Acceptance::First);
        }
        assert_eq!(firsts, 1, "acceptances that were first in round {round}");
    }
}

/// Batches of deliveries are accepted in one call.
pub async fn several_ids_are_answered_in_the_order_given<D: Store>(case: DatabaseCase<D>) {
    use Acceptance::{Before, First};
    let known: Vec<_> = (0..4).map(|_| id()).collect();
    accept(&case.database, CONSUMER, &[known[1], known[3]]).await;
    let new = id();
    let call = [known[0], known[1], new, known[3], new, known[2]];
    let answers = accept(&case.database, CONSUMER, &call).await;
    assert_eq!(answers, [First, Before, First, Before, Before, First]);
    let many: Vec<_> = (0..2000).map(|_| id()).collect();
    let answers = accept(&case.database, CONSUMER, &many).await;
    assert!(answers.iter().all(|answer| *answer == First), "two thousand in one call");
    let answers = accept(&case.second, CONSUMER, &many).await;
    assert!(answers.iter().all(|answer| *answer == Before), "and again");
}

/// An empty list is a list.
pub async fn accepting_nothing_is_no_error<D: Store>(case: DatabaseCase<D>) {
    assert_eq!(accept(&case.database, CONSUMER, &[]).await, []);
}

/// State, inbox and outbox are one.
pub async fn an_acceptance_and_what_it_states_are_one_transaction<D: Store>(case: DatabaseCase<D>) {
    let (id, follows) = (id(), [message("invoices")]);
    for committed in [false, true] {
        let mut transaction = case.database.begin().await.expect("begin");
        let connection = D::connection(&mut transaction);
        let answers = case.database.accept(connection, CONSUMER, &[id]).await.expect("accept");
        assert_eq!(answers, [Acceptance::First]);
        case.database.enqueue(connection, &follows).await.expect("enqueue");
        if committed {
            case.database.commit(transaction).await.expect("commit");
        }
    }
    let relay = crate::hand::HandRelay::start(&case.second).await;
    assert_eq!(crate::hand::ids(&relay.new_entries().await.0), ids_of(&follows));
    assert!(!is_first(&case.second, CONSUMER, id).await);
}

/// A handler that kills its process has been counted before.
pub async fn attempts_are_counted_durably<D: Store>(case: DatabaseCase<D>) {
    let id = id();
    for expected in 1..=3 {
        let attempt = case.database.begin_attempt(CONSUMER, id).await.expect("begin attempt");
        assert_eq!(attempt, expected);
    }
    let attempt = case.second.begin_attempt(CONSUMER, id).await.expect("begin attempt");
    assert_eq!(attempt, 4, "as a process sees it that starts afterwards");
}

/// One consumer's trouble is not another's.
pub async fn attempts_are_counted_for_each_consumer_and_message<D: Store>(case: DatabaseCase<D>) {
    let (one, two) = (id(), id());
    for (consumer, id, expected) in
        [("a", one, 1), ("a", one, 2), ("a", two, 1), ("b", one, 1), ("a", one, 3)]
    {
        let attempt = case.database.begin_attempt(consumer, id).await.expect("begin attempt");
        assert_eq!(attempt, expected, "{consumer}");
    }
}

/// What succeeded has no failures left.
pub async fn an_acceptance_forgets_the_attempts<D: Store>(case: DatabaseCase<D>) {
    let id = id();
    case.database.begin_attempt(CONSUMER, id).await.expect("begin attempt");
    case.database.record_failure(CONSUMER, id, 1, "busy").await.expect("record");
    case.database.begin_attempt(CONSUMER, id).await.expect("begin attempt");
    accept(&case.database, CONSUMER, &[id]).await;
    let attempt = case.second.begin_attempt(CONSUMER, id).await.expect("begin attempt");
    assert_eq!(attempt, 1);
}

/// Or a handler that fails after its acceptance would be tried for ever.
pub async fn an_acceptance_that_is_rolled_back_forgets_nothing<D: Store>(case: DatabaseCase<D>) {
    let id = id();
    for expected in 1..=3 {
        let attempt = case.database.begin_attempt(CONSUMER, id).await.expect("begin attempt");
        assert_eq!(attempt, expected);
        let mut transaction = case.database.begin().await.expect("begin");
        let connection = D::connection(&mut transaction);
        case.database.accept(connection, CONSUMER, &[id]).await.expect("accept");
        drop(transaction);
    }
}

/// First attempts of a batch are not begun one by one.
pub async fn a_failure_of_an_attempt_that_was_not_begun_is_counted<D: Store>(
    case: DatabaseCase<D>,
) {
    let id = id();
    case.database.record_failure(CONSUMER, id, 1, "busy").await.expect("record");
    let attempt = case.database.begin_attempt(CONSUMER, id).await.expect("begin attempt");
    assert_eq!(attempt, 2);
}

/// Nor when the reply was lost and it is recorded twice.
pub async fn a_failure_of_an_attempt_that_was_begun_is_not_counted_again<D: Store>(
    case: DatabaseCase<D>,
) {
    let id = id();
    case.database.begin_attempt(CONSUMER, id).await.expect("begin attempt");
    for _ in 0..2 {
        case.database.record_failure(CONSUMER, id, 1, "busy").await.expect("record");
    }
    let attempt = case.second.begin_attempt(CONSUMER, id).await.expect("begin attempt");
    assert_eq!(attempt, 2);
}

/// A person must be able to see everything, and the consumer must not see it again.
pub async fn a_buried_message_is_kept_whole_and_accepted_as_before<D: Store>(
    case: DatabaseCase<D>,
) {
    let messages = edges("orders");
    for message in &messages {
        bury(&case.database, CONSUMER, message, &burial(DeadReason::Rejected)).await;
    }
    let letters = dead(&case.second).await;
    assert_eq!(letters.len(), messages.len());
    for (message, letter) in messages.iter().zip(&letters) {
        assert_letter(message, letter);
        assert_eq!(letter.origin, Origin::Consumer(CONSUMER.into()));
        assert!(!letter.parked, "a consumer's dead letter holds no key");
        let same = case.database.get(&letter.reference).await.expect("get");
        assert_eq!(same.as_ref(), Some(letter), "one by its reference");
        assert!(!is_first(&case.database, CONSUMER, message.id).await);
        assert!(is_first(&case.database, "another", message.id).await);
    }
}

/// Asserts that a dead letter holds the whole message.
pub(crate) fn assert_letter(message: &Message, letter: &DeadLetter) {
    assert_eq!(letter.id, message.id.to_string());
    assert_eq!((&letter.topic, &letter.kind), (&message.topic, &message.kind));
    assert_eq!((&letter.key, &letter.content_type), (&message.key, &message.content_type));
    let equal = letter.payload.as_bytes() == message.payload.as_bytes();
    assert!(equal, "the payload of {}", message.id);
    assert_same_form(&message.payload, &letter.payload);
    assert_eq!(letter.stated_at, Some(message.stated_at));
    for (name, value) in message.headers.iter() {
        assert!(letter.headers.contains(name), "the header {name} in {}", letter.headers);
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric());
        assert!(!plain || letter.headers.contains(value), "the value of {name}");
    }
}

/// Reason, count and history are what a person decides by.
pub async fn a_burial_tells_why_and_what_failed_before<D: Store>(case: DatabaseCase<D>) {
    for reason in DeadReason::ALL {
        let message = keyed("orders", "a", reason.code());
        for attempt in 1..=3 {
            let detail = format!("failure {attempt}");
            let recorded = case.database.record_failure(CONSUMER, message.id, attempt, &detail);
            recorded.await.expect("record");
        }
        bury(&case.database, CONSUMER, &message, &burial(reason)).await;
        let letter = dead(&case.second).await.pop().expect("the last one is this one");
        assert_letter(&message, &letter);
        assert_eq!(letter.reason, reason.code());
        assert_eq!((letter.detail.as_str(), letter.attempts), ("the address does not exist", 5));
        let told: Vec<_> = letter.history.iter().map(|f| (f.attempt, f.detail.as_str())).collect();
        assert_eq!(told[..3], [(1, "failure 1"), (2, "failure 2"), (3, "failure 3")]);
        let first = letter.first_failed_at.expect("there was a first failure");
        assert_eq!(first, letter.history[0].at);
        assert!(letter.dead_at >= first);
    }
}

/// Both or neither.
pub async fn a_burial_is_rolled_back_with_its_transaction<D: Store>(case: DatabaseCase<D>) {
    let message = message("orders");
    case.database.begin_attempt(CONSUMER, message.id).await.expect("begin attempt");
    let mut transaction = case.database.begin().await.expect("begin");
    let connection = D::connection(&mut transaction);
    let why = burial(DeadReason::Exhausted);
    case.database.bury(connection, CONSUMER, &message, &why).await.expect("bury");
    drop(transaction);
    assert_eq!(dead(&case.database).await, []);
    let attempt = case.database.begin_attempt(CONSUMER, message.id).await.expect("attempt");
    assert_eq!(attempt, 2, "its attempts are still counted");
    assert!(is_first(&case.database, CONSUMER, message.id).await);
}

/// A consumer may first see whether it is a duplicate, and then give up on it.
pub async fn a_message_can_be_buried_where_it_was_just_accepted<D: Store>(case: DatabaseCase<D>) {
    let message = message("orders");
    let mut transaction = case.database.begin().await.expect("begin");
    let connection = D::connection(&mut transaction);
    let answers = case.database.accept(connection, CONSUMER, &[message.id]).await.expect("accept");
    assert_eq!(answers, [Acceptance::First]);
    let why = burial(DeadReason::UnknownKind);
    case.database.bury(connection, CONSUMER, &message, &why).await.expect("bury");
    case.database.commit(transaction).await.expect("commit");
    assert_eq!(dead(&case.database).await.len(), 1);
    assert!(!is_first(&case.database, CONSUMER, message.id).await);
}

/// A redelivery that comes while it is buried does not bury it twice.
pub async fn a_message_is_buried_once<D: Store>(case: DatabaseCase<D>) {
    let message = message("orders");
    for database in [&case.database, &case.second, &case.database] {
        bury(database, CONSUMER, &message, &burial(DeadReason::Rejected)).await;
    }
    assert_eq!(dead(&case.database).await.len(), 1);
    bury(&case.database, "another", &message, &burial(DeadReason::Rejected)).await;
    assert_eq!(dead(&case.database).await.len(), 2, "another consumer's is another");
}

/// A repost opens the inbox for this one message and this one time.
pub async fn a_reposted_message_is_first_again_once<D: Store>(case: DatabaseCase<D>) {
    let message = message("orders");
    repost(&case.database, CONSUMER, &message).await;
    let letters = dead(&case.database).await;
    assert!(letters.len() == 1 && letters[0].reposted, "whoever waits can see it: {letters:?}");
    let mut answers = Vec::new();
    for database in [&case.database, &case.second] {
        answers.push(is_first(database, CONSUMER, message.id).await);
    }
    assert_eq!(answers, [true, false]);
    assert_eq!(dead(&case.database).await, [], "it has left the dead letters");
}

/// A process that takes it and dies has not used it up.
pub async fn a_reposted_message_comes_back_until_it_is_accepted<D: Store>(case: DatabaseCase<D>) {
    let messages = edges("orders");
    for message in &messages {
        repost(&case.database, CONSUMER, message).await;
    }
    for database in [&case.database, &case.second] {
        let again = database.reposted(CONSUMER, 100).await.expect("reposted");
        assert_eq!(ids_of(&again), ids_of(&messages));
        for (message, again) in messages.iter().zip(&again) {
            assert_same(message, again);
        }
    }
    let id = messages[0].id;
    let mut transaction = case.database.begin().await.expect("begin");
    let connection = D::connection(&mut transaction);
    case.database.accept(connection, CONSUMER, &[id]).await.expect("accept");
    drop(transaction);
    assert!(reposted(&case.database, CONSUMER).await.contains(&id), "rolled back");
    assert!(is_first(&case.database, CONSUMER, id).await);
    assert!(!reposted(&case.second, CONSUMER).await.contains(&id), "accepted");
}

/// It may fail again, and is then a dead letter as before.
pub async fn a_reposted_message_can_be_buried_again<D: Store>(case: DatabaseCase<D>) {
    let message = message("orders");
    repost(&case.database, CONSUMER, &message).await;
    bury(&case.database, CONSUMER, &message, &burial(DeadReason::Exhausted)).await;
    assert_eq!(reposted(&case.database, CONSUMER).await, []);
    let letters = dead(&case.database).await;
    assert_eq!(letters.len(), 1);
    assert_letter(&message, &letters[0]);
    assert!(!is_first(&case.database, CONSUMER, message.id).await);
}

/// Each consumer has its own list, in the order of the reposts, and takes as much as it can.
pub async fn reposted_messages_are_listed_for_their_consumer_oldest_first<D: Store>(
    case: DatabaseCase<D>,
) {
    let messages: Vec<_> = (0..4).map(|_| message("orders")).collect();
    for (n, message) in messages.iter().enumerate() {
        repost(&case.database, if n == 2 { "another" } else { CONSUMER }, message).await;
    }
    let mine = [messages[0].id, messages[1].id, messages[3].id];
    assert_eq!(reposted(&case.database, CONSUMER).await, mine);
    assert_eq!(reposted(&case.second, "another").await, [messages[2].id]);
    assert_eq!(reposted(&case.second, "nobody").await, []);
    let two = case.database.reposted(CONSUMER, 2).await.expect("reposted");
    assert_eq!(ids_of(&two), mine[..2]);
}

/// A person has repaired something; the old failures do not count.
pub async fn a_reposted_message_starts_with_a_fresh_count<D: Store>(case: DatabaseCase<D>) {
    let message = message("orders");
    for _ in 0..4 {
        case.database.begin_attempt(CONSUMER, message.id).await.expect("begin attempt");
    }
    repost(&case.database, CONSUMER, &message).await;
    let attempt = case.database.begin_attempt(CONSUMER, message.id).await.expect("attempt");
    assert_eq!(attempt, 1);
}

/// The window by age, for one consumer, in steps.
pub async fn ids_older_than_the_window_are_forgotten<D: Store>(case: DatabaseCase<D>) {
    let database = &case.database;
    let ids: Vec<_> = (0..5).map(|_| id()).collect();
    accept(database, CONSUMER, &ids).await;
    accept(database, "another", &ids).await;
    let week = InboxWindow::default();
    assert_eq!(database.prune_inbox(CONSUMER, week, 100).await.expect("prune"), 0);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let short = InboxWindow { age: Duration::from_millis(20), count: None };
    assert_eq!(database.prune_inbox(CONSUMER, short, 3).await.expect("prune"), 3, "a limit");
    assert_eq!(database.prune_inbox(CONSUMER, short, 100).await.expect("prune"), 2, "the rest");
    assert!(is_first(database, CONSUMER, ids[0]).await, "forgotten is new");
    assert!(!is_first(database, "another", ids[0]).await, "only of one consumer");
}

/// The window by count keeps the latest.
pub async fn ids_beyond_the_count_are_forgotten_oldest_first<D: Store>(case: DatabaseCase<D>) {
    let database = &case.database;
    let ids: Vec<_> = (0..6).map(|_| id()).collect();
    for id in &ids {
        accept(database, CONSUMER, &[*id]).await;
        // So that the order of acceptance is the order of a clock that ticks in milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let window = InboxWindow { count: Some(4), ..InboxWindow::default() };
    assert_eq!(database.prune_inbox(CONSUMER, window, 100).await.expect("prune"), 2);
    assert_eq!(database.prune_inbox(CONSUMER, window, 100).await.expect("prune"), 0);
    for (n, id) in ids.iter().enumerate().rev() {
        assert_eq!(is_first(database, CONSUMER, *id).await, n < 2, "number {n} of 6");
    }
}

/// While a person decides, a late duplicate must not take effect.
pub async fn ids_of_dead_letters_are_never_forgotten<D: Store>(case: DatabaseCase<D>) {
    let database = &case.database;
    let message = message("orders");
    bury(database, CONSUMER, &message, &burial(DeadReason::Rejected)).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let window = InboxWindow { age: Duration::from_millis(20), count: Some(0) };
    assert_eq!(database.prune_inbox(CONSUMER, window, 100).await.expect("prune"), 0);
    assert!(!is_first(database, CONSUMER, message.id).await);
    assert_eq!(dead(database).await.len(), 1);
}

/// Dead letters that nobody decides on must not make the inbox forgetful.
pub async fn dead_letters_do_not_count_against_the_window<D: Store>(case: DatabaseCase<D>) {
    let database = &case.database;
    let ids = [id(), id()];
    accept(database, CONSUMER, &ids).await;
    for _ in 0..3 {
        bury(database, CONSUMER, &message("orders"), &burial(DeadReason::Rejected)).await;
    }
    let window = InboxWindow { count: Some(3), ..InboxWindow::default() };
    assert_eq!(database.prune_inbox(CONSUMER, window, 100).await.expect("prune"), 0);
    assert_eq!(accept(database, CONSUMER, &ids).await, [Acceptance::Before; 2]);
}

/// A message that never came again leaves nothing for ever.
pub async fn attempts_older_than_the_window_are_forgotten<D: Store>(case: DatabaseCase<D>) {
    let database = &case.database;
    let id = id();
    for (consumer, expected) in [(CONSUMER, 1), ("another", 1), (CONSUMER, 2)] {
        let attempt = database.begin_attempt(consumer, id).await.expect("begin attempt");
        assert_eq!(attempt, expected);
    }
    let week = InboxWindow::default();
    assert_eq!(database.prune_inbox(CONSUMER, week, 100).await.expect("prune"), 0);
    assert_eq!(database.begin_attempt(CONSUMER, id).await.expect("begin attempt"), 3);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let short = InboxWindow { age: Duration::from_millis(20), count: None };
    assert_eq!(database.prune_inbox(CONSUMER, short, 100).await.expect("prune"), 0, "ids");
    assert_eq!(database.begin_attempt(CONSUMER, id).await.expect("begin attempt"), 1);
    assert_eq!(database.begin_attempt("another", id).await.expect("begin attempt"), 2);
}
