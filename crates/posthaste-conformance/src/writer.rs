//! Laws of the outbox's writing half: a message exists if and only if its transaction committed.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use posthaste_core::{Headers, Lane, Message, MessageId, StoreError};

use crate::case::{DatabaseCase, Store};
use crate::hand::{HandRelay, body, ids, ids_of, state};
use crate::sample::{assert_same, assert_same_form, edges, keyed, message};
use crate::timing::within;

/// Makes a test of every law of writing.
#[macro_export]
macro_rules! writer_suite {
    ($make:ident) => {
        $crate::laws!(
            writer,
            $make(),
            [
                a_committed_message_is_read_byte_for_byte,
                a_transaction_that_is_dropped_states_nothing,
                a_message_is_not_read_before_its_transaction_commits,
                messages_of_one_call_are_read_in_the_order_given,
                enqueueing_nothing_is_no_error,
                thousands_of_messages_in_one_call_all_arrive,
                a_message_over_a_limit_refuses_the_whole_call,
                an_id_that_is_there_already_is_refused,
                an_id_given_twice_in_one_call_is_refused,
                a_transaction_goes_on_after_a_refusal_by_the_limits,
                messages_of_several_calls_in_one_transaction_are_atomic,
                a_message_can_be_stated_without_a_transaction_of_the_caller,
                stating_alone_refuses_what_breaks_a_limit,
                dropping_begin_at_any_poll_leaves_no_connection_in_a_transaction,
                dropping_enqueue_and_commit_at_any_poll_states_all_or_nothing,
            ]
        );
    };
}

async fn all_ids<D: Store>(database: &D) -> Vec<MessageId> {
    ids(&HandRelay::start(database).await.new_entries().await.0)
}

/// Whatever a message may hold comes out as it went in.
pub async fn a_committed_message_is_read_byte_for_byte<D: Store>(case: DatabaseCase<D>) {
    let stated = edges("orders");
    state(&case.database, &stated).await;
    let (entries, _) = HandRelay::start(&case.second).await.new_entries().await;
    assert_eq!(ids(&entries), ids_of(&stated));
    for (message, entry) in stated.iter().zip(&entries) {
        let read = body(entry);
        assert_same(message, read);
        assert_same_form(&message.payload, &read.payload);
        assert_eq!(read.stated_at, message.stated_at, "when {} was stated", message.id);
        assert_eq!((entry.attempts, entry.due_in, entry.blocked), (0, None, false));
    }
}

/// Rolled back means that it never was.
pub async fn a_transaction_that_is_dropped_states_nothing<D: Store>(case: DatabaseCase<D>) {
    let database = &case.database;
    let mut transaction = database.begin().await.expect("begin");
    let lost = [message("orders"), message("orders")];
    database.enqueue(D::connection(&mut transaction), &lost).await.expect("enqueue");
    drop(transaction);
    let kept = [message("orders")];
    state(database, &kept).await;
    assert_eq!(all_ids(database).await, ids_of(&kept));
    assert_eq!(all_ids(&case.second).await, ids_of(&kept));
}

/// Nothing uncommitted is ever read, through any handle.
pub async fn a_message_is_not_read_before_its_transaction_commits<D: Store>(case: DatabaseCase<D>) {
    let early = HandRelay::start(&case.database).await;
    let mut transaction = case.database.begin().await.expect("begin");
    let stated = [keyed("orders", "a", "1")];
    case.database.enqueue(D::connection(&mut transaction), &stated).await.expect("enqueue");
    assert_eq!(ids(&early.new_entries().await.0), vec![]);
    let other = Lane::whole("other");
    let from = case.second.checkpoint(&other).await.expect("checkpoint");
    let batch = case.second.read(&other, &from, crate::hand::ALL).await.expect("read");
    assert_eq!(ids(&batch.entries), vec![]);
    case.database.commit(transaction).await.expect("commit");
    assert_eq!(ids(&early.new_entries().await.0), ids_of(&stated));
}

/// The order of one call is the order of sending.
pub async fn messages_of_one_call_are_read_in_the_order_given<D: Store>(case: DatabaseCase<D>) {
    let mut stated: Vec<Message> =
        (0..50).map(|n| keyed("orders", "one", &n.to_string())).collect();
    stated.reverse();
    state(&case.database, &stated).await;
    assert_eq!(all_ids(&case.database).await, ids_of(&stated));
}

/// An empty list is a list.
pub async fn enqueueing_nothing_is_no_error<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &[]).await;
    assert_eq!(all_ids(&case.database).await, vec![]);
}

/// No number of messages breaks a driver's limit on parameters.
pub async fn thousands_of_messages_in_one_call_all_arrive<D: Store>(case: DatabaseCase<D>) {
    let stated: Vec<Message> =
        (0..5000).map(|n| keyed("orders", &format!("k{}", n % 7), "{}")).collect();
    state(&case.database, &stated).await;
    assert_eq!(all_ids(&case.database).await, ids_of(&stated));
}

fn over_the_limits(payload: usize) -> Vec<Message> {
    let with = |change: &dyn Fn(&mut Message)| {
        let mut bad = message("orders");
        change(&mut bad);
        bad
    };
    vec![
        with(&|m| m.topic = String::new()),
        with(&|m| m.topic = "t".repeat(201)),
        with(&|m| m.topic = "with space".into()),
        with(&|m| m.kind = "ünïcode".into()),
        with(&|m| m.kind = "a\nb".into()),
        with(&|m| m.key = Some(String::new())),
        with(&|m| m.key = Some("k".repeat(64 * 1024))),
        with(&|m| m.key = Some("a\0b".into())),
        with(&|m| m.headers = Headers::from_iter([("Upper", "v")])),
        with(&|m| m.headers = Headers::from_iter([("name", "a\r\nb: c")])),
        with(&|m| m.headers = Headers::from_iter([("name", "a\0b")])),
        with(&|m| m.headers = (0..65).map(|n| (format!("h{n}"), "v")).collect()),
        with(&|m| m.headers = Headers::from_iter([("large", "v".repeat(33 * 1024))])),
        with(&|m| m.content_type = Some("text/plain\r\nx: y".into())),
        with(&|m| m.payload = vec![0; payload + 1].into()),
    ]
}

/// One bad message and none of the call is written, whatever limit it breaks.
pub async fn a_message_over_a_limit_refuses_the_whole_call<D: Store>(case: DatabaseCase<D>) {
    let database = &case.database;
    for bad in over_the_limits(database.limits().payload()) {
        let mut transaction = database.begin().await.expect("begin");
        let call = [message("orders"), bad, message("orders")];
        let refused = database.enqueue(D::connection(&mut transaction), &call).await;
        let is_rejected = matches!(refused, Err(StoreError::Rejected { .. }));
        assert!(is_rejected, "{:?} gave {refused:?}", call[1]);
        database.commit(transaction).await.expect("commit");
    }
    assert_eq!(all_ids(database).await, vec![]);
}

/// An id is stated once, by a database that says so; any other takes it, and nothing is lost.
pub async fn an_id_that_is_there_already_is_refused<D: Store>(case: DatabaseCase<D>) {
    let first = message("orders");
    state(&case.database, std::slice::from_ref(&first)).await;
    let mut again = message("invoices");
    again.id = first.id;
    let mut transaction = case.second.begin().await.expect("begin");
    let answer = case.second.enqueue(D::connection(&mut transaction), &[again]).await;
    if D::UNIQUE_IDS {
        assert!(matches!(answer, Err(StoreError::Rejected { .. })), "{answer:?}");
        drop(transaction);
        assert_eq!(all_ids(&case.second).await, vec![first.id]);
    } else {
        answer.expect("an id that is there already is no error here");
        case.second.commit(transaction).await.expect("commit");
        assert_eq!(all_ids(&case.second).await, vec![first.id, first.id]);
    }
}

/// Also not twice in one breath.
pub async fn an_id_given_twice_in_one_call_is_refused<D: Store>(case: DatabaseCase<D>) {
    let first = message("orders");
    let call = [first.clone(), first];
    let mut transaction = case.database.begin().await.expect("begin");
    let refused = case.database.enqueue(D::connection(&mut transaction), &call).await;
    assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{refused:?}");
    drop(transaction);
    assert_eq!(all_ids(&case.database).await, vec![]);
}

/// A limit is looked at before anything is written, so the transaction is as good as before.
pub async fn a_transaction_goes_on_after_a_refusal_by_the_limits<D: Store>(case: DatabaseCase<D>) {
    let database = &case.database;
    let mut transaction = database.begin().await.expect("begin");
    let (one, two) = (message("orders"), message("orders"));
    let kept = vec![one.id, two.id];
    let mut bad = message("orders");
    bad.kind = "not a kind".into();
    let connection = D::connection(&mut transaction);
    database.enqueue(connection, &[one]).await.expect("enqueue");
    assert!(database.enqueue(connection, &[bad]).await.is_err());
    database.enqueue(connection, &[two]).await.expect("the transaction still works");
    database.commit(transaction).await.expect("commit");
    assert_eq!(all_ids(database).await, kept);
}

/// A transaction is one, however many calls it holds.
pub async fn messages_of_several_calls_in_one_transaction_are_atomic<D: Store>(
    case: DatabaseCase<D>,
) {
    let database = &case.database;
    let stated: Vec<Message> = (0..6).map(|_| message("orders")).collect();
    for committed in [false, true] {
        let mut transaction = database.begin().await.expect("begin");
        for call in stated.chunks(2) {
            database.enqueue(D::connection(&mut transaction), call).await.expect("enqueue");
        }
        if committed {
            database.commit(transaction).await.expect("commit");
        }
    }
    assert_eq!(all_ids(database).await, ids_of(&stated));
}

/// `enqueue_alone` is a transaction of its own.
pub async fn a_message_can_be_stated_without_a_transaction_of_the_caller<D: Store>(
    case: DatabaseCase<D>,
) {
    let stated = edges("orders");
    case.database.enqueue_alone(&stated).await.expect("enqueue alone");
    case.database.enqueue_alone(&[]).await.expect("nothing alone");
    let (entries, _) = HandRelay::start(&case.second).await.new_entries().await;
    assert_eq!(ids(&entries), ids_of(&stated));
    for (message, entry) in stated.iter().zip(&entries) {
        assert_same(message, body(entry));
    }
}

/// The limits hold on every way in.
pub async fn stating_alone_refuses_what_breaks_a_limit<D: Store>(case: DatabaseCase<D>) {
    let mut bad = message("orders");
    bad.key = Some(String::new());
    let refused = case.database.enqueue_alone(&[message("orders"), bad]).await;
    assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{refused:?}");
    assert_eq!(all_ids(&case.database).await, vec![]);
}

/// Polls a future `times` times at most; `None` if it was dropped before its end.
async fn poll_at_most<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = std::future::poll_fn(|context: &mut Context<'_>| {
            Poll::Ready(future.as_mut().poll(context))
        });
        if let Poll::Ready(output) = polled.await {
            return Some(output);
        }
        // Gives a driver's own threads the time to get on, so that later polls find progress.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

/// A begin that is given up half-way must not leave a connection that swallows later work.
pub async fn dropping_begin_at_any_poll_leaves_no_connection_in_a_transaction<D: Store>(
    case: DatabaseCase<D>,
) {
    let database = &case.database;
    let mut stated = Vec::new();
    for times in 0..24 {
        drop(poll_at_most(times, database.begin()).await);
        let next = message("orders");
        stated.push(next.id);
        within("a message can be stated after a dropped begin", state(database, &[next])).await;
        let mut seen = all_ids(&case.second).await;
        seen.sort_unstable();
        assert_eq!(seen, stated, "after a begin dropped at poll {times}");
    }
}

/// What is given up half-way happened wholly or not at all, and the database goes on.
pub async fn dropping_enqueue_and_commit_at_any_poll_states_all_or_nothing<D: Store>(
    case: DatabaseCase<D>,
) {
    let database = &case.database;
    let mut pairs = Vec::new();
    let mut certain = Vec::new();
    for times in 0..24 {
        let pair = [message("orders"), message("orders")];
        pairs.push(ids_of(&pair));
        let mut transaction = database.begin().await.expect("begin");
        let written =
            poll_at_most(times, database.enqueue(D::connection(&mut transaction), &pair)).await;
        if !matches!(written, Some(Ok(()))) {
            drop(transaction);
            continue;
        }
        if let Some(Ok(())) = poll_at_most(times, database.commit(transaction)).await {
            certain.extend(ids_of(&pair));
        }
    }
    let last = [message("orders")];
    within("a message can be stated at the end", state(database, &last)).await;
    let seen = all_ids(&case.second).await;
    assert!(seen.contains(&last[0].id), "the last message is there");
    for pair in pairs {
        let there = pair.iter().filter(|id| seen.contains(id)).count();
        assert!(there == 0 || there == 2, "a transaction was committed by half: {pair:?}");
    }
    assert!(certain.iter().all(|id| seen.contains(id)), "what was committed is there");
}
