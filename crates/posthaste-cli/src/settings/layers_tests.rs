//! The order of the layers, and every mistake of all of them at once.

use std::ffi::OsString;
use std::fs;

use super::*;
use crate::settings::tree::Origin;

fn load_with(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.toml");
    fs::write(&path, file).unwrap();
    let assignments =
        flags.iter().map(|(p, v, f)| ((*p).to_owned(), (*v).to_owned(), (*f).to_owned()));
    let flags = Flags { file: Some(path), assignments: assignments.collect() };
    let variables = variables.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
    load(&flags, variables)
}

#[test]
fn a_flag_counts_more_than_a_variable_and_that_more_than_the_file() {
    let file = "[database]\nurl = 'a:file'\n[broker]\nurl = 'b:file'\n[relay]\nwindow = 3\n";
    let variables = [
        ("POSTHASTE_BROKER_URL", "b:variable"),
        ("POSTHASTE_DATABASE_URL", "a:variable"),
        ("POSTHASTE_RELAY_WINDOW_BYTES", "7MiB"),
        ("POSTHASTE_LOG", ""),
    ];
    let loaded = load_with(file, &variables, &[("database.url", "a:flag", "--database")]);
    assert!(loaded.findings.is_empty(), "{:?}", loaded.findings);
    assert_eq!(loaded.settings.database.url.unwrap().expose(), "a:flag");
    assert_eq!(loaded.settings.broker.unwrap().url.unwrap().expose(), "b:variable");
    assert_eq!(loaded.settings.relay.window, Some(3));
    assert_eq!(loaded.settings.relay.window_bytes.unwrap().0, 7 << 20);
    assert_eq!(loaded.settings.log.level, None);
    assert_eq!(loaded.origins["database.url"], Origin::Flag("--database".into()));
}

#[test]
fn every_mistake_of_every_layer_is_found_at_once() {
    let file = "[databse]\nurl = 'x'\n[relay]\nwindow = 'many'\nleasettl = '5s'\n\
                window_bytes = -1\n\
                [relay.retry]\nfirst = 10\n[log]\nformat = 'xml'\n[topics.a]\non_dead = 'drop'\n";
    let loaded = load_with(file, &[("POSTHASTE_RELAY_POLL", "often")], &[]);
    let found: BTreeMap<&str, &Finding> =
        loaded.findings.iter().map(|finding| (finding.subject.as_str(), finding)).collect();
    let advice = |path: &str| found[path].advice.as_deref().unwrap_or_default();
    assert_eq!(advice("databse"), "did you mean 'database'?");
    assert_eq!(advice("relay.leasettl"), "did you mean 'lease_ttl'?");
    assert!(found["relay.window"].what.contains("line 4"), "{}", found["relay.window"].what);
    assert!(
        found["relay.window_bytes"].what.contains("-1"),
        "{}",
        found["relay.window_bytes"].what
    );
    assert!(found["relay.retry.first"].what.contains("with a unit"));
    assert!(found["relay.poll"].what.contains("POSTHASTE_RELAY_POLL"));
    assert!(found["log.format"].what.contains("text, json"));
    assert!(found["topics.a.on_dead"].what.contains("park, skip"));
    assert_eq!(loaded.findings.len(), 8, "{:?}", loaded.findings);
}

#[test]
fn a_list_is_typed_with_commas_or_as_in_the_file() {
    let typed = |text: &str| {
        let variables = [("POSTHASTE_BROKER_SUBSCRIPTIONS", text)];
        let by_variable = load_with("", &variables, &[]);
        let by_flag = load_with("", &[], &[("broker.subscriptions", text, "--set")]);
        let read = |loaded: Loaded| {
            let found: Vec<String> = loaded.findings.into_iter().map(|found| found.what).collect();
            loaded.settings.broker.and_then(|broker| broker.subscriptions).ok_or(found)
        };
        let (by_variable, by_flag) = (read(by_variable), read(by_flag));
        assert_eq!(by_variable.is_ok(), by_flag.is_ok(), "{text}");
        by_variable.and_then(|list| by_flag.map(|other| (list, other)))
    };
    for (text, list) in [
        ("a.b", &["a.b"] as &[&str]),
        ("a.b, c.d,", &["a.b", "c.d"]),
        (r#"["a.b"]"#, &["a.b"]),
        (r#" ["a.b", 'c.d'] "#, &["a.b", "c.d"]),
        ("[]", &[]),
    ] {
        let lists = typed(text).unwrap_or_else(|found| panic!("{text}: {found:?}"));
        let list: Vec<String> = list.iter().map(|&one| one.to_owned()).collect();
        assert_eq!(lists, (list.clone(), list), "{text}");
    }
    for text in ["[a.b]", r#"["a.b""#, r#"["a.b", 3]"#, r#""a.b""#, "a]", "[]\nurl = 'x:y'"] {
        let found = typed(text).expect_err(text);
        assert_eq!(found.len(), 1, "{found:?}");
        let said = "it must be a list: a,b or [\"a\", \"b\"] (POSTHASTE_BROKER_SUBSCRIPTIONS)";
        assert_eq!(found[0], said, "{text}");
    }
    let file = load_with("[broker]\nsubscriptions = 'a.b'\n", &[], &[]);
    assert!(file.findings[0].what.starts_with("it must be a list"), "{:?}", file.findings);
}

#[test]
fn a_broker_called_default_is_the_broker() {
    let loaded = load_with("[brokers.default]\nurl = 'b:x'\n", &[], &[]);
    assert_eq!(loaded.settings.broker.unwrap().url.unwrap().expose(), "b:x");
    let both = load_with("[broker]\nurl = 'b:x'\n[brokers.default]\nurl = 'b:y'\n", &[], &[]);
    assert_eq!(both.findings[0].subject, "brokers.default");
    let flag = [("brokers.default.url", "b:flag", "--set")];
    let flagged = load_with("[broker]\nurl = 'b:x'\n", &[], &flag);
    assert_eq!(flagged.settings.broker.unwrap().url.unwrap().expose(), "b:flag");
}

#[test]
fn a_named_file_must_be_there_and_the_default_one_need_not() {
    let named = Flags { file: Some("/nowhere/p.toml".into()), ..Flags::default() };
    let loaded = load(&named, std::iter::empty());
    assert_eq!(loaded.findings.len(), 1);
    assert_eq!(loaded.findings[0].severity, Severity::Problem);
}

#[test]
fn a_misspelt_variable_is_noticed_and_a_foreign_one_is_not() {
    let variables = [("POSTHASTE_DATABSE_URL", "x"), ("POSTHASTE_SERVICE_HOST", "10.0.0.1")];
    let loaded = load_with("", &variables, &[]);
    assert_eq!(loaded.findings.len(), 1, "{:?}", loaded.findings);
    assert_eq!(loaded.findings[0].severity, Severity::Notice);
    assert_eq!(loaded.findings[0].advice.as_deref(), Some("did you mean POSTHASTE_DATABASE_URL?"));
}

#[test]
fn no_finding_shows_a_password() {
    let file = "[broker]\nurl = 'amqp://u:canary-4711@h'\nuri = 'amqp://u:canary-4711@h'\n\
                [relay]\nwindow = 'amqp://u:canary-4711@h'\n[log]\nformat = 'x://u:canary-4711@h'\n\
                [http]\nlisten = 'amqp://u:canary-4711@h\n";
    let loaded = load_with(file, &[], &[]);
    assert!(loaded.findings.len() >= 4, "{:?}", loaded.findings);
    for finding in &loaded.findings {
        let shown = crate::redact::text(&finding.what).into_owned();
        assert!(!shown.contains("canary"), "{shown}");
    }
}
