//! The demo on servers: kept, broken where it must be, and nothing is left there.

use posthaste_servers::{Postgres, RabbitMq, TestDatabase, TestVhost};
use rustix::process::Signal;
use serde_json::Value;

use super::Servers;
use crate::place::Running;

/// What the demo may leave.
async fn left(database: &TestDatabase, vhost: &TestVhost) -> (String, usize) {
    let schemas = "select coalesce(string_agg(nspname, ','), '') from pg_namespace \
                   where nspname like 'posthaste%'";
    let schemas = database.psql(schemas).await.expect("the database answers");
    let mut named = 0;
    for kind in ["queues", "exchanges"] {
        let path = format!("/api/{kind}/{}", vhost.name);
        let (_, listed) = vhost.server().api("GET", &path, "").await;
        named += listed.matches("posthaste_demo_").count();
    }
    (schemas, named)
}

fn arguments<'a>(database: &'a str, broker: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["demo", "--database", database, "--broker", broker];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn the_promise_is_kept_on_servers_and_nothing_is_left_there() {
    let Some(servers) = Servers::empty().await else { return };
    let (database, broker) = (servers.database.url(), servers.vhost.url());
    let more = ["--json", "--messages", "200", "--kills", "2"];
    let ended = servers.place.run(arguments(&database, &broker, &more)).with(0);
    let last = ended.out.lines().last().unwrap_or_default();
    let result: Value = serde_json::from_str(last).expect("an object");
    for (name, expected) in [
        ("committed", 200),
        ("delivered", 200),
        ("effects", 200),
        ("kills", 2),
        ("lost", 0),
        ("phantom", 0),
        ("order_violations", 0),
        ("double_effects", 0),
    ] {
        assert_eq!(result[name], expected, "{name} in {result}");
    }
    assert_eq!(
        (&result["database"], &result["broker"]),
        (&"PostgreSQL".into(), &"RabbitMQ".into())
    );
    assert_eq!(result["verdict"], "kept");
    assert_eq!(left(&servers.database, &servers.vhost).await, (String::new(), 0));
}

#[tokio::test]
async fn a_broken_rule_is_noticed_on_servers_and_nothing_is_left_there() {
    let Some(servers) = Servers::empty().await else { return };
    let (database, broker) = (servers.database.url(), servers.vhost.url());
    let more = ["--messages", "150", "--kills", "2", "--sabotage", "new-identity"];
    let ended = servers.place.run(arguments(&database, &broker, &more)).with(1);
    assert!(ended.out.contains("BROKEN"), "{ended:?}");
    assert_eq!(left(&servers.database, &servers.vhost).await, (String::new(), 0));
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing_at_the_servers() {
    let Some(servers) = Servers::empty().await else { return };
    let (database, broker) = (servers.database.url(), servers.vhost.url());
    let all = arguments(&database, &broker, &["--messages", "50000"]);
    let mut demo = Running::start(servers.place.command(all));
    demo.tells("committed");
    for _ in 0..600 {
        if left(&servers.database, &servers.vhost).await.1 > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    demo.signal(Signal::INT);
    assert_eq!(demo.wait(), 1);
    assert_eq!(left(&servers.database, &servers.vhost).await, (String::new(), 0));
}

#[tokio::test]
async fn what_cannot_be_removed_is_said() {
    if let Some(reason) = Postgres::missing().or_else(RabbitMq::missing) {
        return posthaste_servers::skip(&reason);
    }
    let Some(servers) = Servers::empty().await else { return };
    // A server of its own, because it goes away.
    let postgres = Postgres::start(posthaste_servers::PostgresOptions::new()).await;
    let (database, broker) = (postgres.url("postgres"), servers.vhost.url());
    let all = arguments(&database, &broker, &["--messages", "50000"]);
    let mut demo = Running::start(servers.place.command(all));
    demo.tells("committed");
    postgres.stop().await;
    assert_eq!(demo.wait(), 1);
    let said = demo.errors.all().join("\n");
    assert!(said.contains("drop schema if exists \"posthaste_demo_"), "{said}");
}

#[tokio::test]
async fn one_server_is_enough_and_a_file_is_no_server() {
    let Some(servers) = Servers::empty().await else { return };
    let broker = servers.vhost.url();
    let small = ["--messages", "40", "--kills", "1", "--json"];
    let only = ["demo", "--broker", &broker].into_iter().chain(small);
    let ended = servers.place.run(only).with(0);
    assert!(ended.out.contains("\"database\":\"SQLite\""), "{ended:?}");
    for wrong in ["sqlite:///tmp/x.db", "nothing"] {
        let refused = servers.place.run(["demo", "--database", wrong]).with(2);
        assert!(refused.err.contains("postgres://"), "{refused:?}");
    }
}
