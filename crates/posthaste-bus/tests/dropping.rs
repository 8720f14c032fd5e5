//! Calls that are dropped at every point: nothing is lost, nothing stays locked, and the next call
//! finds everything in order.

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste_bus::Bus;
use posthaste_core::dead_letter::{DeadFilter, DeadLetters};
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
fn a_message_is_in_one_place_however_its_settlement_is_dropped() {
    run(async {
        let folder = Folder::new();
        let buses = both(&folder);
        for bus in &buses {
            let mut reader = subscribe(bus, "orders", "reader").await;
            let mut published = 0;
            for polls in 0..POLLS {
                for way in 0..4 {
                    publish(bus, &[message("orders", None, "x")]).await;
                    published += 1;
                    let delivery = one(&mut *reader).await;
                    match way {
                        0 => drop(polled_at_most(polls, delivery.retry(Duration::ZERO)).await),
                        1 => drop(polled_at_most(polls, delivery.dead_letter("a", "b")).await),
                        2 => drop(polled_at_most(polls, delivery.defer()).await),
                        _ => {
                            drop(polled_at_most(polls, delivery.renew()).await);
                            delivery.dead_letter("a", "b").await.expect("still locked");
                        }
                    }
                    until(async || status(bus, "reader").await.locked == 0).await;
                    let figures = status(bus, "reader").await;
                    assert_eq!(figures.active + figures.dead + figures.deferred, published);
                    if figures.active == 1 {
                        one(&mut *reader).await.complete().await.expect("completed");
                        published -= 1;
                    }
                }
            }
            assert!(status(bus, "reader").await.dead > 0, "some were not dropped");
            let all = DeadFilter { limit: 1000, ..DeadFilter::default() };
            let letters = bus.list(&all).await.expect("listed");
            let references: Vec<_> = letters.into_iter().map(|one| one.reference).collect();
            bus.discard(&references, "test", "done").await.expect("discarded");
            take_deferred(bus).await;
        }
    });
}

async fn take_deferred(bus: &Bus) {
    let listed = bus.deferred("orders", "reader", 0, 1000).await.expect("listed");
    let numbers: Vec<_> = listed.iter().map(|one| one.sequence).collect();
    for delivery in bus.receive_deferred("orders", "reader", &numbers).await.expect("taken") {
        delivery.complete().await.expect("completed");
    }
}

#[test]
fn a_dropped_act_on_a_dead_letter_is_done_wholly_or_not_at_all() {
    run(async {
        let folder = Folder::new();
        let buses = both(&folder);
        let all = DeadFilter { limit: 10, ..DeadFilter::default() };
        for bus in &buses {
            let mut reader = subscribe(bus, "orders", "reader").await;
            for polls in 0..POLLS {
                for discards in [false, true] {
                    publish(bus, &[message("orders", None, "x")]).await;
                    one(&mut *reader).await.dead_letter("a", "b").await.expect("dead");
                    drop(polled_at_most(polls, bus.list(&all)).await);
                    drop(polled_at_most(polls, bus.addresses()).await);
                    drop(polled_at_most(polls, bus.deferred("orders", "reader", 0, 10)).await);
                    drop(polled_at_most(polls, bus.declare_queue(&format!("q{polls}"))).await);
                    let letter = bus.list(&all).await.expect("listed").remove(0).reference;
                    drop(polled_at_most(polls, bus.get(&letter)).await);
                    let wanted = [letter];
                    if discards {
                        drop(polled_at_most(polls, bus.discard(&wanted, "test", "done")).await);
                    } else {
                        drop(polled_at_most(polls, bus.repost(&wanted, "test")).await);
                    }
                    let figures = status(bus, "reader").await;
                    let left = if discards { figures.dead } else { figures.dead + figures.active };
                    assert_eq!((figures.locked, left <= 1), (0, true), "{figures:?}");
                    assert!(discards || left == 1, "a reposted one is not lost: {figures:?}");
                    if figures.dead == 1 {
                        bus.discard(&wanted, "test", "done").await.expect("discarded");
                    } else if figures.active == 1 {
                        one(&mut *reader).await.complete().await.expect("completed");
                    }
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
