//! One bus file, several processes: the owner, the others, and what happens when the owner goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use posthaste_bus::{Bus, BusOptions};
use posthaste_core::{Broker, BrokerError, Outcome};

use crate::processes::Process;
use crate::support::*;

#[test]
fn another_process_is_reached_over_its_socket() {
    run(async {
        let folder = Folder::new();
        let owner = Process::start("own", &folder.url());
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let mut large = message("orders", Some("k"), &"ü".repeat(20 * 1024 * 1024));
        large.headers.insert("trace-id", "7");
        publish(&bus, &[large.clone()]).await;
        let got = one(&mut *reader).await;
        assert!(got.message == large);
        assert!(got.renew().await.expect("renewed").is_some());
        got.complete().await.expect("completed");
        publish(&bus, &messages("orders", Some("k"), 500)).await;
        assert_eq!(drain(&mut *reader, 500).await.len(), 500);
        let mode = folder.file("bus.db.sock").metadata().expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        owner.end();
    });
}

#[test]
fn two_handles_of_one_process_are_two_clients() {
    run(async {
        let folder = Folder::new();
        let first = folder.open();
        let second = folder.open();
        let mut reader = subscribe(&second, "orders", "reader").await;
        publish(&first, &[message("orders", None, "x")]).await;
        assert_eq!(drain(&mut *reader, 1).await, ["x"]);
        first.close().await;
        publish(&second, &[message("orders", None, "y")]).await;
        assert_eq!(drain(&mut *reader, 1).await, ["y"]);
        assert!(matches!(first.status().await, Err(BrokerError::Failed { .. })));
    });
}

#[test]
fn a_client_that_is_killed_gives_back_what_it_held() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        let holder = Process::start("hold", &folder.url());
        publish(&bus, &messages("orders", Some("k"), 2)).await;
        assert_eq!(holder.line(), "0 1");
        silent(&mut *reader).await;
        holder.kill();
        let again = one(&mut *reader).await;
        assert_eq!((text(&again), again.attempt), ("0".into(), 2));
    });
}

#[test]
fn counts_survive_the_death_of_the_owner() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        subscribe(&bus, "orders", "shipping").await;
        publish(&bus, &messages("orders", Some("k"), 2)).await;
        bus.close().await;
        for attempt in 1..=4 {
            let holder = Process::start("hold", &folder.url());
            assert_eq!(holder.line(), format!("0 {attempt}"));
            holder.kill();
        }
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        let again = one(&mut *reader).await;
        assert_eq!((text(&again), again.attempt), ("0".into(), 5));
    });
}

#[test]
fn nothing_accepted_is_lost_while_owners_are_killed() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        bus.close().await;
        drop(bus);
        let mut owner = Process::start("own", &folder.url());
        drop(reader);
        let bus = folder.open();
        reader = subscribe(&bus, "orders", "shipping").await;
        let mut accepted: BTreeSet<String> = BTreeSet::new();
        let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for _round in 0..6 {
            let publisher = Process::start("publish", &folder.url());
            for _ in 0..30 {
                accepted.insert(publisher.line());
                receive_some(&mut *reader, &mut seen).await;
            }
            // The owner goes at any time; this process or the publisher takes over.
            owner.kill();
            for _ in 0..30 {
                accepted.insert(publisher.line());
            }
            owner = Process::start("own", &folder.url());
            accepted.extend(publisher.kill());
        }
        until(async || {
            status(&bus, "shipping").await.active == 0 || {
                receive_some(&mut *reader, &mut seen).await;
                false
            }
        })
        .await;
        let mut delivered = BTreeSet::new();
        for (publisher, numbers) in &seen {
            // In the order of their first occurrence without a gap: copies come later only.
            let mut next = 0;
            for number in numbers {
                assert!(*number <= next, "{publisher}: {number} came before {next}");
                next = next.max(number + 1);
                delivered.insert(format!("{publisher}-{number}"));
            }
        }
        let lost: Vec<_> = accepted.difference(&delivered).collect();
        assert!(lost.is_empty(), "{lost:?}");
        owner.kill();
    });
}

async fn receive_some(
    reader: &mut dyn posthaste_core::Subscriber,
    seen: &mut BTreeMap<String, Vec<u64>>,
) {
    // While the owner is away there is nothing to receive; the next call tries again.
    let Ok(Ok(deliveries)) = tokio::time::timeout(MOMENT, reader.receive(100)).await else {
        return;
    };
    for delivery in deliveries {
        let text = text(&delivery);
        let (publisher, number) = text.split_once('-').expect("publisher and number");
        seen.entry(publisher.to_owned()).or_default().push(number.parse().expect("a number"));
        // A completion that is lost brings a copy.
        drop(delivery.complete().await);
    }
}

#[test]
fn processes_that_race_to_open_find_one_owner() {
    run(async {
        let folder = Folder::new();
        let handles: Vec<Bus> = std::thread::scope(|scope| {
            let open = || folder.open();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().expect("opened")).collect()
        });
        let mut reader = subscribe(&handles[0], "orders", "reader").await;
        for bus in &handles {
            publish(bus, &[message("orders", None, "x")]).await;
        }
        assert_eq!(drain(&mut *reader, 8).await.len(), 8);
        drop(reader);
        for (index, bus) in handles.iter().enumerate() {
            bus.close().await;
            for other in &handles[index + 1..] {
                publish(other, &[message("orders", None, "y")]).await;
            }
        }
    });
}

#[test]
fn garbage_on_the_socket_ends_that_connection_only() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let mut greeting = b"posthaste-bus".to_vec();
        greeting.extend(1_u32.to_le_bytes());
        greeting.extend(7_u32.to_le_bytes());
        let framed = |body: &[u8]| {
            let length = u32::try_from(body.len()).expect("short").to_le_bytes();
            [&greeting[..], &length[..], body].concat()
        };
        let mut wrong = vec![
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            [&greeting[..], &u32::MAX.to_le_bytes()[..], &[0; 64]].concat(),
            framed(&[0xff; 40]),
            framed(&[1, 200]),
            framed(&[]),
        ];
        let mut other_version = greeting.clone();
        other_version[13] = 9;
        wrong.push(other_version);
        for bytes in wrong {
            let mut stream = UnixStream::connect(folder.file("bus.db.sock")).expect("connected");
            stream.set_read_timeout(Some(DEADLINE)).expect("set");
            stream.write_all(&bytes).expect("written");
            let mut answer = Vec::new();
            // The end of the stream, or a reset: the connection is closed.
            drop(stream.read_to_end(&mut answer));
            assert!(answer.is_empty() || answer.starts_with(b"posthaste-bus"), "{answer:?}");
            publish(&bus, &[message("orders", None, "x")]).await;
            assert_eq!(drain(&mut *reader, 1).await, ["x"]);
        }
    });
}

#[test]
fn an_owner_without_its_socket_is_named() {
    run(async {
        let folder = Folder::new();
        let owner = Process::start("own", &folder.url());
        std::fs::remove_file(folder.file("bus.db.sock")).expect("removed");
        let bus = folder.open();
        let mut said = String::new();
        until(async || {
            // At first it could be about to listen.
            said = bus.status().await.expect_err("not reached").to_string();
            said.contains("restart it")
        })
        .await;
        assert!(said.contains(&owner.id().to_string()) && said.contains("socket"), "{said}");
        let findings = bus.check().await;
        assert!(findings[0].what.contains("restart it"), "{findings:?}");
        assert!(bus.publisher().publish(&[message("orders", None, "x")]).await.is_err());
        owner.kill();
        until(async || bus.status().await.is_ok()).await;
    });
}

#[test]
fn a_stale_socket_and_a_long_path_are_no_trouble() {
    run(async {
        let folder = Folder::new();
        Process::start("own", &folder.url()).kill();
        assert!(folder.file("bus.db.sock").exists(), "left behind");
        let bus = folder.open();
        let second = folder.open();
        second.status().await.expect("reached");
        bus.close().await;

        let deep = folder.file(&"d".repeat(100));
        std::fs::create_dir(&deep).expect("created");
        let url = format!("bus://{}/bus.db", deep.display());
        let bus = Bus::open(&url, BusOptions::default()).expect("opened");
        let second = Bus::open(&url, BusOptions::default()).expect("opened");
        second.status().await.expect("reached");
        bus.close().await;
        second.status().await.expect("took over");
        assert!(!deep.join("bus.db.sock").exists());
    });
}

#[test]
fn a_client_that_closes_finishes_what_was_asked_and_counts_nothing() {
    run(async {
        for round in 0..20 {
            let folder = Folder::new();
            let owner = folder.open();
            let client = folder.open();
            let mut reader = subscribe(&client, "orders", "reader").await;
            let mut receive = Box::pin(reader.receive(5));
            assert!(poll_once(receive.as_mut()).await.is_pending());
            publish(&owner, &messages("orders", None, 5)).await;
            drop(receive);
            // What is asked before the end is done, and what nobody took is given back.
            let publisher = client.publisher();
            let batch = [message("orders", None, "last")];
            let mut publishing = Box::pin(publisher.publish(&batch));
            assert!(poll_once(publishing.as_mut()).await.is_pending());
            drop(reader);
            let (outcomes, ()) = tokio::join!(publishing, client.close());
            let outcomes = outcomes.expect("asked");
            assert!(matches!(outcomes[..], [Outcome::Accepted(_)]), "{round}: {outcomes:?}");
            let mut reader = subscribe(&owner, "orders", "reader").await;
            for delivery in take(&mut *reader, 6).await {
                assert_eq!(delivery.attempt, 1, "round {round}");
            }
        }
    });
}

#[test]
fn a_bus_that_was_closed_says_so_for_good() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        bus.close().await;
        let error = within(reader.receive(1)).await.expect_err("closed");
        assert!(matches!(error, BrokerError::Failed { .. }) && !error.is_transient(), "{error:?}");
    });
}

#[test]
fn an_owner_that_closes_while_others_work_loses_and_doubles_nothing() {
    run(async {
        let folder = Folder::new();
        let owner = folder.open();
        let client = folder.open();
        let mut reader = subscribe(&client, "orders", "reader").await;
        let publishing = {
            let client = client.clone();
            tokio::spawn(async move {
                for number in 0..200 {
                    let batch = [message("orders", Some("k"), &number.to_string())];
                    loop {
                        match client.publisher().publish(&batch).await {
                            Ok(said) if matches!(said[..], [Outcome::Accepted(_)]) => break,
                            _ => tokio::task::yield_now().await,
                        }
                    }
                }
            })
        };
        let (mut owner, mut next, mut closed) = (Some(owner), 0, 0);
        while next < 200 {
            let Ok(deliveries) = within(reader.receive(7)).await else { continue };
            for delivery in deliveries {
                let number: u64 = text(&delivery).parse().expect("a number");
                // Copies come only of what was published or settled while the owner went.
                assert!(number <= next, "{number} came before {next}");
                next = next.max(number + 1);
                drop(delivery.complete().await);
            }
            if closed < 3 && next >= (closed + 1) * 40 {
                closed += 1;
                let other = folder.open();
                if let Some(owner) = owner.replace(other) {
                    owner.close().await;
                }
            }
        }
        publishing.await.expect("published");
    });
}
