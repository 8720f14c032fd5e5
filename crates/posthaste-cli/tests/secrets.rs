//! A secret that is given to the program is nowhere in what it writes.

use crate::place::{Ended, Place, Running, finish};

const CANARY: &str = "canary-61c7ab";

#[track_caller]
fn is_silent(ended: &Ended) {
    let said = format!("{}{}", ended.out, ended.err);
    assert!(!said.contains(CANARY), "{ended:?}");
}

#[test]
fn a_password_in_any_layer_is_never_shown() {
    let place = Place::new();
    let url = format!("bus://user:{CANARY}@localhost/bus.db?token={CANARY}");
    let database = format!("sqlite://user:{CANARY}@localhost/app.db");
    for arguments in [
        vec!["check"],
        vec!["check", "--json"],
        vec!["doctor"],
        vec!["doctor", "--json"],
        vec!["status"],
        vec!["migrate"],
        vec!["dead", "list"],
        vec!["outbox", "list", "--json"],
        vec!["publish", "t", "k", "x", "--log", "trace"],
        vec!["migrate", "--log", "trace"],
        vec!["doctor", "--log", "trace", "--log-format", "json"],
    ] {
        let mut command = place.command(arguments.iter().copied());
        command.env("POSTHASTE_DATABASE_URL", &database).env("POSTHASTE_BROKER_URL", &url);
        is_silent(&finish(command, b""));
        let given = ["--database", &database, "--broker", &url];
        is_silent(&place.run(arguments.iter().copied().chain(given)));
        let file = format!("[database]\nurl = \"{database}\"\n[broker]\nurl = \"{url}\"\n");
        place.write("p.toml", &file);
        is_silent(&place.run(arguments.iter().copied().chain(["--config", "p.toml"])));
    }
}

#[test]
fn the_log_of_a_relay_that_waits_never_shows_a_password() {
    let place = Place::new();
    for format in ["text", "json"] {
        let mut command = place.command(["run", "--log", "trace", "--log-format", format]);
        command
            .env("POSTHASTE_DATABASE_URL", format!("sqlite://user:{CANARY}@localhost/app.db"))
            .env("POSTHASTE_BROKER_URL", format!("bus://user:{CANARY}@localhost/bus.db"));
        let relay = Running::start(command);
        relay.tells("user:***@localhost");
        let errors = relay.errors.clone();
        assert_eq!(relay.stop(), 0);
        assert!(!errors.all().iter().any(|line| line.contains(CANARY)), "{:?}", errors.all());
    }
}

#[test]
fn a_password_in_a_broken_file_is_never_shown() {
    let place = Place::new();
    for file in [
        format!("[broker]\nurl = \"amqp://u:{CANARY}@h\n"),
        format!("[broker]\nurl = amqp://u:{CANARY}@h\n"),
        format!("[broker]\nuri = \"amqp://u:{CANARY}@h\"\n"),
        format!("[relay]\nwindow = \"amqp://u:{CANARY}@h\"\n[log]\nlevel = \"x://u:{CANARY}@h\"\n"),
        format!("[broker]\nurl = \"amqp://u:{CANARY}@h\"\n"),
    ] {
        place.write("posthaste.toml", &file);
        is_silent(&place.run(["check"]).with(2));
        is_silent(&place.run(["check", "--json"]).with(2));
        is_silent(&place.run(["run"]).with(2));
    }
}

#[test]
fn a_password_on_the_command_line_is_warned_about() {
    let place = Place::new();
    let url = format!("amqp://u:{CANARY}@h");
    let ended = place.run(["check", "--broker", &url]).with(2);
    assert!(ended.err.contains("POSTHASTE_BROKER_URL"), "{ended:?}");
    assert!(ended.err.contains("everybody on this machine"), "{ended:?}");
    is_silent(&ended);
    let set = format!("broker.url={url}");
    let ended = place.run(["check", "--json", "--set", &set]).with(2);
    assert!(ended.err.lines().next().unwrap().contains("\"warning\""), "{ended:?}");
    is_silent(&ended);
    is_silent(&place.run(["init", "--broker", &url]).with(0));
    let written = std::fs::read_to_string(place.path("posthaste.toml")).unwrap();
    assert!(written.contains(&url), "a file is where passwords belong");
    let quiet = place.run(["check", "--broker", "bus:///a.db"]);
    assert!(!quiet.err.contains("everybody"), "{quiet:?}");
}
