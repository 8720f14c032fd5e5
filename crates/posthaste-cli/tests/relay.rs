//! `run`: waits for what is absent, relays, stops in order, and says over HTTP how it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use crate::place::{PATIENCE, Place, Running, eventually, is_there};

/// An answer: status, and body.
fn get(address: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Where a relay that was started with `--listen 127.0.0.1:0` and a log in JSON listens.
fn address_of(relay: &Running) -> SocketAddr {
    eventually("it says where it listens", || {
        let lines = relay.errors.all();
        let logged = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        logged.filter_map(|event| event["address"].as_str()?.parse().ok()).next()
    })
}

fn sent(place: &Place) -> usize {
    let listed = place.run(["outbox", "list", "--json"]).with(0).json();
    let entries = listed["entries"].as_array().unwrap();
    entries.iter().filter(|entry| entry["state"] == "sent").count()
}

#[test]
fn it_waits_for_the_file_and_the_schema_and_makes_neither() {
    let place = Place::new();
    place.write("posthaste.toml", &place.settings());
    let relay = place.start(["run"]);
    relay.tells("there is no file");
    assert!(!is_there(&place.path("app.db")));
    place.sql().execute_batch("create table mine (id integer)").unwrap();
    relay.tells("has no tables");
    let waiting = relay.errors.all().iter().filter(|line| line.contains("no tables")).count();
    assert_eq!(waiting, 1, "{:?}", relay.errors.all());
    place.run(["migrate"]).with(0);
    place.run(["publish", "t", "k", "x"]).with(0);
    eventually("it relays", || (sent(&place) == 1).then_some(()));
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_signal_ends_it_in_order_and_gives_the_lease_back() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::ready();
        let mut relay = place.start(["run"]);
        eventually("it leads", || {
            let status = place.run(["status", "--json"]).with(0).json();
            (!status["leases"].as_array().unwrap().is_empty()).then_some(())
        });
        relay.signal(signal);
        assert_eq!(relay.wait(), 0);
        let status = place.run(["status", "--json"]).with(0).json();
        assert_eq!(status["leases"].as_array().unwrap().len(), 0, "{status}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::ready();
    let mut relay = place.start(["run"]);
    relay.tells("the relay leads");
    // As long as somebody else writes, the lease cannot be given back.
    let sql = place.sql();
    sql.execute_batch("begin immediate").unwrap();
    relay.signal(Signal::TERM);
    relay.tells("stopping");
    relay.signal(Signal::TERM);
    assert_eq!(relay.wait(), 1);
    assert!(!relay.errors.all().iter().any(|line| line.contains("stopped")));
}

#[test]
fn it_stops_at_once_while_it_waits() {
    let place = Place::new();
    place.write("posthaste.toml", &place.settings());
    let relay = place.start(["run"]);
    relay.tells("there is no file");
    assert_eq!(relay.stop(), 0);
}

#[test]
fn one_leads_and_another_takes_over_when_it_is_killed() {
    let place = Place::ready();
    let listening = || place.start(["run", "--log-format", "json", "--listen", "127.0.0.1:0"]);
    let first = listening();
    let ready = |relay: &Running| {
        let (status, body) = get(address_of(relay), "/health/ready", "localhost");
        let body: Value = serde_json::from_str(&body).unwrap();
        (status == 200).then(|| body["leading"].as_bool().unwrap())
    };
    eventually("the first leads", || (ready(&first) == Some(true)).then_some(()));
    let second = listening();
    eventually("the second stands by", || (ready(&second) == Some(false)).then_some(()));
    first.kill();
    place.run(["publish", "t", "k", "x"]).with(0);
    eventually("the second leads", || (ready(&second) == Some(true)).then_some(()));
    eventually("it relays", || (sent(&place) == 1).then_some(()));
    assert_eq!(second.stop(), 0);
}

#[test]
fn it_says_over_http_how_it_is() {
    let place = Place::new();
    place.write("posthaste.toml", &place.settings());
    let relay = place.start(["run", "--log-format", "json", "--listen", "127.0.0.1:0"]);
    let address = address_of(&relay);
    let host = address.to_string();
    assert_eq!(get(address, "/health/live", &host).0, 200);
    relay.tells("there is no file");
    let (status, body) = get(address, "/health/ready", &host);
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("there is no file"), "{body}");
    place.run(["migrate"]).with(0);
    place.run(["publish", "t", "k", "x", "--due", "2h"]).with(0);
    eventually("it is ready", || (get(address, "/health/ready", &host).0 == 200).then_some(()));
    let figures = eventually("the figures are there", || {
        let (status, body) = get(address, "/metrics", &host);
        assert_eq!(status, 200);
        body.contains("posthaste_held{destination=\"default\",state=\"due\"} 1").then_some(body)
    });
    for line in [
        "posthaste_backlog{destination=\"default\"} 0",
        "posthaste_leader{destination=\"default\"} 1",
        "posthaste_broker_up{destination=\"default\"} 1",
        "posthaste_database_up{destination=\"default\"} 1",
        "posthaste_sent_total{destination=\"default\"} 0",
        "posthaste_dead_letters{destination=\"default\"} 0",
        "posthaste_parked_keys{destination=\"default\"} 0",
        "# EOF",
    ] {
        assert!(figures.contains(line), "{line}: {figures}");
    }
    for stranger in ["evil.example", "127.0.0.1.evil.example"] {
        assert_eq!(get(address, "/metrics", stranger).0, 421);
    }
    assert_eq!(get(address, "/", &host).0, 404);
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let place = Place::ready();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = place.run(["run", "--listen", &address]).with(1);
    assert!(ended.err.contains(&address), "{ended:?}");
    assert!(place.run(["run", "--listen", "0.0.0.0:0"]).with(2).err.contains("no login"));
}

#[test]
fn a_bus_that_is_something_else_is_no_reason_to_wait() {
    let place = Place::ready();
    place.write("bus.db", &"not a bus\n".repeat(500));
    let ended = place.run(["run"]).with(1);
    assert!(ended.err.contains("bus.db"), "{ended:?}");
}
