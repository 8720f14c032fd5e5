//! Delivering: fan-out, competition, order, locks, retries, deferral.

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::{Duration, Instant};

use posthaste_core::{Broker, BrokerError, Subscription};

use crate::support::*;

#[test]
fn every_subscription_gets_every_message_from_its_creation_on() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        publish(&bus, &messages("orders", None, 2)).await;
        let mut first = subscribe(&bus, "orders", "first").await;
        let mut second = subscribe(&bus, "orders", "second").await;
        publish(&bus, &[message("orders", None, "late")]).await;
        assert_eq!(drain(&mut *first, 3).await, ["0", "1", "late"]);
        assert_eq!(drain(&mut *second, 1).await, ["late"]);
        silent(&mut *second).await;
        let addresses = bus.addresses().await.expect("addresses");
        assert_eq!((addresses.len(), addresses[0].held), (1, 0));
    });
}

#[test]
fn consumers_of_one_name_compete_and_keys_do_not_meet() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut one_of = subscribe(&bus, "orders", "shipping").await;
        let mut other = subscribe(&bus, "orders", "shipping").await;
        let batch: Vec<_> = (0..10)
            .map(|number| message("orders", Some(&(number % 2).to_string()), &number.to_string()))
            .collect();
        publish(&bus, &batch).await;
        let held = one(&mut *one_of).await;
        let also = one(&mut *other).await;
        assert_ne!(held.message.key, also.message.key);
        silent(&mut *one_of).await;
        let mut seen = BTreeSet::from([text(&held), text(&also)]);
        held.complete().await.expect("completed");
        also.complete().await.expect("completed");
        for _ in 0..4 {
            seen.extend(drain(&mut *one_of, 1).await);
            seen.extend(drain(&mut *other, 1).await);
        }
        assert_eq!(seen.len(), 10);
    });
}

#[test]
fn a_queue_has_one_line_whatever_name_is_given() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        publish(&bus, &messages("work", None, 4)).await;
        bus.declare_queue("work").await.expect("declared");
        bus.declare_queue("work").await.expect("declared again");
        let mut one_of = subscribe(&bus, "work", "a").await;
        let mut other = subscribe(&bus, "work", "b").await;
        let mut seen: BTreeSet<String> = drain(&mut *one_of, 2).await.into_iter().collect();
        seen.extend(drain(&mut *other, 2).await);
        assert_eq!(seen.len(), 4);
        subscribe(&bus, "topic", "a").await;
        let refused = bus.declare_queue("topic").await.expect_err("has a subscription");
        assert!(refused.to_string().contains("declare a queue before"), "{refused}");
    });
}

#[test]
fn a_conflicting_order_is_refused() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        subscribe(&bus, "orders", "shipping").await;
        let mut other = Subscription::new("orders", "shipping");
        other.ordered = false;
        let Err(refused) = bus.subscriber(&other).await else { panic!("was opened") };
        assert!(matches!(refused, BrokerError::Rejected { .. }), "{refused:?}");
        assert!(refused.to_string().contains("orders/shipping"), "{refused}");
    });
}

#[test]
fn an_unordered_subscription_does_not_wait_for_a_key() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut subscription = Subscription::new("orders", "fast");
        subscription.ordered = false;
        let mut reader = bus.subscriber(&subscription).await.expect("opened");
        publish(&bus, &messages("orders", Some("k"), 3)).await;
        let held = take(&mut *reader, 3).await;
        assert_eq!(held.iter().map(text).collect::<Vec<_>>(), ["0", "1", "2"]);
    });
}

#[test]
fn a_lock_that_runs_out_is_lost_and_the_message_comes_again() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open_with(|options| options.lock = Duration::from_millis(80));
        let mut reader = subscribe(&bus, "orders", "reader").await;
        publish(&bus, &[message("orders", Some("k"), "x")]).await;
        let late = one(&mut *reader).await;
        let again = one(&mut *reader).await;
        assert_eq!((text(&again), again.attempt), ("x".into(), 2));
        assert!(matches!(late.renew().await, Err(BrokerError::LockLost)));
        assert!(matches!(late.complete().await, Err(BrokerError::LockLost)));
        again.complete().await.expect("completed");
        silent(&mut *reader).await;
    });
}

#[test]
fn renewal_keeps_a_lock() {
    run(async {
        let folder = Folder::new();
        let lock = Duration::from_millis(400);
        let bus = folder.open_with(|options| options.lock = lock);
        let mut reader = subscribe(&bus, "orders", "reader").await;
        publish(&bus, &[message("orders", None, "x")]).await;
        let held = one(&mut *reader).await;
        let start = Instant::now();
        while start.elapsed() < lock * 3 {
            assert_eq!(held.renew().await.expect("still locked"), Some(lock));
            silent(&mut *reader).await;
        }
        held.complete().await.expect("completed");
    });
}

#[test]
fn a_dropped_delivery_comes_again_at_once_and_counted() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        publish(&bus, &messages("orders", Some("k"), 2)).await;
        drop(one(&mut *reader).await);
        let again = one(&mut *reader).await;
        assert_eq!((text(&again), again.attempt), ("0".into(), 2));
        again.complete().await.expect("completed");
        assert_eq!(drain(&mut *reader, 1).await, ["1"]);
    });
}

#[test]
fn a_retry_waits_and_its_key_waits_with_it() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        publish(&bus, &messages("orders", Some("k"), 2)).await;
        publish(&bus, &[message("orders", Some("other"), "free")]).await;
        let delay = Duration::from_millis(150);
        let start = Instant::now();
        one(&mut *reader).await.retry(delay).await.expect("retried");
        assert_eq!(drain(&mut *reader, 1).await, ["free"]);
        let again = one(&mut *reader).await;
        assert!(start.elapsed() >= delay);
        assert_eq!((text(&again), again.attempt), ("0".into(), 2));
        again.complete().await.expect("completed");
        assert_eq!(drain(&mut *reader, 1).await, ["1"]);
    });
}

#[test]
fn a_deferred_message_holds_nobody_back_and_is_found_by_its_number() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        publish(&bus, &messages("orders", Some("k"), 2)).await;
        one(&mut *reader).await.defer().await.expect("deferred");
        assert_eq!(drain(&mut *reader, 1).await, ["1"]);
        let listed = bus.deferred("orders", "reader", 0, 10).await.expect("listed");
        assert_eq!(listed.len(), 1);
        let numbers = [listed[0].sequence];
        let taken = bus.receive_deferred("orders", "reader", &numbers).await.expect("taken");
        assert_eq!((text(&taken[0]), taken[0].attempt), ("0".into(), 2));
        let busy = bus.receive_deferred("orders", "reader", &numbers).await;
        assert!(matches!(busy, Err(BrokerError::Rejected { .. })), "{busy:?}");
        drop(taken);
        let taken = bus.receive_deferred("orders", "reader", &numbers).await.expect("again");
        assert_eq!(taken[0].attempt, 3);
        for delivery in taken {
            delivery.complete().await.expect("completed");
        }
        assert_eq!(status(&bus, "reader").await.deferred, 0);
        silent(&mut *reader).await;
    });
}

#[test]
fn no_more_than_prefetch_is_in_hand() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut subscription = Subscription::new("orders", "reader");
        subscription.prefetch = 2;
        let mut reader = bus.subscriber(&subscription).await.expect("opened");
        publish(&bus, &messages("orders", None, 3)).await;
        let mut held = take(&mut *reader, 2).await;
        silent(&mut *reader).await;
        held.remove(0).complete().await.expect("completed");
        assert_eq!(text(&one(&mut *reader).await), "2");
    });
}

#[test]
fn a_receive_that_is_dropped_loses_nothing() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let mut got = Vec::new();
        for number in 0..50 {
            let mut receive = Box::pin(reader.receive(10));
            let polled = poll_once(receive.as_mut()).await;
            publish(&bus, &[message("orders", Some("k"), &number.to_string())]).await;
            drop(receive);
            if let Poll::Ready(received) = polled {
                for delivery in received.expect("received") {
                    got.push(text(&delivery));
                    delivery.complete().await.expect("completed");
                }
            }
        }
        let rest = 50 - got.len();
        got.extend(drain(&mut *reader, rest).await);
        assert_eq!(got, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    });
}

#[test]
fn what_a_subscriber_never_took_is_given_back_uncounted() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let mut receive = Box::pin(reader.receive(10));
        assert!(poll_once(receive.as_mut()).await.is_pending());
        publish(&bus, &messages("orders", None, 5)).await;
        drop(receive);
        drop(reader);
        let mut reader = subscribe(&bus, "orders", "reader").await;
        for delivery in take(&mut *reader, 5).await {
            assert_eq!(delivery.attempt, 1);
        }
    });
}

#[test]
fn bodies_go_when_everybody_is_past_them() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut first = subscribe(&bus, "orders", "first").await;
        let mut second = subscribe(&bus, "orders", "second").await;
        publish(&bus, &messages("orders", None, 700)).await;
        drain(&mut *first, 700).await;
        drain(&mut *second, 699).await;
        let file = folder.file("bus.db");
        let bodies = || {
            let file = rusqlite::Connection::open(&file).expect("opens");
            file.query_row("SELECT count(*) FROM message", [], |row| row.get::<_, i64>(0))
                .expect("counted")
        };
        until(async || bodies() == 1).await;
        drain(&mut *second, 1).await;
        until(async || bodies() == 0).await;
    });
}

#[test]
fn what_came_for_a_dropped_call_is_not_handed_out_after_its_lock() {
    run(async {
        let folder = Folder::new();
        let lock = Duration::from_millis(150);
        let bus = folder.open_with(|options| options.lock = lock);
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let mut receive = Box::pin(reader.receive(1));
        assert!(poll_once(receive.as_mut()).await.is_pending());
        publish(&bus, &[message("orders", None, "x")]).await;
        until(async || status(&bus, "reader").await.locked == 1).await;
        drop(receive);
        until(async || status(&bus, "reader").await.locked == 0).await;
        let again = one(&mut *reader).await;
        assert_eq!(again.attempt, 2, "not the one whose lock is over");
        again.complete().await.expect("still locked");
    });
}

#[test]
fn what_came_for_a_dropped_call_has_what_is_left_of_its_lock() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let mut receive = Box::pin(reader.receive(1));
        assert!(poll_once(receive.as_mut()).await.is_pending());
        publish(&bus, &[message("orders", None, "x")]).await;
        until(async || status(&bus, "reader").await.locked == 1).await;
        drop(receive);
        tokio::time::sleep(MOMENT).await;
        let late = one(&mut *reader).await;
        assert!(late.lock.expect("a lock") <= Duration::from_secs(30) - MOMENT, "{:?}", late.lock);
        assert_eq!(late.renew().await.expect("renewed"), Some(Duration::from_secs(30)));
    });
}
