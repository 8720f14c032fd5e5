//! Dead letters of the bus.

use posthaste_bus::Bus;
use posthaste_core::StoreError;
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters, Origin};

use crate::support::*;

async fn list(bus: &Bus) -> Vec<DeadLetter> {
    bus.list(&DeadFilter { limit: 100, ..DeadFilter::default() }).await.expect("listed")
}

#[test]
fn a_dead_letter_is_kept_whole_and_releases_its_key() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        let mut other = subscribe(&bus, "orders", "billing").await;
        let mut first = message("orders", Some("k"), "bad");
        first.headers.insert("trace-id", "7");
        publish(&bus, &[first.clone(), message("orders", Some("k"), "good")]).await;
        let delivery = one(&mut *reader).await;
        delivery.dead_letter("no-stock", "we have none").await.expect("dead");
        assert_eq!(drain(&mut *reader, 1).await, ["good"]);
        assert_eq!(drain(&mut *other, 2).await, ["bad", "good"]);
        let letters = list(&bus).await;
        assert_eq!(letters.len(), 1);
        let letter = &letters[0];
        assert_eq!(letter.reference, "orders/shipping#1");
        assert_eq!(letter.origin, Origin::Broker("orders/shipping".into()));
        assert_eq!((letter.reason.as_str(), letter.detail.as_str()), ("no-stock", "we have none"));
        assert_eq!((letter.attempts, &letter.payload), (1, &first.payload));
        assert_eq!(letter.headers, r#"{"trace-id":"7"}"#);
        assert_eq!(letter.id, first.id.to_string());
        let got = bus.get("orders/shipping#1").await.expect("looked");
        assert_eq!(got.as_ref(), Some(letter));
        assert_eq!(bus.get("orders/billing#1").await.expect("looked"), None);
    });
}

#[test]
fn a_reposted_letter_goes_to_its_subscription_only_and_counts_anew() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        let mut other = subscribe(&bus, "orders", "billing").await;
        publish(&bus, &[message("orders", None, "x")]).await;
        drain(&mut *other, 1).await;
        one(&mut *reader).await.dead_letter("r", "d").await.expect("dead");
        let references = ["orders/shipping#1".to_owned()];
        bus.repost(&references, "anna").await.expect("reposted");
        let twice = bus.repost(&references, "anna").await;
        assert!(matches!(twice, Err(StoreError::Rejected { .. })), "{twice:?}");
        drop(reader);
        bus.close().await;
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        let again = one(&mut *reader).await;
        assert_eq!((text(&again), again.attempt), ("x".into(), 1));
        again.complete().await.expect("completed");
        bus.close().await;
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        silent(&mut *reader).await;
        let mut other = subscribe(&bus, "orders", "billing").await;
        silent(&mut *other).await;
        assert_eq!(list(&bus).await, []);
    });
}

#[test]
fn acts_on_several_are_all_or_nothing_and_recorded() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        publish(&bus, &messages("orders", None, 3)).await;
        for delivery in take(&mut *reader, 3).await {
            delivery.dead_letter("r", "d").await.expect("dead");
        }
        let wrong = ["orders/shipping#1".to_owned(), "orders/shipping#9".to_owned()];
        let refused = bus.discard(&wrong, "anna", "old").await.expect_err("not there");
        assert!(refused.to_string().contains("orders/shipping#9"), "{refused}");
        assert_eq!(list(&bus).await.len(), 3);
        bus.discard(&wrong[..1], "anna", "old").await.expect("discarded");
        let filter = DeadFilter {
            after: Some("orders/shipping#2".into()),
            limit: 5,
            ..DeadFilter::default()
        };
        let page = bus.list(&filter).await.expect("listed");
        assert_eq!(
            page.iter().map(|one| one.reference.as_str()).collect::<Vec<_>>(),
            ["orders/shipping#3"]
        );
        bus.close().await;
        let file = rusqlite::Connection::open(folder.file("bus.db")).expect("opens");
        let act: (String, String, String, String) = file
            .query_row("SELECT actor, act, reference, reason FROM act", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .expect("one act");
        let wanted = ("anna", "discard", "orders/shipping#1", "old");
        assert_eq!((act.0.as_str(), act.1.as_str(), act.2.as_str(), act.3.as_str()), wanted);
    });
}

#[test]
fn the_last_delivery_that_is_allowed_makes_a_dead_letter() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open_with(|options| options.max_deliveries = 3);
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        publish(&bus, &messages("orders", Some("k"), 2)).await;
        for attempt in 1..=3 {
            let delivery = one(&mut *reader).await;
            assert_eq!((text(&delivery), delivery.attempt), ("0".into(), attempt));
        }
        assert_eq!(drain(&mut *reader, 1).await, ["1"]);
        let letters = list(&bus).await;
        assert_eq!((letters[0].reason.as_str(), letters[0].attempts), ("max-deliveries", 3));
    });
}

fn damage(folder: &Folder, sql: &str) {
    let file = rusqlite::Connection::open(folder.file("bus.db")).expect("opens");
    assert_eq!(file.execute(sql, []).expect("damaged"), 1);
}

#[test]
fn a_message_that_cannot_be_read_is_a_dead_letter_and_holds_nobody_up() {
    for sql in [
        "UPDATE message SET headers = 'nonsense' WHERE seq = 1",
        "UPDATE message SET id = x'00' WHERE seq = 1",
    ] {
        run(async {
            let folder = Folder::new();
            let bus = folder.open();
            drop(subscribe(&bus, "orders", "shipping").await);
            publish(&bus, &messages("orders", Some("k"), 2)).await;
            bus.close().await;
            damage(&folder, sql);
            let bus = folder.open();
            let mut reader = subscribe(&bus, "orders", "shipping").await;
            // One is asked for and one cannot be read: the other comes all the same.
            let got = one(&mut *reader).await;
            assert_eq!(text(&got), "1");
            let letters = list(&bus).await;
            assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "unreadable"), "{sql}");
            assert_eq!(letters[0].topic, "orders");
            let reference = [letters[0].reference.clone()];
            assert!(bus.get(&reference[0]).await.expect("looked").is_some());
            bus.discard(&reference, "anna", "damaged").await.expect("discarded");
            assert_eq!(list(&bus).await, []);
            got.complete().await.expect("completed");
        });
    }
}

#[test]
fn a_dead_letter_whose_message_is_gone_can_be_seen_and_given_up() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        publish(&bus, &messages("orders", None, 2)).await;
        for delivery in take(&mut *reader, 2).await {
            delivery.dead_letter("r", "d").await.expect("dead");
        }
        bus.close().await;
        damage(&folder, "DELETE FROM message WHERE seq = 1");
        let bus = folder.open();
        let letters = list(&bus).await;
        assert_eq!(letters.len(), 2);
        assert_eq!((letters[0].reason.as_str(), letters[0].payload.as_bytes().len()), ("r", 0));
        let references: Vec<_> = letters.iter().map(|one| one.reference.clone()).collect();
        bus.discard(&references, "anna", "damaged").await.expect("discarded");
        assert_eq!(list(&bus).await, []);
    });
}

#[test]
fn a_body_on_a_damaged_page_holds_up_nobody_else() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        drop(subscribe(&bus, "orders", "shipping").await);
        publish(&bus, &[message("orders", None, &"\u{7}".repeat(30_000))]).await;
        publish(&bus, &[message("orders", None, "whole")]).await;
        bus.close().await;
        let mut bytes = std::fs::read(folder.file("bus.db")).expect("read");
        // The pages that a long body overflows to begin with the number of the next such page.
        let full = |page: &[u8]| page[4..].iter().all(|byte| *byte == 7);
        let page = bytes.chunks_exact_mut(4096).find(|page| full(page)).expect("a page");
        page[..4].fill(0xff);
        std::fs::write(folder.file("bus.db"), bytes).expect("written");
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "shipping").await;
        assert_eq!(drain(&mut *reader, 1).await, ["whole"]);
        let letters = list(&bus).await;
        assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "unreadable"));
        let references = [letters[0].reference.clone()];
        bus.discard(&references, "anna", "damaged").await.expect("discarded");
        assert_eq!(list(&bus).await, []);
    });
}
