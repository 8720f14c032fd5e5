//! Layers, mistakes and exit statuses.

use serde_json::json;

use crate::place::Place;

#[test]
fn several_mistakes_are_reported_at_once_with_their_lines() {
    let place = Place::new();
    place.write(
        "posthaste.toml",
        "[database]\nulr = \"sqlite:///a.db\"\n[broker]\nurl = \"kafka://h\"\n\
         [relay]\nwindow = 0\nlease_ttl = 30\n[http]\nlisten = \"0.0.0.0:80\"\n",
    );
    let ended = place.run(["check"]).with(2);
    for part in [
        "database.ulr: unknown field (posthaste.toml line 2); did you mean 'url'?",
        "broker.url: unknown scheme 'kafka:' (posthaste.toml line 4); known here: amqp:, amqps:, bus:",
        "relay.window: 0 is out of range (posthaste.toml line 6)",
        "relay.lease_ttl: ",
        "a duration with a unit",
        "http.listen: 0.0.0.0:80 can be reached from other machines",
    ] {
        assert!(ended.out.contains(part), "{part}: {ended:?}");
    }
    assert!(ended.err.contains("5 mistakes"), "{ended:?}");
    // Every other command refuses them in the same words, before it touches anything.
    let refused = place.run(["run"]).with(2);
    assert!(refused.err.contains("did you mean 'url'?"), "{refused:?}");
    assert!(
        refused.err.contains("known here: amqp:, amqps:, bus:") && refused.out.is_empty(),
        "{refused:?}"
    );
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let place = Place::new();
    let ended = place.run(["status", "--json", "--database", "kafka://h"]).with(2);
    assert!(ended.out.is_empty(), "{ended:?}");
    let told = ended.told();
    assert_eq!(told["error"], "the settings have a mistake");
    assert_eq!(told["findings"][0]["subject"], "database.url");
    assert_eq!(told["findings"][0]["severity"], "problem");
    assert!(told["findings"][0]["what"].as_str().unwrap().contains("--database"));
    let ended = place.run(["--json", "nonsense"]).with(2);
    assert!(ended.told()["error"].as_str().unwrap().contains("nonsense"), "{ended:?}");
    let checked = place.run(["check", "--json"]).with(2);
    assert_eq!(checked.json()["ok"], json!(false));
    assert_eq!(checked.json()["findings"].as_array().unwrap().len(), 2);
}

#[test]
fn a_flag_counts_more_than_a_variable_and_that_more_than_the_file() {
    let place = Place::new();
    place.write("posthaste.toml", "[database]\nurl = 'sqlite:file.db'\n");
    let seen = |arguments: &[&str], variable: Option<&str>| {
        let mut command = place.command(arguments.iter().copied());
        if let Some(variable) = variable {
            command.env("POSTHASTE_DATABASE_URL", variable);
        }
        crate::place::finish(command, b"").with(1).err
    };
    assert!(seen(&["status"], None).contains("file.db"));
    assert!(seen(&["status"], Some("sqlite:variable.db")).contains("variable.db"));
    let flag = ["status", "--database", "sqlite:flag.db"];
    assert!(seen(&flag, Some("sqlite:variable.db")).contains("flag.db"));
    let set = ["status", "--set", "database.url=sqlite:set.db"];
    assert!(seen(&set, Some("sqlite:variable.db")).contains("set.db"));
}

#[test]
fn a_named_file_is_read_instead_and_a_missing_one_is_refused() {
    let place = Place::new();
    place.write("posthaste.toml", "[database]\nurl = 'sqlite:wrong.db'\n");
    place.write("other.toml", "[database]\nurl = 'sqlite:other.db'\n");
    let ended = place.run(["status", "--config", "other.toml"]).with(1);
    assert!(ended.err.contains("other.db"), "{ended:?}");
    let ended = place.run(["status", "--config", "nowhere.toml"]).with(2);
    assert!(ended.err.contains("nowhere.toml"), "{ended:?}");
}

#[test]
fn what_is_missing_is_named_with_the_ways_to_give_it() {
    let place = Place::new();
    for (command, variable) in [
        (["status"].as_slice(), "POSTHASTE_DATABASE_URL"),
        (["subscribe", "orders"].as_slice(), "POSTHASTE_BROKER_URL"),
    ] {
        let ended = place.run(command.iter().copied()).with(2);
        assert!(ended.err.contains(variable), "{ended:?}");
    }
}

#[test]
fn good_settings_check_out_and_show_what_they_mean() {
    let place = Place::new();
    place.write("posthaste.toml", &place.settings());
    let ended = place.run(["check", "--json"]).with(0);
    assert_eq!(ended.json()["ok"], json!(true));
    assert!(ended.out.contains("app.db") && ended.out.contains("bus.db"), "{ended:?}");
    assert!(!crate::place::is_there(&place.path("bus.db")), "check has touched the world");
}

#[test]
fn every_command_explains_itself_with_examples() {
    let place = Place::new();
    for command in [
        vec!["init"],
        vec!["migrate"],
        vec!["check"],
        vec!["doctor"],
        vec!["run"],
        vec!["status"],
        vec!["outbox"],
        vec!["outbox", "list"],
        vec!["dead"],
        vec!["dead", "list"],
        vec!["dead", "show"],
        vec!["dead", "repost"],
        vec!["dead", "discard"],
        vec!["publish"],
        vec!["subscribe"],
    ] {
        let ended = place.run(command.iter().copied().chain(["--help"])).with(0);
        assert!(ended.out.contains("Examples:"), "{command:?}");
        assert!(ended.err.is_empty(), "{ended:?}");
    }
    let version = place.run(["--version"]).with(0);
    assert_eq!(version.out.trim(), concat!("posthaste ", env!("CARGO_PKG_VERSION")));
    assert!(!place.run([]).with(2).err.contains('\u{1b}'), "no colours without a terminal");
}
