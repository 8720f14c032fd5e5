//! What is said, and what can still be stopped, where a broker says nothing or keeps it to itself.

use std::time::{Duration, Instant};

use posthaste_servers::{Direction, Proxy};

use super::{Servers, printed};

/// The time limit for ending, far below the time after which a silent broker is given up.
const SOON: Duration = Duration::from_secs(10);

/// Waits until somebody receives from the queue. The broker's figures are some seconds old.
async fn consumed(servers: &Servers) {
    let path = format!("/api/queues/{}/orders.default", servers.vhost.name);
    for _ in 0..600 {
        let (_, queue) = servers.vhost.server().api("GET", &path, "").await;
        if queue.contains("\"consumers\":1") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody receives from the queue");
}

// The proxy has to go on while this waits for processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_ends_although_the_broker_confirms_nothing() {
    let Some(servers) = Servers::ready().await else { return };
    let upstream = ([127, 0, 0, 1], servers.vhost.server().port()).into();
    let proxy = Proxy::start(upstream).await.expect("it listens");
    let relay = servers.relay();
    let url = proxy.url(&servers.vhost.url());
    let subscriber = servers.subscribed(&["--broker", &url]).await;
    consumed(&servers).await;
    proxy.stall(Direction::ToServer);
    let id = servers.publish(&["orders", "order.placed", "x"]);
    assert_eq!(printed(&subscriber, 1)[0]["id"], id.as_str());
    let begun = Instant::now();
    let errors = subscriber.errors.clone();
    assert_eq!(subscriber.stop(), 0);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(errors.all().iter().any(|line| line.contains("printed again")), "{:?}", errors.all());
    let again = servers.subscribed(&["--count", "1"]).await;
    assert_eq!(printed(&again, 1)[0]["id"], id.as_str());
    assert_eq!(relay.stop(), 0);
}

#[tokio::test]
async fn a_relay_that_stands_by_says_at_once_that_its_broker_does_not_let_it_in() {
    let Some(servers) = Servers::ready().await else { return };
    let leader = servers.relay();
    servers.comes_to("/lanes", 1);
    let wrong = servers.vhost.url_as("guest", "canary-2f01");
    let standby = servers.place.start(["run", "--broker", &wrong]);
    standby.tells("does not let user 'guest' in");
    let errors = standby.errors.clone();
    assert_eq!(standby.stop(), 0);
    assert!(!errors.all().iter().any(|line| line.contains("canary")), "{:?}", errors.all());
    assert_eq!(leader.stop(), 0);
}

#[tokio::test]
async fn queues_that_nobody_has_named_are_spoken_of() {
    let Some(servers) = Servers::ready().await else { return };
    let place = &servers.place;
    let says = "set [broker] subscriptions";
    let listed = place.run(["dead", "list"]).with(0);
    assert!(listed.err.contains(says), "{listed:?}");
    let listed = place.run(["dead", "list", "--json"]).with(0);
    assert!(
        listed.told()["warning"].as_str().is_some_and(|said| said.contains(says)),
        "{listed:?}"
    );
    assert_eq!(listed.json()["dead_letters"].as_array().map(Vec::len), Some(0));
    let shown = place.run(["dead", "show", "orders.default/x"]).with(2);
    assert!(shown.err.contains(says), "{shown:?}");
    let shown = place.run(["dead", "show", "01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d"]).with(1);
    assert!(shown.err.contains(says), "{shown:?}");
    let all = place.run(["dead", "repost", "--all", "--yes"]).with(0);
    assert!(all.err.contains(says), "{all:?}");
    assert_eq!(servers.subscribed(&[]).await.stop(), 0);
    for named in ["[]", "orders.default", "[\"orders.default\"]"] {
        let set = format!("broker.subscriptions={named}");
        let listed = place.run(["dead", "list", "--set", &set]).with(0);
        assert!(!listed.err.contains(says), "{listed:?}");
    }
    let broker = format!("[broker]\nurl = \"{}\"\n", servers.vhost.url());
    place.write("posthaste.toml", &broker);
    let alone = place.run(["dead", "list"]).with(2);
    assert!(alone.err.contains(says), "{alone:?}");
}

#[tokio::test]
async fn a_message_is_printed_as_it_is_whatever_the_password_is() {
    let Some(servers) = Servers::ready().await else { return };
    let relay = servers.relay();
    let password = "guest-of-orders";
    let user = format!("visitor-{}", servers.vhost.name);
    servers.vhost.user(&user, password, ".*", ".*", ".*").await;
    let url = servers.vhost.url_as(&user, password);
    let subscriber = servers.subscribed(&["--broker", &url]).await;
    servers.publish(&["orders", password, password, "--key", password]);
    let message = &printed(&subscriber, 1)[0];
    for field in ["kind", "key", "payload"] {
        assert_eq!(message[field], password, "{message}");
    }
    assert_eq!(subscriber.stop(), 0);
    let well = servers.place.run(["doctor", "--json"]).with(0);
    assert!(well.out.contains("as user 'guest'"), "{well:?}");
    assert_eq!(relay.stop(), 0);
}
