//! Laws of receiving: delivered until settled, counted, in order per key, never to two at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthaste_core::broker::{Broker, Subscriber, Subscription};
use posthaste_core::retry::Jitter;
use posthaste_core::{BrokerError, Delivery, Message, MessageId};
use tokio::time::Instant;

use crate::case::BrokerCase;
use crate::hand::ids_of;
use crate::publisher::{LONG_LOCK, assert_quiet, drain, publish, subscribe};
use crate::sample::{keyed, message};
use crate::timing::{PATIENCE, within};

/// Makes a test of every law of receiving.
#[macro_export]
macro_rules! subscriber_suite {
    ($make:ident) => {
        $crate::laws!(
            subscriber,
            $make,
            [
                a_completed_message_is_not_delivered_again,
                a_delivery_that_is_dropped_comes_again_and_is_counted,
                a_delivery_whose_lock_runs_out_comes_again_and_the_old_one_settles_nothing,
                a_renewed_lock_does_not_run_out,
                a_retried_message_comes_again_after_its_delay_and_not_before,
                a_dead_lettered_message_is_not_delivered_again_and_frees_its_key,
                a_deferred_message_is_set_aside_and_holds_nobody_back,
                while_a_message_of_a_key_is_unsettled_later_ones_of_it_wait,
                a_key_waits_for_a_retried_message,
                an_unordered_subscription_gives_a_key_all_at_once,
                competing_subscribers_never_hold_the_same_message_and_keep_the_order,
                every_name_gets_everything,
                a_subscription_is_durable,
                a_subscription_sees_what_is_published_after_it_was_created,
                what_a_subscriber_that_ends_has_not_settled_goes_to_another,
                no_more_than_the_prefetch_are_in_hand,
                receive_returns_at_least_one_and_at_most_what_was_asked_for,
                receive_waits_for_a_message_to_be_published,
                receive_may_be_dropped_at_any_point_and_nothing_is_lost,
                a_backlog_is_delivered_in_order,
            ]
        );
    };
}

const SHORT_LOCK: Duration = Duration::from_millis(400);

fn orders(name: &str) -> Subscription {
    Subscription::new("orders", name)
}

/// Receives exactly one delivery.
async fn one(subscriber: &mut dyn Subscriber) -> Delivery {
    let mut deliveries =
        within("a delivery arrives", subscriber.receive(1)).await.expect("receive");
    assert_eq!(deliveries.len(), 1, "one was asked for");
    deliveries.swap_remove(0)
}

/// Asserts how often a message was delivered, as far as that is promised.
fn assert_attempt(broker: &Arc<dyn Broker>, delivery: &Delivery, expected: u32) {
    if broker.promises().counts_deliveries {
        assert_eq!(delivery.attempt, expected, "deliveries of {}", delivery.message.id);
    } else {
        assert_eq!(delivery.attempt > 1, expected > 1, "whether it came again");
    }
}

/// Done is done.
pub async fn a_completed_message_is_not_delivered_again(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let stated = [message("orders")];
    publish(&case.broker, &stated).await;
    let delivery = one(subscriber.as_mut()).await;
    assert_attempt(&case.broker, &delivery, 1);
    assert_eq!(delivery.message.id, stated[0].id);
    delivery.complete().await.expect("complete");
    assert_quiet(subscriber.as_mut(), "it is completed").await;
    drop(subscriber);
    let mut again = subscribe(&case.second, &orders("one")).await;
    assert_quiet(again.as_mut(), "it is completed for good").await;
}

/// A consumer that fails without a word gets it again, and can see that it does.
pub async fn a_delivery_that_is_dropped_comes_again_and_is_counted(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let stated = [keyed("orders", "a", "1")];
    publish(&case.broker, &stated).await;
    for attempt in 1..=4 {
        let delivery = one(subscriber.as_mut()).await;
        assert_eq!(delivery.message.id, stated[0].id);
        assert_attempt(&case.broker, &delivery, attempt);
        drop(delivery);
    }
    drain(subscriber.as_mut(), 1).await;
}

/// A consumer that hangs loses the message to another, for good.
pub async fn a_delivery_whose_lock_runs_out_comes_again_and_the_old_one_settles_nothing(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(SHORT_LOCK).await;
    let mut hanging = subscribe(&case.broker, &orders("one")).await;
    let mut other = subscribe(&case.second, &orders("one")).await;
    publish(&case.broker, &[keyed("orders", "a", "1")]).await;
    let start = Instant::now();
    let old = one(hanging.as_mut()).await;
    // A broker without locks waits as long as the connection stands: nothing is promised.
    let Some(lock) = old.lock else { return };
    assert!(lock < PATIENCE, "the case was asked for short locks and gave {lock:?}");
    let new = one(other.as_mut()).await;
    let waited = start.elapsed() + Duration::from_millis(5);
    assert!(waited >= lock, "it was taken away after {waited:?} of {lock:?}");
    assert_attempt(&case.broker, &new, 2);
    let lost = old.complete().await;
    assert!(matches!(lost, Err(BrokerError::LockLost)), "{lost:?}");
    new.complete().await.expect("the holder of the lock completes it");
    assert_quiet(other.as_mut(), "it is completed").await;
}

/// A slow consumer that is alive says so.
pub async fn a_renewed_lock_does_not_run_out(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(Duration::from_millis(1500)).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    publish(&case.broker, &[message("orders")]).await;
    let delivery = one(subscriber.as_mut()).await;
    let Some(lock) = delivery.lock else { return };
    assert!(lock < PATIENCE, "the case was asked for short locks and gave {lock:?}");
    let until = Instant::now() + lock + lock / 2;
    while Instant::now() < until {
        let renewed = delivery.renew().await.expect("renew");
        assert_eq!(renewed, Some(lock), "it runs for its full length again");
        let early = tokio::time::timeout(lock / 6, subscriber.receive(1)).await;
        assert!(early.is_err(), "it was delivered while its lock was renewed: {early:?}");
    }
    delivery.complete().await.expect("complete");
}

/// Backoff at the broker.
pub async fn a_retried_message_comes_again_after_its_delay_and_not_before(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let stated = [message("orders")];
    publish(&case.broker, &stated).await;
    let delay = Duration::from_millis(300);
    let delivery = one(subscriber.as_mut()).await;
    let start = Instant::now();
    delivery.retry(delay).await.expect("retry");
    let again = one(subscriber.as_mut()).await;
    let waited = start.elapsed() + Duration::from_millis(5);
    assert!(waited >= delay, "it came again after {waited:?} of {delay:?}");
    assert_attempt(&case.broker, &again, 2);
    again.retry(Duration::ZERO).await.expect("retry at once");
    let last = one(subscriber.as_mut()).await;
    assert_eq!(last.message.id, stated[0].id);
    assert_attempt(&case.broker, &last, 3);
    last.complete().await.expect("complete");
    assert_quiet(subscriber.as_mut(), "it is completed").await;
}

/// The broker keeps it where people look, and the key goes on.
pub async fn a_dead_lettered_message_is_not_delivered_again_and_frees_its_key(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let stated = [keyed("orders", "a", "bad"), keyed("orders", "a", "good")];
    publish(&case.broker, &stated).await;
    let bad = one(subscriber.as_mut()).await;
    bad.dead_letter("rejected", "it makes no sense").await.expect("dead letter");
    let next = one(subscriber.as_mut()).await;
    assert_eq!(next.message.id, stated[1].id);
    next.complete().await.expect("complete");
    assert_quiet(subscriber.as_mut(), "the other one is dead").await;
}

/// A message that cannot be handled yet is put aside.
pub async fn a_deferred_message_is_set_aside_and_holds_nobody_back(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let stated = [keyed("orders", "a", "1"), keyed("orders", "a", "2")];
    publish(&case.broker, &stated).await;
    match one(subscriber.as_mut()).await.defer().await {
        Ok(()) => {}
        // A broker that cannot says so, and the message is delivered as before.
        Err(BrokerError::Rejected { .. }) => {
            let arrived = drain(subscriber.as_mut(), 2).await;
            assert_eq!(ids_of(&arrived), ids_of(&stated));
            return;
        }
        Err(error) => panic!("defer: {error}"),
    }
    let next = one(subscriber.as_mut()).await;
    assert_eq!(next.message.id, stated[1].id);
    next.complete().await.expect("complete");
    assert_quiet(subscriber.as_mut(), "a deferred message waits to be asked for").await;
}

/// Order needs that nobody starts on the second before the first is done.
pub async fn while_a_message_of_a_key_is_unsettled_later_ones_of_it_wait(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    if !case.broker.promises().ordered {
        return;
    }
    let mut one_of_two = subscribe(&case.broker, &orders("one")).await;
    let mut other = subscribe(&case.second, &orders("one")).await;
    let stated = [keyed("orders", "a", "1"), keyed("orders", "a", "2"), keyed("orders", "b", "3")];
    publish(&case.broker, &stated).await;
    let (mut first, mut second) = (None, None);
    while first.is_none() || second.is_none() {
        let got = within("a delivery arrives", one_of_two.receive(10)).await.expect("receive");
        for delivery in got {
            match delivery.message.id {
                id if id == stated[0].id => first = Some(delivery),
                id if id == stated[2].id => second = Some(delivery),
                id => panic!("{id} was delivered before its key was free"),
            }
        }
    }
    assert_quiet(other.as_mut(), "the key is in somebody's hands").await;
    assert_quiet(one_of_two.as_mut(), "also for the one who holds it").await;
    if let Some(first) = first {
        first.complete().await.expect("complete");
    }
    // To whom is the broker's affair: it may have one of them stand by for the other.
    let either = async {
        tokio::select! {
            got = one_of_two.receive(1) => got,
            got = other.receive(1) => got,
        }
    };
    let next = within("a delivery arrives", either).await.expect("receive").swap_remove(0);
    assert_eq!(next.message.id, stated[1].id, "then the next one of the key comes");
    next.complete().await.expect("complete");
    if let Some(second) = second {
        second.complete().await.expect("complete");
    }
}

/// A message that failed is still ahead of its followers.
pub async fn a_key_waits_for_a_retried_message(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    if !case.broker.promises().ordered {
        return;
    }
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let stated = [keyed("orders", "a", "1"), keyed("orders", "a", "2"), keyed("orders", "b", "3")];
    publish(&case.broker, &stated).await;
    let mut arrived = Vec::new();
    let mut retried = false;
    while arrived.len() < 3 {
        let delivery = one(subscriber.as_mut()).await;
        if delivery.message.id == stated[0].id && !retried {
            retried = true;
            delivery.retry(Duration::from_millis(200)).await.expect("retry");
        } else {
            arrived.push(delivery.message.id);
            delivery.complete().await.expect("complete");
        }
    }
    assert_eq!(arrived, [stated[2].id, stated[0].id, stated[1].id], "the other key went on");
}

/// Whoever wants no order need not wait for it.
pub async fn an_unordered_subscription_gives_a_key_all_at_once(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let subscription = Subscription { ordered: false, ..orders("one") };
    let mut subscriber = subscribe(&case.broker, &subscription).await;
    let stated: Vec<_> = (0..4).map(|n| keyed("orders", "a", &n.to_string())).collect();
    publish(&case.broker, &stated).await;
    let mut in_hand = Vec::new();
    while in_hand.len() < stated.len() {
        let more = within("a delivery arrives", subscriber.receive(10)).await.expect("receive");
        in_hand.extend(more);
    }
    for delivery in in_hand {
        delivery.complete().await.expect("complete");
    }
}

/// What competing subscribers have seen.
#[derive(Default)]
struct Seen {
    in_hand: BTreeSet<MessageId>,
    keys_in_hand: BTreeSet<String>,
    completed: Vec<Message>,
}

async fn compete(
    broker: Arc<dyn Broker>,
    seed: u64,
    total: usize,
    seen: Arc<Mutex<Seen>>,
) -> Result<(), BrokerError> {
    let mut subscriber = broker.subscriber(&orders("one")).await?;
    let mut jitter = Jitter::new(seed);
    let done = || seen.lock().expect("not poisoned").completed.len() >= total;
    while !done() {
        let patience = Duration::from_millis(50);
        let Ok(received) = tokio::time::timeout(patience, subscriber.receive(3)).await else {
            continue;
        };
        for delivery in received? {
            let (id, key) = (delivery.message.id, delivery.message.key.clone());
            {
                let mut seen = seen.lock().expect("not poisoned");
                assert!(seen.in_hand.insert(id), "{id} is in two hands at once");
                let free = key.is_none_or(|key| seen.keys_in_hand.insert(key));
                assert!(free || !broker.promises().ordered, "a key is in two hands at once");
            }
            tokio::time::sleep(Duration::from_millis(jitter.draw() % 3)).await;
            let message = delivery.message.clone();
            // What is in hand ends before the settlement, which makes the message free.
            {
                let mut seen = seen.lock().expect("not poisoned");
                seen.in_hand.remove(&id);
                seen.keys_in_hand.remove(message.key.as_deref().unwrap_or_default());
            }
            match jitter.draw() % 5 {
                0 => drop(delivery),
                1 => delivery.retry(Duration::from_millis(jitter.draw() % 20)).await?,
                _ => {
                    seen.lock().expect("not poisoned").completed.push(message);
                    delivery.complete().await?;
                }
            }
        }
    }
    Ok(())
}

/// The same name competes; different keys go to different hands, one key to one at a time.
pub async fn competing_subscribers_never_hold_the_same_message_and_keep_the_order(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    drop(subscribe(&case.broker, &orders("one")).await);
    let stated: Vec<_> =
        (0..60).map(|n| keyed("orders", &format!("k{}", n % 4), &n.to_string())).collect();
    publish(&case.broker, &stated).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let hands: Vec<_> = [&case.broker, &case.second, &case.broker]
        .into_iter()
        .zip(1..)
        .map(|(broker, seed)| {
            tokio::spawn(compete(broker.clone(), seed, stated.len(), seen.clone()))
        })
        .collect();
    for hand in hands {
        within("the competition ends", hand).await.expect("ends").expect("no broker error");
    }
    let completed = std::mem::take(&mut seen.lock().expect("not poisoned").completed);
    let mut ids = ids_of(&completed);
    ids.sort_unstable();
    assert_eq!(ids, ids_of(&stated), "each message is completed once");
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for message in &completed {
        by_key.entry(message.key.clone()).or_default().push(message.id);
    }
    if case.broker.promises().ordered {
        assert!(by_key.values().all(|ids| ids.is_sorted()), "the order of each key: {by_key:?}");
    }
}

/// Different names do not compete.
pub async fn every_name_gets_everything(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    let mut subscribers = Vec::new();
    for name in ["mailer", "billing", "audit"] {
        subscribers.push(subscribe(&case.broker, &orders(name)).await);
    }
    let stated: Vec<_> = (0..10).map(|n| keyed("orders", "a", &n.to_string())).collect();
    publish(&case.second, &stated).await;
    for subscriber in &mut subscribers {
        let mut arrived = ids_of(&drain(subscriber.as_mut(), stated.len()).await);
        arrived.sort_unstable();
        assert_eq!(arrived, ids_of(&stated));
    }
}

/// It is there while nobody is.
pub async fn a_subscription_is_durable(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    drop(subscribe(&case.broker, &orders("one")).await);
    let stated = [message("orders"), message("orders")];
    publish(&case.broker, &stated).await;
    let mut subscriber = subscribe(&case.second, &orders("one")).await;
    let mut arrived = ids_of(&drain(subscriber.as_mut(), 2).await);
    arrived.sort_unstable();
    assert_eq!(arrived, ids_of(&stated));
}

/// A new name does not begin with the past, once somebody else has had it.
pub async fn a_subscription_sees_what_is_published_after_it_was_created(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut early = subscribe(&case.broker, &orders("early")).await;
    let (before, after) = (message("orders"), message("orders"));
    publish(&case.broker, std::slice::from_ref(&before)).await;
    let mut late = subscribe(&case.broker, &orders("late")).await;
    publish(&case.broker, std::slice::from_ref(&after)).await;
    assert_eq!(ids_of(&drain(late.as_mut(), 1).await), [after.id]);
    assert_quiet(late.as_mut(), "what came before is not for it").await;
    let mut both = ids_of(&drain(early.as_mut(), 2).await);
    both.sort_unstable();
    assert_eq!(both, [before.id, after.id]);
}

/// A process that ends takes nothing with it.
pub async fn what_a_subscriber_that_ends_has_not_settled_goes_to_another(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut ending = subscribe(&case.broker, &orders("one")).await;
    let stated: Vec<_> = (0..6).map(|n| keyed("orders", &format!("k{n}"), "{}")).collect();
    publish(&case.broker, &stated).await;
    let held = one(ending.as_mut()).await;
    let id = held.message.id;
    drop((held, ending));
    let mut other = subscribe(&case.second, &orders("one")).await;
    let mut arrived = BTreeMap::new();
    while arrived.len() < stated.len() {
        let delivery = one(other.as_mut()).await;
        arrived.insert(delivery.message.id, delivery.attempt);
        delivery.complete().await.expect("complete");
    }
    assert!(arrived[&id] > 1, "the one that was held before is counted");
}

/// A consumer's memory is its own to bound.
pub async fn no_more_than_the_prefetch_are_in_hand(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    let subscription = Subscription { prefetch: 3, ..orders("one") };
    let mut subscriber = subscribe(&case.broker, &subscription).await;
    let stated: Vec<_> = (0..8).map(|_| message("orders")).collect();
    publish(&case.broker, &stated).await;
    let mut in_hand = Vec::new();
    while in_hand.len() < 3 {
        in_hand.extend(within("it arrives", subscriber.receive(10)).await.expect("receive"));
    }
    assert_eq!(in_hand.len(), 3);
    assert_quiet(subscriber.as_mut(), "three are in hand").await;
    let mut completed = 0;
    while completed < stated.len() {
        if in_hand.is_empty() {
            in_hand = within("it arrives", subscriber.receive(10)).await.expect("receive");
            assert!(in_hand.len() <= 3, "{} in hand", in_hand.len());
        }
        for delivery in in_hand.drain(..) {
            delivery.complete().await.expect("complete");
            completed += 1;
        }
    }
}

/// Neither nothing nor too much.
pub async fn receive_returns_at_least_one_and_at_most_what_was_asked_for(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let stated: Vec<_> = (0..10).map(|_| message("orders")).collect();
    publish(&case.broker, &stated).await;
    let mut arrived = 0;
    for max in [1, 3, 2, 100].into_iter().cycle() {
        if arrived == stated.len() {
            break;
        }
        let got = within("it arrives", subscriber.receive(max)).await.expect("receive");
        assert!((1..=max).contains(&got.len()), "{} for at most {max}", got.len());
        for delivery in got {
            delivery.complete().await.expect("complete");
            arrived += 1;
        }
    }
}

/// Waiting costs nothing and ends by itself.
pub async fn receive_waits_for_a_message_to_be_published(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let stated = [message("orders")];
    let broker = case.second.clone();
    let waiting = tokio::spawn(async move { drain(subscriber.as_mut(), 1).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    publish(&broker, &stated).await;
    let arrived = within("the waiting call returns", waiting).await.expect("ends");
    assert_eq!(ids_of(&arrived), ids_of(&stated));
}

/// A consumer that stops, or looks at something else, loses nothing by it.
pub async fn receive_may_be_dropped_at_any_point_and_nothing_is_lost(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let mut jitter = Jitter::new(3);
    let (mut stated, mut completed) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..60u64 {
        let message = keyed("orders", &format!("k{}", round % 3), &round.to_string());
        stated.insert(message.id);
        publish(&case.broker, &[message]).await;
        let patience = Duration::from_micros(jitter.draw() % 400);
        if let Ok(got) = tokio::time::timeout(patience, subscriber.receive(2)).await {
            for delivery in got.expect("receive") {
                let id = delivery.message.id;
                delivery.complete().await.expect("complete");
                assert!(completed.insert(id), "{id} was completed before");
            }
        }
    }
    while completed.len() < stated.len() {
        for message in drain(subscriber.as_mut(), 1).await {
            assert!(completed.insert(message.id), "{} was completed before", message.id);
        }
    }
    assert_eq!(completed, stated);
}

/// A consumer that was away for long catches up, in order.
pub async fn a_backlog_is_delivered_in_order(make: impl AsyncFn(Duration) -> BrokerCase) {
    let case = make(LONG_LOCK).await;
    drop(subscribe(&case.broker, &orders("one")).await);
    let stated: Vec<_> =
        (0..600).map(|n| keyed("orders", &format!("k{}", n % 60), &n.to_string())).collect();
    publish(&case.broker, &stated).await;
    let mut subscriber = subscribe(&case.broker, &orders("one")).await;
    let arrived = drain(subscriber.as_mut(), stated.len()).await;
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for message in &arrived {
        by_key.entry(message.key.clone()).or_default().push(message.id);
    }
    assert_eq!(by_key.len(), 60);
    assert!(by_key.values().all(|ids| ids.len() == 10), "ten of each key");
    if case.broker.promises().ordered {
        assert!(by_key.values().all(|ids| ids.is_sorted()), "the order of each key");
    }
}
