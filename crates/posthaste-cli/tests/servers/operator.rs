//! What operators do: dead letters, doctor, adoption, roles.

use serde_json::{Value, json};

use super::{Servers, printed};

fn findings(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().into_iter().flatten();
    findings.map(|finding| format!("{} {}", finding["severity"], finding["subject"])).collect()
}

#[tokio::test]
async fn dead_letters_are_listed_shown_sent_again_and_given_up() {
    let Some(servers) = Servers::ready().await else { return };
    servers.settings("[relay]\nunroutable = \"dead\"\n");
    let relay = servers.relay();
    let first = servers.publish(&["orders", "order.placed", "{\"n\":1}", "--key", "k"]);
    let second = servers.publish(&["orders", "order.placed", "2", "--key", "l"]);
    servers.comes_to("/dead_letters", 2);
    let place = &servers.place;
    let listed = place.run(["dead", "list", "--json"]).with(0).json();
    let letters = listed["dead_letters"].as_array().cloned().unwrap_or_default();
    let ids: Vec<&str> = letters.iter().filter_map(|letter| letter["id"].as_str()).collect();
    assert_eq!(ids, [first.as_str(), second.as_str()]);
    assert_eq!(letters[0]["reason"], "unroutable", "{listed}");
    let shown = place.run(["dead", "show", &first, "--json"]).with(0).json();
    assert_eq!(shown["payload"], "{\"n\":1}", "{shown}");

    let subscriber = servers.subscribed(&[]).await;
    let preview = place.run(["dead", "repost", "--all", "--json"]).with(2);
    assert!(preview.out.contains("\"count\":2"), "{preview:?}");
    let reposted = place.run(["dead", "repost", &first, "--actor", "me", "--json"]).with(0).json();
    assert_eq!(reposted["actor"], "me");
    assert_eq!(printed(&subscriber, 1)[0]["id"], first.as_str());
    place.run(["dead", "discard", &second, "--reason", "a test", "--actor", "me"]).with(0);
    servers.comes_to("/dead_letters", 0);
    let audit = "select string_agg(actor || ' ' || action, ',' order by action) \
                 from posthaste.audit";
    assert_eq!(servers.database.psql(audit).await.as_deref(), Ok("me discard,me repost"));
    place.run(["dead", "show", &second]).with(1);
    assert_eq!(relay.stop(), 0);
}

#[tokio::test]
async fn dead_letters_of_a_queue_are_shown_where_the_settings_name_it() {
    let Some(servers) = Servers::ready().await else { return };
    servers.settings("subscriptions = [\"orders.default\"]\n");
    let subscriber = servers.subscribed(&[]).await;
    assert_eq!(subscriber.stop(), 0);
    let id = "01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d";
    let dead = json!({
        "properties": { "message_id": id, "type": "order.placed", "delivery_mode": 2 },
        "routing_key": "orders.default.dead",
        "payload": "late",
        "payload_encoding": "string",
    });
    let path = format!("/api/exchanges/{}/amq.default/publish", servers.vhost.name);
    let (status, said) = servers.vhost.server().api("POST", &path, &dead.to_string()).await;
    assert!(status == 200 && said.contains("true"), "{status} {said}");
    let listed = servers.place.run(["dead", "list", "--json"]).with(0).json();
    let letter = &listed["dead_letters"][0];
    assert_eq!(letter["id"], id, "{listed}");
    let reference = letter["reference"].as_str().expect("it has a reference");
    let shown = servers.place.run(["dead", "show", reference, "--json"]).with(0).json();
    assert_eq!(shown["payload"], "late", "{shown}");
    servers.place.run(["dead", "repost", reference]).with(0);
    let subscriber = servers.subscribed(&[]).await;
    assert_eq!(printed(&subscriber, 1)[0]["payload"], "late");
}

#[tokio::test]
async fn doctor_explains_what_it_finds_on_servers() {
    let Some(servers) = Servers::empty().await else { return };
    let sick = servers.place.run(["doctor", "--json"]).with(1);
    assert_eq!(sick.json()["ok"], false, "{sick:?}");
    assert!(sick.out.contains("posthaste migrate"), "{sick:?}");
    servers.place.run(["migrate"]).with(0);
    let well = servers.place.run(["doctor", "--json"]).with(0).json();
    assert_eq!(well["ok"], true, "{well}");
    let found = findings(&well);
    for part in ["database", "broker"] {
        assert!(found.iter().any(|line| line.contains(part)), "{part} in {found:?}");
    }
    for part in ["durability", "rights", "sequence", "clock", "pooling", "transactions"] {
        assert!(found.iter().any(|line| line.contains(part)), "{part} in {found:?}");
    }
    let shown = servers.place.run(["doctor"]).with(0).out;
    assert!(shown.lines().all(|line| !line.starts_with("problem")), "{shown}");
    let name = &servers.database.name;
    let weaken = format!("alter database {name} set synchronous_commit = off");
    servers.database.psql(&weaken).await.expect("a setting can be made");
    let weak = servers.place.run(["doctor", "--json"]).json();
    let findings = weak["findings"].as_array().expect("findings");
    let durability = findings.iter().find(|finding| {
        finding["subject"] == "database.durability" && finding["severity"] != "good"
    });
    assert!(durability.is_some_and(|finding| finding["advice"].is_string()), "{weak}");
}

#[tokio::test]
async fn a_copy_is_refused_until_it_is_adopted() {
    let Some(servers) = Servers::ready().await else { return };
    let none = servers.place.run(["adopt", "--json"]).with(0).json();
    assert_eq!(none, json!({ "would": "adopt", "reason": null }));
    servers.publish(&["orders", "order.placed", "x"]);
    let elsewhere = "update posthaste.cluster set system_identifier = system_identifier - 1";
    servers.database.psql(elsewhere).await.expect("the table can be written");
    let relay = servers.place.start(["run"]);
    relay.tells("posthaste adopt");
    let preview = servers.place.run(["adopt", "--json"]).with(2);
    let would: Value = preview.json();
    assert_eq!(would["would"], "adopt");
    assert!(would["reason"].as_str().is_some_and(|reason| reason.contains("copy")), "{would}");
    assert!(preview.err.contains("--yes"), "{preview:?}");
    servers.place.run(["adopt", "--yes", "--actor", " "]).with(2);
    let adopted = servers.place.run(["adopt", "--yes", "--actor", "me", "--json"]).with(0).json();
    assert_eq!(adopted["actor"], "me");
    assert!(adopted["adopted"].as_array().is_some_and(|notes| !notes.is_empty()), "{adopted}");
    let subscriber = servers.subscribed(&[]).await;
    assert_eq!(printed(&subscriber, 1)[0]["payload"], "x");
    assert_eq!(relay.stop(), 0);
    servers.place.run(["adopt"]).with(0);
}

#[tokio::test]
async fn printed_grants_are_enough_for_each_role_and_no_more() {
    let Some(servers) = Servers::ready().await else { return };
    let prefix = format!("cli_{}", servers.database.name);
    let parts = ["writer", "consumer", "relay", "operator"];
    let roles = parts.map(|part| format!("create role {prefix}_{part} login;")).join(" ");
    servers.database.psql(&roles).await.expect("roles can be made");
    let script = servers.place.run(["migrate", &format!("--grants={prefix}")]).with(0).out;
    servers.database.psql(&script).await.expect("the script runs");
    let url = |part: &str| servers.database.url_as(&format!("{prefix}_{part}"));
    let run = |part: &str, arguments: &[&str]| {
        let url = url(part);
        let all = arguments.iter().copied().chain(["--database", &url]);
        servers.place.run(all)
    };
    let relay_url = url("relay");
    let relay = servers.place.start(["run", "--database", &relay_url]);
    relay.tells("relaying");
    let subscriber = servers.subscribed(&[]).await;
    let statement = format!(
        "set role {prefix}_writer; select length(posthaste.publish('orders', 'k', 'x')::text)"
    );
    assert_eq!(servers.database.psql(&statement).await.as_deref(), Ok("36"));
    assert_eq!(printed(&subscriber, 1)[0]["payload"], "x");
    run("operator", &["status", "--json"]).with(0);
    run("operator", &["dead", "list"]).with(0);
    let refused = run("writer", &["status"]).with(1);
    assert!(refused.err.contains("permission denied"), "{refused:?}");
    assert!(refused.err.contains("--grants"), "{refused:?}");
    assert_eq!(relay.stop(), 0);
    servers.place.run(["migrate", "--grants", "--print-sql"]).with(2);
    servers.place.run(["migrate", "--grants", "--database", "sqlite:///tmp/none.db"]).with(2);
}
