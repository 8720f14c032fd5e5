//! Opening what is not a bus file, or not one of ours: one clear error, and nothing is touched.

use std::path::Path;

use posthaste_bus::{Bus, BusOptions};
use posthaste_core::{Broker, BrokerError, Outcome};

use crate::support::*;

fn refusal(url: &str) -> String {
    let error = Bus::open(url, BusOptions::default()).expect_err("not opened");
    let is_known = matches!(error, BrokerError::Failed { .. } | BrokerError::Rejected { .. });
    assert!(is_known, "{error:?}");
    error.to_string()
}

fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let folder = Folder::new();
    for content in [&b"hello"[..], &[7; 5000]] {
        std::fs::write(folder.file("bus.db"), content).expect("written");
        let said = refusal(&folder.url());
        assert!(said.contains("bus.db") && said.contains("not a SQLite database"), "{said}");
        assert_eq!(std::fs::read(folder.file("bus.db")).expect("read"), content);
        assert_eq!(listing(&folder.file("")), ["bus.db"]);
    }
}

#[test]
fn the_database_of_an_application_is_left_alone() {
    let folder = Folder::new();
    let file = rusqlite::Connection::open(folder.file("bus.db")).expect("opens");
    file.execute_batch("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (1);")
        .expect("created");
    drop(file);
    let before = std::fs::read(folder.file("bus.db")).expect("read");
    let said = refusal(&folder.url());
    assert!(said.contains("not a bus file") && said.contains("a file of its own"), "{said}");
    assert_eq!(std::fs::read(folder.file("bus.db")).expect("read"), before);
    assert_eq!(listing(&folder.file("")), ["bus.db"]);
}

#[test]
fn a_newer_schema_is_named() {
    run(async {
        let folder = Folder::new();
        folder.open().close().await;
        let file = rusqlite::Connection::open(folder.file("bus.db")).expect("opens");
        file.pragma_update(None, "user_version", 2).expect("set");
        drop(file);
        let said = refusal(&folder.url());
        assert!(said.contains("version 2") && said.contains("newer posthaste"), "{said}");
    });
}

#[test]
fn a_damaged_file_is_named() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        publish(&bus, &messages("orders", None, 100)).await;
        bus.close().await;
        let mut bytes = std::fs::read(folder.file("bus.db")).expect("read");
        bytes[100..8000].fill(0xa5);
        std::fs::write(folder.file("bus.db"), bytes).expect("written");
        let said = refusal(&folder.url());
        assert!(said.contains("bus.db") && said.contains("damaged"), "{said}");
    });
}

#[test]
fn a_missing_folder_and_a_wrong_url_are_named() {
    let folder = Folder::new();
    let said = refusal(&format!("bus://{}/no/bus.db", folder.file("").display()));
    assert!(said.contains("does not exist"), "{said}");
    std::fs::write(folder.file("file"), "x").expect("written");
    let said = refusal(&format!("bus://{}/bus.db", folder.file("file").display()));
    assert!(said.contains("file"), "{said}");
    assert!(refusal("amqp://localhost").contains("bus:///"));
    assert!(refusal("bus:").contains("names no file"));
}

#[test]
fn a_file_is_read_again_as_it_was_left() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        publish(&bus, &messages("orders", Some("k"), 2)).await;
        publish(&bus, &messages("orders", None, 4)).await;
        // Number 3 to 6 have no key: 3 and 5 are settled out of order, 4 is dead, 6 is deferred.
        for (index, delivery) in take(&mut *reader, 5).await.into_iter().enumerate() {
            match index {
                1 | 3 => delivery.complete().await.expect("completed"),
                2 => delivery.dead_letter("r", "d").await.expect("dead"),
                4 => delivery.defer().await.expect("deferred"),
                _ => drop(delivery),
            }
        }
        bus.close().await;
        assert_eq!(listing(&folder.file("")), ["bus.db", "bus.db.lock"]);
        let bus = folder.open();
        let figures = status(&bus, "reader").await;
        let wanted = (2, 0, 1, 1);
        assert_eq!(figures.active, wanted.0);
        subscribe(&bus, "orders", "reader").await;
        assert_eq!(
            (figures.locked, figures.dead, figures.deferred),
            (wanted.1, wanted.2, wanted.3)
        );
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let first = one(&mut *reader).await;
        assert_eq!((text(&first), first.attempt), ("0".into(), 2));
        first.complete().await.expect("completed");
        assert_eq!(drain(&mut *reader, 1).await, ["1"]);
        silent(&mut *reader).await;
        assert_eq!(status(&bus, "reader").await.active, 0);
    });
}

#[test]
fn a_settlement_that_finds_no_room_loses_nothing() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open_with(|options| options.max_pages = Some(40));
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let mut count = 0;
        let text_of = "x".repeat(2000);
        loop {
            let batch = [message("orders", None, &text_of)];
            let Ok(outcomes) = bus.publisher().publish(&batch).await else { break };
            assert!(matches!(outcomes[..], [Outcome::Accepted(_)]), "{outcomes:?}");
            count += 1;
        }
        let refused = loop {
            let delivery = one(&mut *reader).await;
            match delivery.dead_letter("r", "d".repeat(30_000)).await {
                Ok(()) => count -= 1,
                Err(refused) => break refused,
            }
        };
        assert!(refused.to_string().contains("free space"), "{refused}");
        assert_eq!(drain(&mut *reader, count).await.len(), count);
        assert_eq!(status(&bus, "reader").await.active, 0);
    });
}
