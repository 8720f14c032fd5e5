//! Laws of the outbox's reading half: following the checkpoints reads every committed entry once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use posthaste_core::outbox::{Entry, ReadLimit};
use posthaste_core::retry::Jitter;
use posthaste_core::{Checkpoint, Message, MessageId};

use crate::case::{DatabaseCase, Store};
use crate::hand::{ALL, body, ids, ids_of, lane, state};
use crate::sample::{keyed, message, now};
use crate::timing::WATCH;

/// Makes a test of every law of reading.
#[macro_export]
macro_rules! outbox_suite {
    ($make:ident) => {
        $crate::laws!(
            outbox,
            $make(),
            [
                an_empty_outbox_gives_an_empty_batch,
                following_the_checkpoints_reads_every_entry_exactly_once,
                a_batch_says_whether_there_is_more,
                the_byte_limit_cuts_a_batch_but_never_to_nothing,
                reading_the_same_checkpoint_again_reads_the_same,
                two_handles_read_the_same,
                what_commits_late_is_read_and_nothing_is_read_twice,
                concurrent_writers_lose_and_double_nothing_and_keep_their_order,
                an_entry_before_its_time_says_how_long_it_waits,
                a_time_in_the_past_is_due,
                a_commit_is_signalled,
                a_commit_through_another_handle_is_signalled,
                a_wake_is_signalled,
                a_signal_is_not_lost_when_its_future_is_dropped,
            ]
        );
    };
}

/// A hint that comes later than this is of no use.
const SIGNALLED: Duration = Duration::from_secs(5);

/// Follows the checkpoints from `from` until there is no more.
async fn follow<D: Store>(
    database: &D,
    from: Checkpoint,
    limit: ReadLimit,
) -> (Vec<Entry>, Checkpoint) {
    let (mut entries, mut checkpoint) = (Vec::new(), from);
    loop {
        let batch = database.read(&lane(), &checkpoint, limit).await.expect("read");
        let nothing = batch.entries.is_empty();
        assert!(batch.entries.len() <= limit.messages, "a batch keeps its limit");
        entries.extend(batch.entries);
        checkpoint = batch.checkpoint;
        if !batch.more {
            return (entries, checkpoint);
        }
        assert!(!nothing, "a batch that is cut short holds at least one entry");
    }
}

/// Nothing there is no error, and the checkpoint it gives can be read from.
pub async fn an_empty_outbox_gives_an_empty_batch<D: Store>(case: DatabaseCase<D>) {
    let start = case.database.checkpoint(&lane()).await.expect("checkpoint");
    assert!(start.is_start(), "a destination that nothing was settled for is at the start");
    let (none, checkpoint) = follow(&case.database, start, ALL).await;
    assert_eq!(ids(&none), vec![]);
    let stated = [message("orders")];
    state(&case.database, &stated).await;
    let (entries, _) = follow(&case.database, checkpoint, ALL).await;
    assert_eq!(ids(&entries), ids_of(&stated));
}

/// Whatever the limit, the batches together are the outbox.
pub async fn following_the_checkpoints_reads_every_entry_exactly_once<D: Store>(
    case: DatabaseCase<D>,
) {
    let mut stated = Vec::new();
    for size in [1, 4, 1, 13, 2, 20] {
        let call: Vec<Message> = (0..size).map(|_| message("orders")).collect();
        state(&case.database, &call).await;
        stated.extend(ids_of(&call));
    }
    for messages in [1, 2, 3, 7, 40, 41, 42, 1000] {
        let limit = ReadLimit { messages, bytes: ALL.bytes };
        let (entries, end) = follow(&case.database, Checkpoint::start(), limit).await;
        assert_eq!(ids(&entries), stated, "with a limit of {messages}");
        let (after, _) = follow(&case.database, end, limit).await;
        assert_eq!(ids(&after), vec![], "past the end with a limit of {messages}");
        let positions: BTreeSet<_> = entries.iter().map(|entry| &entry.position).collect();
        assert_eq!(positions.len(), entries.len(), "every entry has a position of its own");
    }
}

/// `more` tells a reader to go on at once; it must be true when something was left out.
pub async fn a_batch_says_whether_there_is_more<D: Store>(case: DatabaseCase<D>) {
    state(&case.database, &[message("orders"), message("orders"), message("orders")]).await;
    let cut = ReadLimit { messages: 2, bytes: ALL.bytes };
    let batch = case.database.read(&lane(), &Checkpoint::start(), cut).await.expect("read");
    assert!(batch.more && batch.entries.len() == 2, "two of three were read");
    let rest = case.database.read(&lane(), &batch.checkpoint, cut).await.expect("read");
    assert!(!rest.more && rest.entries.len() == 1, "the third was read");
}

/// Bytes bound memory; one entry is always read, or a large one would stop the outbox.
pub async fn the_byte_limit_cuts_a_batch_but_never_to_nothing<D: Store>(case: DatabaseCase<D>) {
    let stated: Vec<Message> = (0..6).map(|_| keyed("orders", "k", &"x".repeat(100_000))).collect();
    state(&case.database, &stated).await;
    let limit = ReadLimit { messages: 100, bytes: 250_000 };
    let batch = case.database.read(&lane(), &Checkpoint::start(), limit).await.expect("read");
    let count = batch.entries.len();
    assert!((2..=4).contains(&count) && batch.more, "{count} entries for 250 kB of 600 kB");
    let tiny = ReadLimit { messages: 100, bytes: 1 };
    let (entries, _) = follow(&case.database, Checkpoint::start(), tiny).await;
    assert_eq!(ids(&entries), ids_of(&stated));
}

/// Reading changes nothing: a relay that dies after reading has lost nothing.
pub async fn reading_the_same_checkpoint_again_reads_the_same<D: Store>(case: DatabaseCase<D>) {
    let stated = [message("orders"), keyed("orders", "a", "1")];
    state(&case.database, &stated).await;
    for _ in 0..3 {
        let (entries, _) = follow(&case.database, Checkpoint::start(), ALL).await;
        assert_eq!(ids(&entries), ids_of(&stated));
    }
}

/// The outbox is in the database, not in a process; a checkpoint means the same to all.
pub async fn two_handles_read_the_same<D: Store>(case: DatabaseCase<D>) {
    let (one, two) = ([message("orders")], [message("orders")]);
    state(&case.database, &one).await;
    let (entries, checkpoint) = follow(&case.second, Checkpoint::start(), ALL).await;
    assert_eq!(ids(&entries), ids_of(&one));
    state(&case.second, &two).await;
    let (entries, _) = follow(&case.database, checkpoint, ALL).await;
    assert_eq!(ids(&entries), ids_of(&two));
}

/// A transaction that is overtaken is not skipped. Where a database lets only one transaction
/// write, the second one simply comes after the first.
pub async fn what_commits_late_is_read_and_nothing_is_read_twice<D: Store>(case: DatabaseCase<D>) {
    let (early, late) = (&case.database, &case.second);
    let (overtaken, overtaking) = ([message("orders")], [message("orders")]);
    let mut slow = early.begin().await.expect("begin");
    early.enqueue(D::connection(&mut slow), &overtaken).await.expect("enqueue");
    let quick = tokio::time::timeout(WATCH, state(late, &overtaking)).await;
    let (mut entries, checkpoint) = follow(late, Checkpoint::start(), ALL).await;
    if quick.is_ok() {
        assert_eq!(ids(&entries), ids_of(&overtaking), "what is committed is read");
    }
    early.commit(slow).await.expect("commit");
    let (rest, _) = follow(late, checkpoint, ALL).await;
    entries.extend(rest);
    let mut read = ids(&entries);
    read.sort_unstable();
    // Where the second writer had to wait and was given up, it may or may not have come through.
    if quick.is_err() {
        read.retain(|id| *id != overtaking[0].id);
        assert_eq!(read, ids_of(&overtaken));
    } else {
        let mut both = [ids_of(&overtaken), ids_of(&overtaking)].concat();
        both.sort_unstable();
        assert_eq!(read, both);
    }
}

/// What a writer task did: its committed ids by key, in the order of its commits.
type Committed = BTreeMap<String, Vec<MessageId>>;

async fn write_randomly<D: Store>(database: Arc<D>, writer: u64) -> Committed {
    let mut jitter = Jitter::new(writer);
    let mut committed = Committed::new();
    for round in 0..25u64 {
        let key = format!("w{writer}-{}", jitter.draw() % 2);
        let call: Vec<Message> = (0..=jitter.draw() % 3)
            .map(|n| keyed("orders", &key, &format!("{round}.{n}")))
            .collect();
        let mut transaction = database.begin().await.expect("begin");
        database.enqueue(D::connection(&mut transaction), &call).await.expect("enqueue");
        if jitter.draw().is_multiple_of(3) {
            tokio::time::sleep(Duration::from_millis(jitter.draw() % 8)).await;
        }
        if jitter.draw().is_multiple_of(4) {
            drop(transaction);
            continue;
        }
        database.commit(transaction).await.expect("commit");
        committed.entry(key).or_default().extend(ids_of(&call));
    }
    committed
}

/// Writers with long transactions and rollbacks, and a reader that follows meanwhile.
pub async fn concurrent_writers_lose_and_double_nothing_and_keep_their_order<D: Store>(
    case: DatabaseCase<D>,
) {
    let (writing, reading) = (Arc::new(case.database), Arc::new(case.second));
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (done, reading) = (done.clone(), reading.clone());
        async move {
            let (mut read, mut checkpoint) = (Vec::new(), Checkpoint::start());
            let limit = ReadLimit { messages: 5, bytes: ALL.bytes };
            loop {
                let last = done.load(Ordering::SeqCst);
                let (entries, next) = follow(&*reading, checkpoint, limit).await;
                read.extend(ids(&entries));
                checkpoint = next;
                if last {
                    return read;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let writers: Vec<_> =
        (1..=6).map(|writer| tokio::spawn(write_randomly(writing.clone(), writer))).collect();
    let mut committed = Committed::new();
    for writer in writers {
        committed.extend(writer.await.expect("a writer ends"));
    }
    done.store(true, Ordering::SeqCst);
    let read = reader.await.expect("the reader ends");
    let places: BTreeMap<_, _> = read.iter().enumerate().map(|(n, id)| (*id, n)).collect();
    assert_eq!(places.len(), read.len(), "no entry is read twice");
    let all: BTreeSet<_> = committed.values().flatten().copied().collect();
    let seen: BTreeSet<_> = read.iter().copied().collect();
    assert_eq!(seen.difference(&all).count(), 0, "nothing is read that was not committed");
    assert_eq!(all.difference(&seen).count(), 0, "everything that was committed is read");
    for (key, stated) in committed {
        let order: Vec<_> = stated.iter().map(|id| places[id]).collect();
        assert!(order.is_sorted(), "the order of {key}: {order:?}");
    }
}

/// A due time is kept by the database, and told as a wait so that clocks need not agree.
pub async fn an_entry_before_its_time_says_how_long_it_waits<D: Store>(case: DatabaseCase<D>) {
    let mut later = message("orders");
    later.due_at = Some(now().plus(Duration::from_secs(3600)));
    state(&case.database, &[later.clone(), message("orders")]).await;
    let (entries, _) = follow(&case.database, Checkpoint::start(), ALL).await;
    let wait = entries[0].due_in.expect("it is not due");
    assert!((3500..=3700).contains(&wait.as_secs()), "about an hour is left: {wait:?}");
    assert_eq!(body(&entries[0]).due_at, later.due_at, "the time it was given");
    assert_eq!(entries[1].due_in, None);
}

/// A due time that is over holds nothing back.
pub async fn a_time_in_the_past_is_due<D: Store>(case: DatabaseCase<D>) {
    let mut past = message("orders");
    past.due_at = Some(posthaste_core::Timestamp::from_millis(1_000));
    state(&case.database, &[past]).await;
    let (entries, _) = follow(&case.database, Checkpoint::start(), ALL).await;
    assert_eq!(entries[0].due_in, None);
}

/// Takes the hints that are there already, so that the next one is a new one.
async fn quiet<D: Store>(database: &D) {
    while tokio::time::timeout(WATCH, database.changed()).await.is_ok() {}
}

async fn assert_signalled<D: Store>(what: &str, database: &D) {
    let signalled = tokio::time::timeout(SIGNALLED, database.changed()).await;
    assert!(signalled.is_ok(), "not signalled within {SIGNALLED:?}: {what}");
}

/// An embedded relay learns of a commit at once.
pub async fn a_commit_is_signalled<D: Store>(case: DatabaseCase<D>) {
    quiet(&case.database).await;
    state(&case.database, &[message("orders")]).await;
    assert_signalled("a commit is signalled", &case.database).await;
}

/// A relay in another process learns of it too.
pub async fn a_commit_through_another_handle_is_signalled<D: Store>(case: DatabaseCase<D>) {
    quiet(&case.database).await;
    state(&case.second, &[message("orders")]).await;
    assert_signalled("a commit through another handle is signalled", &case.database).await;
}

/// Whoever knows better than the database can say so.
pub async fn a_wake_is_signalled<D: Store>(case: DatabaseCase<D>) {
    quiet(&case.database).await;
    case.database.wake();
    assert_signalled("a wake is signalled", &case.database).await;
}

/// A select that takes another branch must not eat the hint.
pub async fn a_signal_is_not_lost_when_its_future_is_dropped<D: Store>(case: DatabaseCase<D>) {
    quiet(&case.database).await;
    for _ in 0..5 {
        let waiting = tokio::time::timeout(Duration::from_millis(1), case.database.changed());
        drop(waiting.await);
    }
    state(&case.database, &[message("orders")]).await;
    {
        let mut waiting = std::pin::pin!(case.database.changed());
        let first = std::future::poll_fn(|context| {
            std::task::Poll::Ready(waiting.as_mut().poll(context).is_ready())
        });
        if first.await {
            return;
        }
    }
    assert_signalled("the hint is still there", &case.database).await;
}
