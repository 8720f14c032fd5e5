//! What the conformance suites cannot see: paused time, transactions that overlap, deadlocks.

use std::time::Duration;

use posthaste_core::broker::{Broker, Subscription};
use posthaste_core::inbox::{Acceptance, Inbox};
use posthaste_core::lease::{Claim, Leases};
use posthaste_core::outbox::{OutboxReader, ReadLimit};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{BrokerError, Checkpoint, Lane, Message, MessageId, Outcome, Timestamp};

use super::{MemoryBroker, MemoryDatabase};

const ALL: ReadLimit = ReadLimit { messages: 100, bytes: usize::MAX };
const HOUR: Duration = Duration::from_hours(1);

fn message(number: u8) -> Message {
    let at = Timestamp::from_millis(1_700_000_000_000);
    let mut message = Message::new(MessageId::v7(at, [number; 10]), "orders", "placed", "{}", at);
    message.key = Some("a".into());
    message
}

async fn read(database: &MemoryDatabase, from: &Checkpoint) -> (Vec<MessageId>, Checkpoint) {
    let batch = database.read(&Lane::whole("default"), from, ALL).await.unwrap();
    let ids = batch.entries.iter().map(|entry| entry.body.as_ref().unwrap().id).collect();
    (ids, batch.checkpoint)
}

#[tokio::test(start_paused = true)]
async fn an_hour_passes_in_an_instant() {
    let start = Timestamp::from_millis(1_700_000_000_000);
    let database = MemoryDatabase::starting_at(start);
    let mut later = message(1);
    later.due_at = Some(start.plus(HOUR));
    let mut tx = database.begin().await.unwrap();
    database.enqueue(&mut tx, &[later]).await.unwrap();
    database.commit(tx).await.unwrap();
    let due_in = async || {
        let batch =
            database.read(&Lane::whole("default"), &Checkpoint::start(), ALL).await.unwrap();
        batch.entries[0].due_in
    };
    assert_eq!(due_in().await, Some(HOUR));
    let claim = database.acquire("lease", "one", HOUR).await.unwrap();
    assert!(matches!(claim, Claim::Granted(_)));
    tokio::time::advance(HOUR - Duration::from_secs(1)).await;
    assert_eq!(due_in().await, Some(Duration::from_secs(1)));
    let held = Claim::Held { by: "one".into(), remaining: Duration::from_secs(1) };
    assert_eq!(database.acquire("lease", "two", HOUR).await.unwrap(), held);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(due_in().await, None);
    assert_eq!(database.now(), start.plus(HOUR));
    assert!(matches!(
        database.acquire("lease", "two", HOUR).await.unwrap(),
        Claim::Granted(lease) if lease.token == 2
    ));
}

#[tokio::test]
async fn numbers_are_drawn_when_stated_and_seen_when_committed() {
    let database = MemoryDatabase::new();
    let (mut early, mut late) = (message(1), message(2));
    early.key = Some("early".into());
    late.key = Some("late".into());
    let mut slow = database.begin().await.unwrap();
    database.enqueue(&mut slow, std::slice::from_ref(&early)).await.unwrap();
    let mut quick = database.begin().await.unwrap();
    database.enqueue(&mut quick, std::slice::from_ref(&late)).await.unwrap();
    database.commit(quick).await.unwrap();
    let (ids, checkpoint) = read(&database, &Checkpoint::start()).await;
    assert_eq!(ids, [late.id], "the higher number is there first");
    database.commit(slow).await.unwrap();
    let (ids, checkpoint) = read(&database, &checkpoint).await;
    assert_eq!(ids, [early.id], "the lower one is not skipped");
    assert_eq!(read(&database, &checkpoint).await.0, []);
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_waits_for_the_one_that_is_under_way() {
    let database = MemoryDatabase::new();
    for (committed, expected) in [(false, Acceptance::First), (true, Acceptance::Before)] {
        let id = message(u8::from(committed)).id;
        let mut first = database.begin().await.unwrap();
        database.accept(&mut first, "mailer", &[id]).await.unwrap();
        let other = database.clone();
        let waiting = tokio::spawn(async move {
            let mut second = other.begin().await.unwrap();
            let answers = other.accept(&mut second, "mailer", &[id]).await.unwrap();
            other.commit(second).await.unwrap();
            answers[0]
        });
        tokio::time::sleep(HOUR).await;
        assert!(!waiting.is_finished(), "it must not guess");
        if committed {
            database.commit(first).await.unwrap();
        } else {
            drop(first);
        }
        assert_eq!(waiting.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn of_two_transactions_that_wait_for_each_other_one_is_told_to_try_again() {
    let database = MemoryDatabase::new();
    let (one, two) = (message(1).id, message(2).id);
    let mut first = database.begin().await.unwrap();
    database.accept(&mut first, "mailer", &[one]).await.unwrap();
    let other = database.clone();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let waiting = tokio::spawn(async move {
        let mut second = other.begin().await.unwrap();
        other.accept(&mut second, "mailer", &[two]).await.unwrap();
        ready.send(()).unwrap();
        let result = other.accept(&mut second, "mailer", &[one]).await;
        (result, second)
    });
    is_ready.await.unwrap();
    let here = database.accept(&mut first, "mailer", &[two]).await;
    drop(first);
    let (there, second) = waiting.await.unwrap();
    drop(second);
    let told = [here.as_ref().err(), there.as_ref().err()];
    let told: Vec<_> = told.into_iter().flatten().collect();
    assert!(told.len() == 1 && told[0].is_transient(), "{here:?} {there:?}");
}

#[tokio::test]
async fn what_the_application_records_is_as_atomic_as_its_messages() {
    let database = MemoryDatabase::new();
    for committed in [false, true] {
        let mut tx = database.begin().await.unwrap();
        tx.record("credited");
        database.enqueue(&mut tx, &[message(1)]).await.unwrap();
        database.accept(&mut tx, "ledger", &[message(9).id]).await.unwrap();
        if committed {
            database.commit(tx).await.unwrap();
        }
    }
    assert_eq!(database.records(), ["credited"]);
    assert_eq!(database.messages().len(), 1);
    assert_eq!(database.accepted("ledger"), [message(9).id]);
}

#[tokio::test]
async fn a_row_that_is_not_a_message_is_read_as_malformed() {
    let database = MemoryDatabase::new();
    database.insert_malformed("the topic is empty").unwrap();
    let batch = database.read(&Lane::whole("default"), &Checkpoint::start(), ALL).await.unwrap();
    assert_eq!(batch.entries[0].body.as_ref().unwrap_err().detail, "the topic is empty");
    assert!(database.messages().is_empty());
}

#[tokio::test(start_paused = true)]
async fn locks_and_delays_of_the_broker_follow_paused_time() {
    let broker = MemoryBroker::new().with_lock(HOUR);
    let mut subscriber = broker.subscriber(&Subscription::new("orders", "one")).await.unwrap();
    let outcomes = broker.publisher().publish(&[message(1)]).await.unwrap();
    assert!(matches!(outcomes[..], [Outcome::Accepted(_)]));
    let held = subscriber.receive(10).await.unwrap().swap_remove(0);
    tokio::time::advance(HOUR).await;
    let again = subscriber.receive(10).await.unwrap().swap_remove(0);
    assert_eq!((again.attempt, again.lock), (2, Some(HOUR)));
    assert!(matches!(held.complete().await, Err(BrokerError::LockLost)));
    let start = tokio::time::Instant::now();
    again.retry(HOUR * 5).await.unwrap();
    let last = subscriber.receive(10).await.unwrap().swap_remove(0);
    assert_eq!(start.elapsed(), HOUR * 5);
    last.dead_letter("rejected", "no").await.unwrap();
    let dead = broker.dead_letters("orders", "one");
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "rejected"));
    assert!(broker.unsettled("orders", "one").is_empty());
    assert_eq!(broker.published("orders").len(), 1);
}

#[tokio::test]
async fn a_deferred_message_can_be_looked_at() {
    let broker = MemoryBroker::new();
    let mut subscriber = broker.subscriber(&Subscription::new("orders", "one")).await.unwrap();
    broker.publisher().publish(&[message(1), message(2)]).await.unwrap();
    subscriber.receive(1).await.unwrap().swap_remove(0).defer().await.unwrap();
    assert_eq!(broker.deferred("orders", "one"), [message(1)]);
    assert_eq!(broker.unsettled("orders", "one"), [message(2)]);
}

#[tokio::test]
async fn a_subscription_with_a_name_that_is_none_is_refused() {
    let broker = MemoryBroker::new();
    for (topic, name) in [("", "one"), ("orders", "with space"), ("a\nb", "one")] {
        let refused = broker.subscriber(&Subscription::new(topic, name)).await;
        assert!(matches!(refused.err(), Some(BrokerError::Rejected { .. })), "{topic} {name}");
    }
}
