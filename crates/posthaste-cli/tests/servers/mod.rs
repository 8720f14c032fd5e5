//! The binary on real servers: PostgreSQL and RabbitMQ in place of the files.

mod demo;
mod errors;
mod operator;
mod silence;

use posthaste_servers::{TestDatabase, TestVhost, postgres_or_skip, rabbitmq_or_skip};
use serde_json::Value;

use crate::place::{Place, Running, eventually};

/// A folder with settings that name a database and a virtual host of its own.
struct Servers {
    place: Place,
    database: TestDatabase,
    vhost: TestVhost,
}

impl Servers {
    /// Nothing, after saying so, where they are not installed.
    async fn ready() -> Option<Self> {
        let servers = Self::empty().await?;
        servers.place.run(["migrate"]).with(0);
        Some(servers)
    }

    /// The same without tables.
    async fn empty() -> Option<Self> {
        let database = postgres_or_skip().await?.database().await;
        let vhost = rabbitmq_or_skip().await?.vhost().await;
        let servers = Self { place: Place::new(), database, vhost };
        servers.settings("");
        Some(servers)
    }

    /// Writes the settings, with these after the URL of the broker.
    fn settings(&self, more: &str) {
        let (database, broker) = (self.database.url(), self.vhost.url());
        let text =
            format!("[database]\nurl = \"{database}\"\n[broker]\nurl = \"{broker}\"\n{more}\n");
        self.place.write("posthaste.toml", &text);
    }

    fn publish(&self, arguments: &[&str]) -> String {
        let all = ["publish"].into_iter().chain(arguments.iter().copied());
        self.place.run(all).with(0).out.trim().to_owned()
    }

    fn status(&self) -> Value {
        self.place.run(["status", "--json"]).with(0).json()
    }

    /// Waits until a figure of the status is as expected.
    #[track_caller]
    fn comes_to(&self, pointer: &str, expected: u64) {
        eventually(&format!("{pointer} is {expected}"), || {
            let status = self.status();
            (status.pointer(pointer)? == &Value::from(expected)).then_some(())
        });
    }

    /// A relay that is at work.
    fn relay(&self) -> Running {
        let relay = self.place.start(["run"]);
        relay.tells("relaying");
        relay
    }

    /// A subscriber that is bound.
    async fn subscribed(&self, arguments: &[&str]) -> Running {
        let all = ["subscribe", "orders", "--json"].into_iter().chain(arguments.iter().copied());
        let subscriber = self.place.start(all);
        let name = match arguments {
            ["--as", name, ..] => name,
            _ => "default",
        };
        for _ in 0..600 {
            let path = format!("/api/queues/{}/orders.{name}/bindings", self.vhost.name);
            let (_, bindings) = self.vhost.server().api("GET", &path, "").await;
            if bindings.contains("\"source\":\"orders\"") {
                return subscriber;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("nobody is bound: {:?}", subscriber.errors.all());
    }
}

/// What a subscriber has printed, once it is this many lines.
#[track_caller]
fn printed(subscriber: &Running, lines: usize) -> Vec<Value> {
    eventually(&format!("{lines} lines"), || {
        let all = subscriber.lines.all();
        (all.len() >= lines).then(|| {
            all.iter().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
        })
    })
}

#[tokio::test]
async fn a_message_goes_from_one_server_to_the_other() {
    let Some(servers) = Servers::empty().await else { return };
    let (database, broker) = (servers.database.url(), servers.vhost.url());
    let file = ["--config", "made.toml"];
    let init = ["init", "--database", &database, "--broker", &broker];
    servers.place.run(init.into_iter().chain(file)).with(0);
    servers.place.run(["check"].into_iter().chain(file)).with(0);
    servers.place.run(["migrate"].into_iter().chain(file)).with(0);
    let migrated = servers.place.run(["migrate", "--json"]).with(0).json();
    assert_eq!(migrated["changed"], false, "{migrated}");

    let relay = servers.relay();
    let mut subscriber = servers.subscribed(&["--count", "3"]).await;
    let first =
        servers.publish(&["orders", "order.placed", "{\"n\":1}", "--key", "k", "--header", "a=ü"]);
    let second = servers.publish(&["orders", "order.paid", "{\\\"n\\\":2}", "--key", "k"]);
    servers.place.write("bytes", "a\0b");
    let third = servers.publish(&["orders", "order.drawn", "@bytes", "--due", "1s"]);
    assert_eq!(subscriber.wait(), 0, "{:?}", subscriber.errors.all());
    let arrived = printed(&subscriber, 3);
    let ids: Vec<&str> = arrived.iter().filter_map(|message| message["id"].as_str()).collect();
    assert_eq!(ids, [first, second, third]);
    assert_eq!(arrived[0]["topic"], "orders");
    assert_eq!(arrived[0]["kind"], "order.placed");
    assert_eq!(arrived[0]["key"], "k");
    assert_eq!(arrived[0]["headers"]["a"], "ü");
    assert_eq!(arrived[0]["payload"], "{\"n\":1}");
    assert_eq!(arrived[1]["payload"], "{\\\"n\\\":2}", "backslashes stay");
    assert_eq!(arrived[2]["payload"], "a\0b");
    servers.comes_to("/backlog", 0);
    let status = servers.status();
    assert_eq!(status["dead_letters"], 0, "{status}");
    assert_eq!(status["leases"].as_array().map(Vec::len), Some(1), "{status}");
    let listed = servers.place.run(["outbox", "list", "--json"]).with(0).out;
    assert_eq!(listed.matches("\"sent\"").count(), 3, "{listed}");
    assert_eq!(relay.stop(), 0);
    assert_eq!(servers.status()["leases"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn a_relay_on_servers_waits_for_the_schema_and_for_whoever_listens() {
    let Some(servers) = Servers::empty().await else { return };
    let relay = servers.place.start(["run"]);
    relay.tells("posthaste migrate");
    servers.place.run(["migrate"]).with(0);
    relay.tells("relaying");
    let id = servers.publish(&["orders", "order.placed", "x"]);
    servers.comes_to("/held/unroutable", 1);
    let subscriber = servers.subscribed(&[]).await;
    assert_eq!(printed(&subscriber, 1)[0]["id"], id.as_str());
    servers.comes_to("/held/unroutable", 0);
    assert_eq!(subscriber.stop(), 0);
    assert_eq!(relay.stop(), 0);
}

#[tokio::test]
async fn names_of_ones_own_stand_beside_others() {
    let Some(servers) = Servers::empty().await else { return };
    servers.settings("prefix = \"shop.\"\n[relay]\nlanes = 2\n");
    let names = ["--set", "database.schema=shop_messages"];
    servers.place.run(["migrate"].into_iter().chain(names)).with(0);
    let made = "select count(*) from shop_messages.outbox";
    assert_eq!(servers.database.psql(made).await.as_deref(), Ok("0"));
    let relay = servers.place.start(["run"].into_iter().chain(names));
    relay.tells("relaying");
    let subscriber = servers.place.start(["subscribe", "orders", "--json"]);
    let publish = ["publish", "orders", "order.placed", "x", "--key", "k"];
    servers.place.run(publish.into_iter().chain(names)).with(0);
    assert_eq!(printed(&subscriber, 1)[0]["key"], "k");
    assert!(servers.vhost.describe("queues", "shop.orders.default").await.is_some());
    eventually("there are two lanes", || {
        let shown = servers.place.run(["lanes", "show", "--json"].into_iter().chain(names));
        (shown.with(0).json()["now"] == 2).then_some(())
    });
    assert_eq!(relay.stop(), 0);
    servers.place.run(["status"]).with(1);
}
