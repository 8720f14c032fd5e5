//! Futures that are dropped at every point where they wait: nothing is lost or torn, and no
//! connection goes back to the pool inside a transaction.

use std::future::{Future, pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use posthaste::core::database::{EntryFilter, Monitor, Schema, Upkeep};
use posthaste::core::dead_letter::{DeadFilter, DeadLetters};
use posthaste::core::inbox::{Attempts, Burial, Inbox, InboxUpkeep, InboxWindow};
use posthaste::core::lease::{Claim, Lease, Leases};
use posthaste::core::outbox::{OutboxReader, ReadLimit, Settlement, Signal};
use posthaste::core::transaction::Transactional;
use posthaste::core::verdict::DeadReason;
use posthaste::core::{Broker, Checkpoint, Lane};
use posthaste::testing::fault::{Call, FaultyBroker, FaultyDatabase, Strike, When};
use posthaste::{Draft, Relay, Subscription};
use posthaste_proof::chance::Chance;
use posthaste_proof::node::{Consuming, Relaying, consume, relay};
use posthaste_proof::shop::{Behaviour, Order, TILL};
use posthaste_proof::{Failure, World};
use posthaste_sqlite::Sqlite;
use sqlx::Executor;
use tokio::sync::Notify;

use crate::inside::{Inside, all_connections};
use posthaste_proof::rig::{PATIENCE, order, place, world};

/// No call waits more often than this.
const POLLS: usize = 400;
/// At how many points a loop is dropped.
const CUTS: usize = 90;
/// How long a loop may take to get to the point where it is dropped.
const ROUND: Duration = Duration::from_millis(400);

/// Polls a future so often and then drops it.
async fn cut<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(move |context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Drops what `make` makes at its first wait, then another at its second, and so on until one
/// comes to its end; looks at all connections each time.
async fn at_every_poll<F: Future>(world: &World, what: &str, make: impl Fn() -> F) {
    for polls in 1..=POLLS {
        let done = cut(polls, make()).await.is_some();
        assert_clean(world, &format!("{what}, dropped after {polls} polls")).await;
        if done {
            return;
        }
    }
    panic!("{what} is not done after {POLLS} polls");
}

/// No connection of the pool is inside a transaction, and none holds a lock.
async fn assert_clean(world: &World, when: &str) {
    let mut connections = all_connections(world).await.expect("the pool is whole");
    for connection in &mut connections {
        let begun = (&mut **connection).execute("begin").await;
        begun.unwrap_or_else(|error| panic!("a connection in a transaction: {when}: {error}"));
        (&mut **connection).execute("rollback").await.expect("a transaction to roll back");
    }
    let first = connections.first_mut().expect("a pool with connections");
    (&mut **first).execute("begin immediate").await.expect("nobody holds the lock");
    (&mut **first).execute("rollback").await.expect("a transaction to roll back");
}

fn orders(count: i64) -> Vec<Order> {
    (0..count).map(|n| order(&format!("customer {}", n % 5), n, Behaviour::Good, "")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placing_orders_dropped_at_every_poll_is_done_wholly_or_not_at_all() -> Result<(), Failure>
{
    let world = world(&Chance::from_environment(81)).await?;
    let three = orders(3);
    at_every_poll(&world, "a transaction with messages", || place(&world, &three)).await;
    let outbox = posthaste::Outbox::new(world.database.clone());
    at_every_poll(&world, "begin", || outbox.begin()).await;
    goes_on(&world).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    assert!(truth.report.counts.committed > 0, "the last one was not dropped");
    world.remove()
}

/// Its lanes run in tasks of their own, so what counts is not how often the relay was polled but
/// which of its calls was under way: each in turn hangs, and then the relay is dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_dropped_in_every_call_loses_nothing() -> Result<(), Failure> {
    let world = world(&Chance::from_environment(82)).await?;
    let mut inside = Inside::open(&world)?;
    inside.start_till().await?;
    inside.start_books().await?;
    let settings = Relaying { lease_ms: 30, window: 8, ..Relaying::default() };
    for cut in 0..CUTS {
        place(&world, &orders(3)).await?;
        let hung = Arc::new(Notify::new());
        let faults = [(); 2].map(|()| hang_at(u64::try_from(cut).unwrap_or(0), hung.clone()));
        let [of_database, of_broker] = faults;
        let database = FaultyDatabase::new(Arc::new(world.database.clone()), of_database);
        let broker = FaultyBroker::new(Arc::new(inside.bus.clone()), of_broker);
        let relay = Relay::new(Arc::new(database), Arc::new(broker))
            .options(relay::options("dropped", &settings));
        tokio::select! {
            () = relay.run_until(pending()) => return Err("nobody asked the relay to end".into()),
            // A relay with nothing to do may not come so far; then it is dropped idle.
            () = tokio::time::sleep(ROUND) => {}
            () = hung.notified() => {}
        }
        assert_clean(&world, &format!("a relay dropped in its call {cut}")).await;
    }
    inside.stop().await?;
    goes_on(&world).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(3 * CUTS, 1)?;
    assert!(truth.dead.is_empty(), "{:?}", truth.dead);
    world.remove()
}

/// The call of this number, counted from 0 and before and after each, never goes on, and says so.
fn hang_at(number: u64, hung: Arc<Notify>) -> impl Fn(Call, When) -> Strike + Send + Sync {
    let calls = AtomicU64::new(0);
    move |_, _| {
        if calls.fetch_add(1, Ordering::Relaxed) != number {
            return Strike::Pass;
        }
        hung.notify_one();
        Strike::Hang
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_dropped_at_every_poll_loses_and_doubles_nothing() -> Result<(), Failure> {
    let world = world(&Chance::from_environment(83)).await?;
    let mut inside = Inside::open(&world)?;
    inside.start_relay();
    inside.start_books().await?;
    for polls in 1..=CUTS {
        place(&world, &orders(3)).await?;
        let subscriber = Box::new(inside.witness::<Order>(TILL).await?);
        let settings = Consuming { attempts: 1000, ..Consuming::default() };
        let till = consume::till_on(world.database.clone(), world.evidence.clone())
            .options(consume::options(&settings));
        let cut = cut(polls, till.run_until(subscriber, pending()));
        let ended = tokio::time::timeout(ROUND, cut).await.ok().flatten();
        assert!(ended.is_none(), "nobody asked the consumer to end: {ended:?}");
        assert_clean(&world, &format!("a consumer dropped after {polls} polls")).await;
    }
    inside.stop().await?;
    goes_on(&world).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(3 * CUTS, 1)?;
    assert!(truth.dead.is_empty(), "{:?}", truth.dead);
    world.remove()
}

/// Every call of the seams, each dropped at every poll.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_of_the_database_leaves_a_connection_inside_a_transaction() -> Result<(), Failure> {
    let world = world(&Chance::from_environment(84)).await?;
    place(&world, &orders(5)).await?;
    let database = &world.database;
    let message = Draft::new("orders", "order.placed", "{}").into_message();
    let id = message.id;
    at_every_poll(&world, "migrate", || database.migrate()).await;
    at_every_poll(&world, "version", || database.version()).await;
    at_every_poll(&world, "status", || database.status("default")).await;
    at_every_poll(&world, "entries", || async {
        database.entries(&EntryFilter { limit: 9, ..EntryFilter::default() }).await
    })
    .await;
    at_every_poll(&world, "findings", || database.findings()).await;
    at_every_poll(&world, "begin_attempt", || database.begin_attempt(TILL, id)).await;
    at_every_poll(&world, "record_failure", || database.record_failure(TILL, id, 1, "x")).await;
    at_every_poll(&world, "accept", || async {
        let mut transaction = database.begin().await?;
        database.accept(Sqlite::connection(&mut transaction), TILL, &[id]).await?;
        database.commit(transaction).await
    })
    .await;
    let burial = Burial { reason: DeadReason::Rejected, detail: "no".to_owned(), attempts: 1 };
    at_every_poll(&world, "bury", || async {
        let mut transaction = database.begin().await?;
        database.bury(Sqlite::connection(&mut transaction), TILL, &message, &burial).await?;
        database.commit(transaction).await
    })
    .await;
    at_every_poll(&world, "reposted", || database.reposted(TILL, 9)).await;
    at_every_poll(&world, "prune_inbox", || database.prune_inbox(TILL, InboxWindow::default(), 9))
        .await;
    at_every_poll(&world, "list", || async {
        database.list(&DeadFilter { limit: 9, ..DeadFilter::default() }).await
    })
    .await;
    at_every_poll(&world, "get", || database.get("1")).await;
    at_every_poll(&world, "repost", || async { database.repost(&["1".to_owned()], "me").await })
        .await;
    at_every_poll(&world, "discard", || async {
        database.discard(&["1".to_owned()], "me", "no").await
    })
    .await;
    let alone = || async {
        let drafts = [1, 2, 3].map(|_| Draft::new("orders", "order.placed", "{}").into_message());
        database.enqueue_alone(&drafts).await
    };
    at_every_poll(&world, "enqueue_alone", alone).await;
    let stated: i64 = sqlx::query_scalar("select count(*) from posthaste_outbox")
        .fetch_one(database.pool())
        .await?;
    assert_eq!((stated - 5) % 3, 0, "all three or none");
    relaying_calls(&world).await?;
    world.remove()
}

/// What a relay asks of the database.
async fn relaying_calls(world: &World) -> Result<(), Failure> {
    let database = &world.database;
    let ttl = Duration::from_secs(60);
    at_every_poll(world, "acquire", || database.acquire("relay/default/0", "me", ttl)).await;
    let Claim::Granted(lease) = database.acquire("relay/default/0", "me", ttl).await? else {
        return Err("the lease is held by somebody else".into());
    };
    at_every_poll(world, "renew", || database.renew(&lease, ttl)).await;
    let lane = Lane::whole("default");
    at_every_poll(world, "checkpoint", || database.checkpoint(&lane)).await;
    let limit = ReadLimit { messages: 9, bytes: 1 << 20 };
    let start = Checkpoint::start();
    at_every_poll(world, "read", || database.read(&lane, &start, limit)).await;
    at_every_poll(world, "ready", || database.ready(&lane, limit)).await;
    let checkpoint = database.read(&lane, &start, limit).await?.checkpoint;
    let settlement = Settlement {
        lane: lane.clone(),
        number: 1,
        checkpoint: Some(checkpoint),
        verdicts: Vec::new(),
    };
    at_every_poll(world, "settle", || database.settle(&lease, &settlement)).await;
    at_every_poll(world, "prune_sent", || database.prune_sent(&lease, ttl, 9)).await;
    let stranger = Lease { token: lease.token + 9, ..lease.clone() };
    at_every_poll(world, "a fenced settle", || database.settle(&stranger, &settlement)).await;
    at_every_poll(world, "release", || database.release(&lease)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_is_dropped_while_waiting_loses_no_hint() -> Result<(), Failure> {
    let world = world(&Chance::from_environment(85)).await?;
    let watching = world.database.clone();
    for polls in 1..=12 {
        let dropped = tokio::time::timeout(ROUND, cut(polls, watching.changed())).await;
        drop(dropped);
        place(&world, &orders(1)).await?;
        let heard = tokio::time::timeout(Duration::from_secs(5), watching.changed()).await;
        assert!(heard.is_ok(), "the hint was lost with a future dropped after {polls} polls");
    }
    assert_clean(&world, "after waiting for signals").await;
    world.remove()
}

/// The calls of the bus, each dropped at every poll; what was accepted arrives all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_of_the_bus_loses_a_message_when_it_is_dropped() -> Result<(), Failure> {
    let world = world(&Chance::from_environment(86)).await?;
    let inside = Inside::open(&world)?;
    let subscription = Subscription::new("parcels", "yard");
    let mut subscriber = inside.bus.subscriber(&subscription).await?;
    let publisher = inside.bus.publisher();
    let mut accepted = Vec::new();
    let mut arrived = std::collections::BTreeSet::new();
    for polls in 1..=40 {
        let messages = [1, 2, 3].map(|_| Draft::new("parcels", "parcel", "{}").into_message());
        if cut(polls, publisher.publish(&messages)).await.is_some() {
            accepted.extend(messages.iter().map(|message| message.id));
        }
        drop(cut(polls, inside.bus.status()).await);
        drop(cut(polls, inside.bus.subscriber(&subscription)).await);
        let taken = tokio::time::timeout(ROUND, cut(polls, subscriber.receive(2))).await;
        for delivery in taken.ok().flatten().transpose()?.unwrap_or_default() {
            arrived.insert(delivery.message.id);
            cut(polls, delivery.complete()).await.transpose()?;
        }
    }
    let quiet = Duration::from_secs(4);
    while let Ok(more) = tokio::time::timeout(quiet, subscriber.receive(64)).await {
        for delivery in more? {
            arrived.insert(delivery.message.id);
            delivery.complete().await?;
        }
    }
    let lost: Vec<_> = accepted.iter().filter(|id| !arrived.contains(id)).collect();
    assert!(lost.is_empty(), "accepted and never received: {lost:?}");
    let status = inside.bus.status().await?;
    assert!(status.iter().all(|one| one.active + one.locked + one.dead == 0), "{status:?}");
    assert!(accepted.len() >= 60, "too little was accepted: {}", accepted.len());
    drop(subscriber);
    inside.stop().await?;
    world.remove()
}

/// Relay and consumers run until everything is at rest.
async fn goes_on(world: &World) -> Result<(), Failure> {
    let mut inside = Inside::open(world)?;
    inside.start_relay();
    inside.start_till().await?;
    inside.start_books().await?;
    world.rest(PATIENCE).await?;
    inside.stop().await
}
