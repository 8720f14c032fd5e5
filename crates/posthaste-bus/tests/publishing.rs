//! Publishing: outcomes, limits, prefixes, groups.

use posthaste_core::{Broker, Headers, Outcome, Payload};

use crate::support::*;

#[test]
fn a_message_arrives_byte_for_byte() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let mut first = message("orders", Some("ä key"), "ünïcode");
        first.headers = Headers::from_iter([("trace-id", "a \"b\" \\ ü")]);
        first.content_type = Some("text/plain".into());
        let mut second = message("orders", None, "");
        second.payload = Payload::bytes((0..=255).collect::<Vec<u8>>());
        let mut third = message("orders", None, "");
        third.payload = Payload::bytes(vec![7; 3 * 1024 * 1024]);
        let sent = vec![first, second, third];
        publish(&bus, &sent).await;
        let mut got = Vec::new();
        for delivery in take(&mut *reader, 3).await {
            assert_eq!(delivery.attempt, 1);
            assert!(delivery.lock.is_some());
            got.push(delivery.message.clone());
            delivery.complete().await.expect("completed");
        }
        assert_eq!(got, sent);
    });
}

#[test]
fn a_refused_message_fails_its_followers_and_nobody_else() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open_with(|options| options.max_payload = 10);
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let batch = [
            message("orders", Some("a"), "a1"),
            message("orders", Some("a"), "this is too long"),
            message("orders", Some("a"), "a2"),
            message("orders", Some("b"), "b1"),
            message("orders", None, "this is too long as well"),
            message("orders", None, "c1"),
            message("a bad topic", None, "d1"),
        ];
        let outcomes = bus.publisher().publish(&batch).await.expect("available");
        let words: Vec<&str> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Accepted(_) => "accepted",
                Outcome::Refused(refusal) if refusal.permanent => "for good",
                Outcome::Refused(_) => "for now",
                Outcome::Unroutable { .. } => "unroutable",
                Outcome::Unknown { .. } => "unknown",
            })
            .collect();
        let wanted =
            ["accepted", "for good", "for now", "accepted", "for good", "accepted", "for good"];
        assert_eq!(words, wanted);
        assert_eq!(drain(&mut *reader, 3).await, ["a1", "b1", "c1"]);
    });
}

#[test]
fn a_call_of_many_messages_keeps_their_order() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        publish(&bus, &messages("orders", Some("k"), 2500)).await;
        let got = drain(&mut *reader, 2500).await;
        assert_eq!(got, (0..2500).map(|number| number.to_string()).collect::<Vec<_>>());
    });
}

#[test]
fn a_full_file_is_away_for_publishers_and_goes_on_when_there_is_room() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open_with(|options| options.max_pages = Some(64));
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let large = "x".repeat(20_000);
        let mut accepted = 0;
        let said = loop {
            let batch = [message("orders", None, &large)];
            match bus.publisher().publish(&batch).await {
                Ok(outcomes) => assert!(matches!(outcomes[..], [Outcome::Accepted(_)])),
                Err(unavailable) => break unavailable.to_string(),
            }
            accepted += 1;
            assert!(accepted < 100, "the file was never full");
        };
        assert!(said.contains("free space"), "{said}");
        assert!(accepted > 3);
        assert_eq!(drain(&mut *reader, accepted).await.len(), accepted);
        until(async || {
            let batch = [message("orders", None, &large)];
            let said = bus.publisher().publish(&batch).await;
            said.is_ok_and(|outcomes| matches!(outcomes[..], [Outcome::Accepted(_)]))
        })
        .await;
    });
}

#[test]
fn many_publishers_at_once_lose_nothing() {
    run(async {
        let folder = Folder::new();
        let bus = folder.open();
        let mut reader = subscribe(&bus, "orders", "reader").await;
        let mut tasks = Vec::new();
        for task in 0..64 {
            let bus = bus.clone();
            tasks.push(tokio::spawn(async move {
                for number in 0..20 {
                    let text = format!("{task}-{number}");
                    publish(&bus, &[message("orders", Some(&task.to_string()), &text)]).await;
                }
            }));
        }
        let mut got = Vec::new();
        while got.len() < 64 * 20 {
            for delivery in within(reader.receive(256)).await.expect("received") {
                got.push(text(&delivery));
                delivery.complete().await.expect("completed");
            }
        }
        for task in tasks {
            task.await.expect("published");
        }
        for task in 0..64 {
            let prefix = format!("{task}-");
            let of: Vec<_> = got.iter().filter(|text| text.starts_with(&prefix)).collect();
            let wanted: Vec<_> = (0..20).map(|number| format!("{task}-{number}")).collect();
            assert!(of.into_iter().eq(wanted.iter()), "order of key {task}");
        }
        assert_eq!(status(&bus, "reader").await.active, 0);
    });
}

#[test]
fn a_runtime_with_paused_time_does_not_cut_calls_short() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let folder = Folder::new();
        let bus = folder.open();
        let client = folder.open();
        let mut reader = subscribe(&client, "orders", "reader").await;
        for number in 0..20 {
            let batch = [message("orders", None, &number.to_string())];
            let outcomes = bus.publisher().publish(&batch).await.expect("available");
            assert!(matches!(outcomes[..], [Outcome::Accepted(_)]), "{outcomes:?}");
            let delivery = reader.receive(1).await.expect("received").remove(0);
            delivery.complete().await.expect("completed");
        }
        bus.close().await;
    });
}
