//! A client that does not listen.

use bytes::Bytes;
use posthaste_core::{Broker, Headers, Message, MessageId, Subscription, Timestamp};

use super::*;
use crate::bus::Bus;
use crate::options::BusOptions;

const MESSAGES: usize = 200;

fn message(number: usize) -> Message {
    let at = Timestamp::from_micros(i64::try_from(number).expect("small"));
    let id = MessageId::v7(at, [7; 10]);
    let body = Bytes::from(vec![7; 512 * 1024]);
    Message { headers: Headers::new(), ..Message::new(id, "orders", "order.placed", body, at) }
}

async fn say(stream: &mut UnixStream, number: u64, request: Request) {
    let frame = wire::frame(&Up { number, request }).expect("framed");
    stream.write_all(&frame).await.expect("sent");
}

#[test]
fn a_client_that_does_not_listen_gets_no_more_than_fits_and_holds_up_nobody() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("bus.db");
        let url = format!("bus://{}", file.display());
        let bus = Bus::open(&url, BusOptions::default()).expect("opened");
        let mut reader =
            bus.subscriber(&Subscription::new("orders", "reader")).await.expect("open");

        bus.status().await.expect("up");
        let path = beside(&file, "sock");
        let mut deaf = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        wire::greet(&mut deaf, 1).await.expect("greeted");
        let (address, name) = ("orders".to_owned(), "deaf".to_owned());
        say(&mut deaf, 1, Request::Attach { consumer: 1, address, name, ordered: true }).await;
        while bus.status().await.expect("up").iter().all(|one| one.name != "deaf") {
            tokio::task::yield_now().await;
        }

        let messages: Vec<_> = (0..MESSAGES).map(message).collect();
        bus.publisher().publish(&messages).await.expect("published");
        for _ in 0..MESSAGES {
            say(&mut deaf, 0, Request::Demand { consumer: 1, most: 1000 }).await;
        }
        let mut taken = 0;
        while taken < MESSAGES {
            for delivery in reader.receive(50).await.expect("received") {
                delivery.complete().await.expect("completed");
                taken += 1;
            }
        }
        let figures = bus.status().await.expect("up");
        let figures = figures.iter().find(|one| one.name == "deaf").expect("there");
        // Two batches fill its queue; one more may have gone into the socket.
        assert!((1..=60).contains(&figures.locked), "{figures:?}");
        drop(deaf);
        let all = u64::try_from(MESSAGES).expect("small");
        let is_back = async || {
            let figures = bus.status().await.expect("up");
            figures.iter().any(|one| one.name == "deaf" && one.locked == 0 && one.active == all)
        };
        while !is_back().await {
            tokio::task::yield_now().await;
        }
        bus.close().await;
    });
}
