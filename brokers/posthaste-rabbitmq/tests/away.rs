//! A broker that is away, silent, full, or killed: no call hangs and nothing is claimed.

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste_conformance::run;
use posthaste_conformance::sample::{keyed, message};
use posthaste_core::Broker;
use posthaste_servers::{Direction, Proxy};
use tokio::time::{Instant, sleep, timeout_at};

use crate::support::*;

async fn proxied(vhost: &posthaste_servers::TestVhost) -> Proxy {
    Proxy::before(vhost.server().port()).await.expect("a port")
}

/// The confirmation is lost on the way: nobody knows, and the same id goes again.
#[test]
fn what_is_not_confirmed_is_unknown_and_goes_again_with_the_same_id() {
    run("lost confirmation", async {
        let vhost = vhost().await;
        let direct = open(&vhost.url());
        let mut subscriber = subscribe(&direct, "orders").await;
        let proxy = proxied(&vhost).await;
        let rabbit = open(&proxy.url(&vhost.url()));
        accept(&rabbit, &[message("orders")]).await;
        let call = [keyed("orders", "a", "1"), keyed("orders", "b", "2")];
        proxy.swallow(Direction::ToClient);
        let publisher = rabbit.publisher();
        let stated = call.clone();
        let flying = tokio::spawn(async move { publisher.publish(&stated).await });
        arrive(subscriber.as_mut(), &ids(&call)).await;
        proxy.reset();
        proxy.heal().await;
        let outcomes = within("the call ends", flying).await.expect("ends").expect("was sent");
        assert!(outcomes.iter().all(is_unknown), "{outcomes:?}");
        accept(&rabbit, &call).await;
        let again = one(subscriber.as_mut()).await;
        assert!(call.iter().any(|stated| stated.id == again.message.id), "it comes a second time");
    });
}

/// The broker takes everything and says nothing: the call ends by its own time.
#[test]
fn a_call_ends_within_its_own_time() {
    run("own time", async {
        let vhost = vhost().await;
        let proxy = proxied(&vhost).await;
        let patience = Duration::from_secs(2);
        let rabbit = open_with(&proxy.url(&vhost.url()), |options| {
            options.publish_within = patience;
            options.heartbeat = Duration::from_secs(60);
        });
        let mut subscriber = subscribe(&rabbit, "orders").await;
        accept(&rabbit, &[message("orders")]).await;
        arrive(subscriber.as_mut(), &[]).await;
        proxy.swallow(Direction::ToClient);
        let begin = Instant::now();
        let outcomes = publish(&rabbit, &[message("orders")]).await;
        assert!(outcomes.iter().all(is_unknown), "{outcomes:?}");
        assert!(begin.elapsed() < patience * 2, "{:?}", begin.elapsed());
    });
}

/// Silence in both directions is noticed by heartbeats, long before the time of the call is over.
#[test]
fn a_broker_that_is_silent_is_lost_after_two_heartbeats() {
    run("silence", async {
        let vhost = vhost().await;
        let proxy = proxied(&vhost).await;
        let rabbit = open_with(&proxy.url(&vhost.url()), |options| {
            options.heartbeat = Duration::from_secs(1);
            options.publish_within = Duration::from_secs(60);
        });
        drop(subscribe(&rabbit, "orders").await);
        accept(&rabbit, &[message("orders")]).await;
        proxy.stall(Direction::ToServer);
        proxy.stall(Direction::ToClient);
        let begin = Instant::now();
        let outcomes = publish(&rabbit, &[message("orders")]).await;
        assert!(outcomes.iter().all(is_unknown), "{outcomes:?}");
        assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
        proxy.reset();
        proxy.heal().await;
        accept(&rabbit, &[message("orders")]).await;
    });
}

/// The connection is cut at every few bytes of what the client sends: each call ends with an honest
/// outcome, and what is accepted arrives.
#[test]
fn wherever_a_connection_is_cut_nothing_accepted_is_lost() {
    run("cut anywhere", async {
        let vhost = vhost().await;
        let direct = open(&vhost.url());
        let mut subscriber = subscribe(&direct, "orders").await;
        let proxy = proxied(&vhost).await;
        let rabbit = open(&proxy.url(&vhost.url()));
        let (mut accepted, mut unknown) = (Vec::new(), 0);
        for (round, direction) in
            (0..16).flat_map(|n| [(n, Direction::ToServer), (n, Direction::ToClient)])
        {
            eventually("publishing works", async || {
                let stated = message("orders");
                let outcomes = rabbit.publisher().publish(std::slice::from_ref(&stated)).await;
                outcomes.is_ok_and(|outcomes| is_accepted(&outcomes[0]))
            })
            .await;
            proxy.cut_after(direction, round * 37);
            let call: Vec<_> = (0..8).map(|n| keyed("orders", &n.to_string(), "{}")).collect();
            let ended = within("a publish ends", rabbit.publisher().publish(&call)).await;
            for (stated, outcome) in call.iter().zip(ended.unwrap_or_default()) {
                assert!(is_accepted(&outcome) || is_unknown(&outcome), "{outcome:?}");
                unknown += usize::from(is_unknown(&outcome));
                accepted.extend(is_accepted(&outcome).then_some(stated.id));
            }
            proxy.heal().await;
            proxy.reset();
        }
        assert!(unknown > 0, "some cut hit");
        arrive(subscriber.as_mut(), &accepted).await;
    });
}

/// The connection is cut while deliveries are being completed: every completion ends, those that
/// were claimed stay so, and the others come again.
#[test]
fn wherever_a_connection_is_cut_every_completion_ends() {
    run("cut while completing", async {
        let vhost = vhost().await;
        let direct = open(&vhost.url());
        let proxy = proxied(&vhost).await;
        let rabbit = open_with(&proxy.url(&vhost.url()), |options| {
            options.heartbeat = Duration::from_secs(1);
            options.delivery_limit = 10_000;
        });
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let (sender, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        let receiving = tokio::spawn(async move {
            loop {
                match subscriber.receive(100).await {
                    Ok(got) => got.into_iter().for_each(|one| drop(sender.send(one))),
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        });
        let (mut failed, mut completed) = (0, BTreeSet::new());
        for round in 0..40 {
            let call: Vec<_> = (0..20).map(|_| message("orders")).collect();
            accept(&direct, &call).await;
            let mut held = vec![within("one arrives", arrived.recv()).await.expect("it goes on")];
            let until = Instant::now() + Duration::from_millis(10);
            while let Ok(Some(next)) = timeout_at(until, arrived.recv()).await {
                held.push(next);
            }
            let settling: Vec<_> = held.into_iter().map(|one| tokio::spawn(settle(one))).collect();
            sleep(Duration::from_micros(300 * (round % 8))).await;
            proxy.reset();
            for one in settling {
                let (id, ended) = within("a completion ends", one).await.expect("ends");
                match ended {
                    Ok(()) => assert!(completed.insert(id), "what was completed came again"),
                    Err(_) => failed += 1,
                }
            }
        }
        receiving.abort();
        assert!(failed > 0 && !completed.is_empty(), "{failed} {}", completed.len());
    });
}

async fn settle(
    delivery: posthaste_core::Delivery,
) -> (posthaste_core::MessageId, Result<(), posthaste_core::BrokerError>) {
    (delivery.message.id, delivery.complete().await)
}

/// Memory is short at the broker: nothing is sent and nothing is counted, until it takes again.
#[test]
fn a_blocked_broker_pauses_publishing() {
    run("blocked", async {
        let server = server().await;
        let vhost = server.vhost().await;
        let rabbit = open_with(&vhost.url(), |options| {
            options.publish_within = Duration::from_secs(3);
        });
        let mut subscriber = subscribe(&rabbit, "orders").await;
        accept(&rabbit, &[message("orders")]).await;
        server.set_memory_alarm(true).await;
        let publisher = rabbit.publisher();
        let mut refused = Vec::new();
        eventually("publishers are told", async || {
            let stated = message("orders");
            match publisher.publish(std::slice::from_ref(&stated)).await {
                Err(unavailable) => {
                    assert!(unavailable.context.contains("blocked"), "{unavailable}");
                    refused.push(stated.id);
                    refused.len() > 3
                }
                Ok(_) => false,
            }
        })
        .await;
        let findings = rabbit.check().await;
        assert!(findings.iter().any(|finding| finding.what.contains("blocked")), "{findings:?}");
        server.set_memory_alarm(false).await;
        let last = message("orders");
        eventually("publishing goes on", async || {
            let outcomes = publisher.publish(std::slice::from_ref(&last)).await;
            outcomes.is_ok_and(|outcomes| is_accepted(&outcomes[0]))
        })
        .await;
        loop {
            let delivery = one(subscriber.as_mut()).await;
            let id = delivery.message.id;
            assert!(!refused.contains(&id), "what was not sent is not delivered");
            delivery.complete().await.expect("complete");
            if id == last.id {
                return;
            }
        }
    });
}

/// The broker is killed while it is published to, and started again.
#[test]
fn what_was_accepted_survives_a_killed_broker() {
    run("killed", async {
        let server = server().await;
        let vhost = server.vhost().await;
        let rabbit = open(&vhost.url());
        let mut subscriber = subscribe(&rabbit, "orders").await;
        // RabbitMQ 3.10 writes the name of a new quorum queue to its disk with a delay of seconds;
        // one that is younger comes back empty. There is nothing to look at that shows the end of
        // it.
        sleep(Duration::from_secs(6)).await;
        let publisher = rabbit.publisher();
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let publishing = tokio::spawn(async move {
            let mut accepted = Vec::new();
            let (mut failures, mut after) = (0, 0);
            while !*stopped.borrow_and_update() || after == 0 {
                let call: Vec<_> = (0..20).map(|_| message("orders")).collect();
                match publisher.publish(&call).await {
                    Ok(outcomes) => {
                        let ok = call.iter().zip(&outcomes).filter(|(_, it)| is_accepted(it));
                        let before = accepted.len();
                        accepted.extend(ok.map(|(stated, _)| stated.id));
                        after += usize::from(failures > 0 && accepted.len() > before);
                        sleep(Duration::from_millis(20)).await;
                    }
                    Err(_) => {
                        failures += 1;
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            (accepted, failures)
        });
        sleep(Duration::from_millis(500)).await;
        server.kill().await;
        server.restart().await;
        stop.send(true).expect("somebody listens");
        let (accepted, failures) = within("publishing goes on", publishing).await.expect("ends");
        assert!(failures > 0 && !accepted.is_empty());
        arrive(subscriber.as_mut(), &accepted).await;
    });
}
