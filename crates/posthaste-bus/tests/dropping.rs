//! Calls that are dropped at every point: nothing is lost, nothing stays locked, and the next call
//! finds everything in order.

use std::collections::BTreeSet;

use posthaste_bus::Bus;
use posthaste_core::{Broker, Subscription};

use crate::support::*;

/// More polls than any call takes.
const POLLS: usize = 12;

/// An owner and a client, so that both ways to the engine are taken.
fn both(folder: &Folder) -> [Bus; 2] {
    [folder.open(), folder.open()]
}

#[test]
fn a_dropped_publish_is_there_once_or_not_at_all() {
    run(async {
        let folder = Folder::new();
        let buses = both(&folder);
        for bus in &buses {
            let mut reader = subscribe(bus, "orders", "reader").await;
            let mut begun = BTreeSet::new();
            for polls in 0..POLLS {
                let batch = [message("orders", Some("k"), &polls.to_string())];
                begun.insert(polls.to_string());
                drop(polled_at_most(polls, bus.publisher().publish(&batch)).await);
            }
            publish(bus, &[message("orders", Some("k"), "last")]).await;
            let mut seen = BTreeSet::new();
            loop {
                let text = drain(&mut *reader, 1).await.remove(0);
                if text == "last" {
                    break;
                }
                assert!(begun.contains(&text) && seen.insert(text));
            }
        }
    });
}

#[test]
fn a_dropped_receive_leaves_everything_for_the_next() {
    run(async {
        let folder = Folder::new();
        let buses = both(&folder);
        for bus in &buses {
            let mut reader = subscribe(bus, "orders", "reader").await;
            let mut seen = Vec::new();
            for polls in 0..POLLS {
                publish(bus, &[message("orders", Some("k"), &polls.to_string())]).await;
                if let Some(received) = polled_at_most(polls, reader.receive(5)).await {
                    for delivery in received.expect("received") {
                        assert_eq!(delivery.attempt, 1);
                        seen.push(text(&delivery));
                        delivery.complete().await.expect("completed");
                    }
                }
            }
            while seen.len() < POLLS {
                let delivery = one(&mut *reader).await;
                assert_eq!(delivery.attempt, 1);
                seen.push(text(&delivery));
                delivery.complete().await.expect("completed");
            }
            assert_eq!(seen, (0..POLLS).map(|polls| polls.to_string()).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_dropped_settlement_is_done_or_the_message_comes_again_at_once() {
    run(async {
        let folder = Folder::new();
        let buses = both(&folder);
        for bus in &buses {
            let mut reader = subscribe(bus, "orders", "reader").await;
            for polls in 0..POLLS {
                publish(bus, &[message("orders", Some("k"), &polls.to_string())]).await;
                let delivery = one(&mut *reader).await;
                assert_eq!(text(&delivery), polls.to_string());
                drop(polled_at_most(polls, delivery.complete()).await);
                let is_free = async || {
                    let figures = status(bus, "reader").await;
                    figures.locked == 0
                };
                until(is_free).await;
                if status(bus, "reader").await.active == 1 {
                    assert_eq!(drain(&mut *reader, 1).await, [polls.to_string()]);
                }
            }
        }
    });
}

#[test]
fn a_dropped_call_for_deferred_messages_gives_them_back() {
    run(async {
        let folder = Folder::new();
        let buses = both(&folder);
        for bus in &buses {
            let mut reader = subscribe(bus, "orders", "reader").await;
            publish(bus, &[message("orders", None, "x")]).await;
            one(&mut *reader).await.defer().await.expect("deferred");
            let listed = bus.deferred("orders", "reader", 0, 10).await.expect("listed");
            let numbers = [listed[0].sequence];
            for polls in 0..POLLS {
                drop(
                    polled_at_most(polls, bus.receive_deferred("orders", "reader", &numbers)).await,
                );
                until(async || status(bus, "reader").await.locked == 0).await;
            }
            let taken = bus.receive_deferred("orders", "reader", &numbers).await.expect("taken");
            for delivery in taken {
                delivery.complete().await.expect("completed");
            }
        }
    });
}

#[test]
fn a_dropped_opening_of_a_subscription_leaves_no_consumer() {
    run(async {
        let folder = Folder::new();
        let buses = both(&folder);
        for bus in &buses {
            for polls in 0..POLLS {
                let subscription = Subscription::new("orders", "reader");
                drop(polled_at_most(polls, bus.subscriber(&subscription)).await);
            }
            let reader = subscribe(bus, "orders", "reader").await;
            until(async || status(bus, "reader").await.consumers == 1).await;
            drop(reader);
            until(async || status(bus, "reader").await.consumers == 0).await;
        }
    });
}

#[test]
fn a_bus_that_is_dropped_gives_its_file_to_the_next() {
    run(async {
        let folder = Folder::new();
        for round in 0..5 {
            let bus = folder.open();
            let mut reader = subscribe(&bus, "orders", "reader").await;
            publish(&bus, &[message("orders", None, &round.to_string())]).await;
            assert_eq!(drain(&mut *reader, 1).await, [round.to_string()]);
        }
    });
}

#[test]
fn many_publishes_at_once_share_commits() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        publish(&bus, &[message("orders", None, "first")]).await;
        let commits = || {
            let wal = std::fs::read(folder.file("bus.db-wal")).expect("a log");
            // A frame of the log says in bytes 4 to 8 of its head whether it ends a commit.
            wal[32..].chunks_exact(24 + 4096).filter(|frame| frame[4..8] != [0; 4]).count()
        };
        let before = commits();
        let mut publishing = tokio::task::JoinSet::new();
        for number in 0..200 {
            let bus = bus.clone();
            publishing.spawn(async move {
                publish(&bus, &[message("orders", None, &number.to_string())]).await;
            });
        }
        publishing.join_all().await;
        let made = commits() - before;
        assert!((1..100).contains(&made), "{made} commits for 200 publishes");
    });
}
