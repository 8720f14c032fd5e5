//! One clear sentence for each way in which a server says no, and no password in any.

use std::fs::OpenOptions;
use std::io::Write;

use posthaste_servers::{Postgres, PostgresOptions, free_port};

use super::Servers;
use crate::place::{Ended, Place, finish};

const CANARY: &str = "canary-93d1f0";

/// The one sentence, with the word that matters in it.
#[track_caller]
fn says(ended: &Ended, words: &[&str]) {
    let told: Vec<&str> = ended.err.lines().filter(|line| !line.starts_with("warning:")).collect();
    assert_eq!(told.len(), 1, "{ended:?}");
    for word in words {
        assert!(told[0].contains(word), "'{word}' in {ended:?}");
    }
    let all = format!("{}{}", ended.out, ended.err);
    assert!(!all.contains(CANARY), "{ended:?}");
}

/// Runs with these URLs in the environment.
fn with(place: &Place, arguments: &[&str], database: &str, broker: &str) -> Ended {
    let mut command = place.command(arguments.iter().copied());
    command.env("POSTHASTE_DATABASE_URL", database).env("POSTHASTE_BROKER_URL", broker);
    finish(command, b"")
}

#[tokio::test]
async fn a_database_that_says_no_is_understood() {
    let Some(servers) = Servers::empty().await else { return };
    let (place, broker) = (&servers.place, servers.vhost.url());
    let status = |url: &str| with(place, &["status"], url, &broker).with(1);
    says(&status(&servers.database.url()), &["posthaste migrate"]);
    let nowhere = format!("postgres://u:{CANARY}@127.0.0.1:{}/app", free_port());
    says(&status(&nowhere), &["no connection to database app at 127.0.0.1:", "running"]);
    let admin = servers.database.admin_url();
    let unknown = admin.replace("/postgres", "/no_such_db");
    let unknown = unknown.replace("postgres@127", &format!("postgres:{CANARY}@127"));
    says(&status(&unknown), &["no_such_db", "does not exist"]);
    let tls = format!("{}?sslmode=verify-full", servers.database.url());
    says(&status(&tls), &["TLS", "sslrootcert"]);
    let odd = format!("{}?password={CANARY}&colour=red", servers.database.url());
    says(&status(&odd), &["colour"]);
    place.run(["migrate"]).with(0);
    let role = format!("weak_{}", servers.database.name);
    servers.database.psql(&format!("create role {role} login")).await.expect("a role is made");
    says(&status(&servers.database.url_as(&role)), &["permission denied", "--grants"]);
    let listed = with(place, &["dead", "list"], &servers.database.url_as(&role), &broker);
    says(&listed.with(1), &["permission denied", "--grants"]);
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_shown() {
    if let Some(reason) = Postgres::missing() {
        return posthaste_servers::skip(&reason);
    }
    let place = Place::new();
    let postgres = Postgres::start(PostgresOptions::new()).await;
    let asked = "host all asked 127.0.0.1/32 scram-sha-256\n";
    let file = postgres.directory().join("data/pg_hba.conf");
    let before = std::fs::read_to_string(&file).expect("it can be read");
    let mut rules = OpenOptions::new().write(true).truncate(true).open(&file).expect("it opens");
    rules.write_all(format!("{asked}{before}").as_bytes()).expect("it can be written");
    let make = format!("create role asked login password '{CANARY}'; select pg_reload_conf()");
    postgres.psql("postgres", &make).await.expect("a role is made");
    let url = postgres.url("postgres").replace("postgres@", &format!("asked:{CANARY}x@"));
    let ended = with(&place, &["status", "--log", "trace"], &url, "").with(1);
    assert!(ended.err.contains("does not let this user in"), "{ended:?}");
    assert!(!ended.err.contains(CANARY), "{ended:?}");
    let parameter = format!("{}?user=asked&password={CANARY}x", postgres.url("postgres"));
    says(&with(&place, &["status"], &parameter, "").with(1), &["asked"]);
    let right = postgres.url("postgres").replace("postgres@", &format!("asked:{CANARY}@"));
    says(&with(&place, &["status"], &right, "").with(1), &["posthaste migrate"]);
}

#[tokio::test]
async fn a_certificate_is_looked_at() {
    if let Some(reason) = Postgres::missing() {
        return posthaste_servers::skip(&reason);
    }
    let place = Place::new();
    let postgres = Postgres::start(PostgresOptions::new().tls()).await;
    let url = postgres.tls_url("postgres");
    says(&with(&place, &["status"], &url, "").with(1), &["no trusted connection", "sslrootcert"]);
    let known = format!("{url}&sslrootcert={}", postgres.tls().authority.display());
    says(&with(&place, &["status"], &known, "").with(1), &["posthaste migrate"]);
}

#[tokio::test]
async fn a_broker_that_says_no_is_understood() {
    let Some(servers) = Servers::ready().await else { return };
    let (place, database) = (&servers.place, servers.database.url());
    let subscribe =
        |url: &str| with(place, &["subscribe", "orders", "--count", "1"], &database, url);
    let wrong = servers.vhost.url_as("guest", CANARY);
    says(&subscribe(&wrong).with(1), &["does not let user 'guest' in", "password"]);
    let elsewhere = servers.vhost.url().replace(&servers.vhost.name, "no-such-vhost");
    says(&subscribe(&elsewhere).with(1), &["no-such-vhost", "vhost"]);
    let odd = format!("{}?colour=red", servers.vhost.url());
    says(&subscribe(&odd).with(1), &["colour"]);
    servers.vhost.user("shy", CANARY, "^$", "^$", "^$").await;
    let shy = servers.vhost.url_as("shy", CANARY);
    says(&subscribe(&shy).with(1), &["not allowed"]);
    let doctor = with(place, &["doctor", "--json"], &database, &wrong).with(1);
    assert_eq!(doctor.json()["ok"], false, "{doctor:?}");
    assert!(!format!("{doctor:?}").contains(CANARY), "{doctor:?}");
    let nowhere = format!("amqp://127.0.0.1:{}", free_port());
    let doctor = with(place, &["doctor"], &database, &nowhere).with(1);
    assert!(doctor.out.contains("cannot connect"), "{doctor:?}");
}

#[test]
fn options_that_a_backend_does_not_take_are_refused_with_their_path() {
    let place = Place::new();
    let urls = "[database]\nurl = \"sqlite:///a.db\"\nschema = \"shop\"\n\
                [broker]\nurl = \"amqp://u:canary-93d1f0@h\"\nprefiks = \"x\"\nwindow = 0\n\
                subscriptions = [\"orders\"]\n[relay]\nlanes = 65\n";
    place.write("posthaste.toml", urls);
    let ended = place.run(["check", "--json"]).with(2);
    let report = ended.json();
    let subjects: Vec<&str> = report["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|finding| finding["severity"] == "problem")
        .filter_map(|finding| finding["subject"].as_str())
        .collect();
    for path in [
        "database.schema",
        "broker.prefiks",
        "broker.window",
        "broker.subscriptions",
        "relay.lanes",
    ] {
        assert!(subjects.contains(&path), "{path} in {subjects:?}");
    }
    assert_eq!(subjects.len(), 5, "{subjects:?}");
    assert!(!ended.out.contains(CANARY), "{ended:?}");
    let good = "[database]\nurl = \"postgres:///app\"\nschema = \"shop\"\nconnections = 4\n\
                lock_timeout = \"5s\"\nlisten = false\n\
                [broker]\nurl = \"amqps://h\"\nprefix = \"x.\"\ndeclare = false\nwindow = 10\n\
                ca_file = \"ca.pem\"\npublish_timeout = \"20s\"\ndelivery_limit = 7\n\
                subscriptions = [\"orders.shipping\"]\n[relay]\nlanes = 4\n";
    place.write("posthaste.toml", good);
    place.run(["check"]).with(0);
    let mut typed = place.command(["check"]);
    typed.env("POSTHASTE_BROKER_DECLARE", "true").env("POSTHASTE_DATABASE_CONNECTIONS", "5");
    typed.env("POSTHASTE_BROKER_SUBSCRIPTIONS", "orders.shipping, orders.billing");
    finish(typed, b"").with(0);
}
