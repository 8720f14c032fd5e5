//! What is accepted, what is refused, and with which words.

use super::*;
use crate::settings::layers::{Flags, load};

fn schemes() -> Schemes {
    const SCHEMA: &[&str] = &["schema", "connections"];
    let known = |scheme: &str, options| (scheme.to_owned(), options);
    Schemes {
        databases: [known("sqlite", &[] as &[&str]), known("pg", SCHEMA)].into(),
        brokers: [known("bus", &[] as &[&str])].into(),
    }
}

fn checked(assignments: &[(&str, &str)], needs: Needs) -> Result<Configuration, Vec<Finding>> {
    let assignments = assignments
        .iter()
        .map(|(path, value)| ((*path).to_owned(), (*value).to_owned(), "--set".to_owned()));
    // An empty file in place of the one that may stand in the current folder.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.toml");
    std::fs::write(&file, "").unwrap();
    let flags = Flags { file: Some(file), assignments: assignments.collect() };
    validate(load(&flags, std::iter::empty()), &schemes(), needs)
}

const BOTH: Needs = Needs { database: true, broker: true };
const GOOD: [(&str, &str); 2] = [("database.url", "sqlite:///a.db"), ("broker.url", "bus:///b.db")];

fn refused(path: &str, value: &str) -> Finding {
    let mut assignments = GOOD.to_vec();
    assignments.push((path, value));
    let findings = checked(&assignments, BOTH).expect_err(path);
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings.into_iter().next().unwrap()
}

#[test]
fn two_urls_are_enough() {
    let configuration = checked(&GOOD, BOTH).unwrap();
    assert_eq!(configuration.relay.destination, "default");
    assert_eq!(configuration.relay.policy.retry, RetryPolicy::default());
    assert!(configuration.http.is_none() && configuration.has_broker());
}

#[test]
fn what_a_command_needs_is_missed_and_what_it_does_not_is_not() {
    let findings = checked(&[], BOTH).unwrap_err();
    let subjects: Vec<&str> = findings.iter().map(|finding| finding.subject.as_str()).collect();
    assert_eq!(subjects, ["database.url", "broker.url"]);
    assert!(checked(&[], Needs::default()).is_ok());
}

#[test]
fn an_unknown_scheme_names_those_that_are_known() {
    let finding = refused("broker.url", "amqp://u:canary-1@h");
    assert!(finding.what.contains("unknown scheme 'amqp:'"), "{}", finding.what);
    assert_eq!(finding.advice.as_deref(), Some("known here: bus:"));
    let finding = refused("database.url", "sqlit:///a.db");
    assert!(finding.advice.unwrap().contains("did you mean 'sqlite:'?"));
    assert!(refused("database.url", "app.db").what.contains("not a URL"));
}

#[test]
fn only_loopback_is_listened_on() {
    for (given, bound) in [("127.0.0.1:8025", "127.0.0.1:8025"), ("localhost:1", "127.0.0.1:1")] {
        let mut assignments = GOOD.to_vec();
        assignments.push(("http.listen", given));
        let http = checked(&assignments, BOTH).unwrap().http.unwrap();
        assert_eq!(http.to_string(), bound);
    }
    for given in ["0.0.0.0:8025", "[::]:80", "192.168.1.1:80"] {
        assert!(refused("http.listen", given).what.contains("no login"), "{given}");
    }
    assert!(refused("http.listen", "8025").what.contains("not an address"));
}

#[test]
fn ranges_are_checked() {
    for (path, value) in [
        ("database.payload_limit", "65MiB"),
        ("database.payload_limit", "0B"),
        ("relay.window", "0"),
        ("relay.window", "1000001"),
        ("relay.grace", "2h"),
        ("relay.window_bytes", "1KiB"),
        ("relay.lease_ttl", "10ms"),
        ("relay.poll", "0s"),
        ("relay.unroutable_probe", "0s"),
        ("relay.unroutable_probe", "2h"),
        ("topics.orders.unroutable_probe", "10ms"),
        ("relay.retry.limit", "0"),
        ("relay.retry.longest", "1ms"),
        ("log.level", "loud"),
        ("log.level", "a=b=c"),
        ("relay.broker", "elsewhere"),
    ] {
        assert_eq!(refused(path, value).subject, path, "{value}");
    }
}

#[test]
fn a_topic_takes_from_the_relay_what_it_does_not_set() {
    let mut assignments = GOOD.to_vec();
    assignments.push(("relay.retry.limit", "4"));
    assignments.push(("topics.orders.on_dead", "skip"));
    assignments.push(("topics.orders.retry.first", "2s"));
    let topic = checked(&assignments, BOTH).unwrap().relay.topics["orders"];
    assert_eq!((topic.on_dead, topic.unroutable), (OnDead::Skip, OnUnroutable::Hold));
    assert_eq!((topic.retry.limit, topic.retry.first), (4, Duration::from_secs(2)));
}

#[test]
fn what_nobody_is_bound_to_waits_unless_the_relay_or_its_topic_says_otherwise() {
    let mut assignments = GOOD.to_vec();
    assert_eq!(checked(&assignments, BOTH).unwrap().relay.policy.unroutable, OnUnroutable::Hold);
    assignments.push(("relay.unroutable", "dead"));
    assignments.push(("topics.orders.unroutable", "accept"));
    assignments.push(("topics.invoices.on_dead", "skip"));
    let relay = checked(&assignments, BOTH).unwrap().relay;
    assert_eq!(relay.policy.unroutable, OnUnroutable::Dead);
    assert_eq!(relay.topics["orders"].unroutable, OnUnroutable::Accept);
    assert_eq!(relay.topics["invoices"].unroutable, OnUnroutable::Dead);
    assert_eq!(refused("relay.unroutable", "drop").subject, "relay.unroutable");
}

#[test]
fn a_topic_may_be_asked_about_more_or_less_often_than_the_others() {
    let mut assignments = GOOD.to_vec();
    let seconds = Duration::from_secs;
    assert_eq!(checked(&assignments, BOTH).unwrap().relay.policy.probe_every, seconds(2));
    assignments.push(("relay.unroutable_probe", "30s"));
    assignments.push(("topics.orders.unroutable_probe", "1s"));
    assignments.push(("topics.invoices.on_dead", "skip"));
    let relay = checked(&assignments, BOTH).unwrap().relay;
    assert_eq!(relay.policy.probe_every, seconds(30));
    assert_eq!(relay.topics["orders"].probe_every, seconds(1));
    assert_eq!(relay.topics["invoices"].probe_every, seconds(30));
}

#[test]
fn options_reach_the_backend_that_takes_them_and_no_other() {
    let given =
        [("database.url", "pg://h/a"), ("database.schema", "shop"), ("database.connections", "4")];
    let database = checked(&given, Needs::default()).unwrap().database.unwrap();
    assert_eq!(database.options.schema.as_deref(), Some("shop"));
    assert_eq!(database.options.connections, Some(4));
    let finding = refused("database.schema", "shop");
    assert!(finding.what.contains("sqlite: takes no such option"), "{}", finding.what);
    let both = [("database.url", "pg://h/a"), ("database.lock_timeout", "1s")];
    let findings = checked(&both, Needs::default()).unwrap_err();
    assert_eq!(findings[0].subject, "database.lock_timeout");
    let advice = findings[0].advice.as_deref().unwrap_or_default();
    assert!(advice.contains("schema, connections"), "{advice}");
    let many = [("database.url", "pg://h/a"), ("database.connections", "1")];
    assert_eq!(checked(&many, Needs::default()).unwrap_err()[0].subject, "database.connections");
    assert_eq!(refused("relay.lanes", "65").subject, "relay.lanes");
}
