//! `subscribe`: what is printed, and that nothing is settled before it is.

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::place::{Place, Running, eventually};

fn publish(place: &Place, payload: &[u8], more: &[&str]) -> String {
    let arguments = ["publish", "orders", "order.placed", "-"];
    let arguments = arguments.into_iter().chain(more.iter().copied());
    place.run_with(arguments, payload).with(0).out.trim().to_owned()
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_message_arrives_as_it_was_stated() {
    let place = Place::ready();
    let _relay = place.start(["run"]);
    let more = ["--key", "42", "--header", "lang=de", "--content-type", "text/plain"];
    let text = publish(&place, "grün\u{1b}[0m".as_bytes(), &more);
    let bytes = publish(&place, b"\xff\0", &[]);
    let ended = place.run(["subscribe", "orders", "--json", "--count", "2"]).with(0);
    let lines: Vec<Value> = ended.out.lines().map(parsed).collect();
    let message = lines.iter().find(|line| line["id"] == text.as_str()).unwrap();
    for (field, value) in [
        ("topic", json!("orders")),
        ("kind", json!("order.placed")),
        ("key", json!("42")),
        ("headers", json!({"lang": "de"})),
        ("payload", json!("grün\u{1b}[0m")),
        ("content_type", json!("text/plain")),
    ] {
        assert_eq!(message[field], value, "{message}");
    }
    assert!(message.get("payload_encoding").is_none(), "{message}");
    let binary = lines.iter().find(|line| line["id"] == bytes.as_str()).unwrap();
    assert_eq!(
        (&binary["payload"], &binary["payload_encoding"]),
        (&json!("/wA="), &json!("base64"))
    );
    assert_eq!(binary["key"], Value::Null);
}

#[test]
fn text_for_people_is_one_line_a_message_without_control_characters() {
    let place = Place::ready();
    let _relay = place.start(["run"]);
    let id = publish(&place, b"two\nlines \x1b[31m", &["--key", "k"]);
    let ended = place.run(["subscribe", "orders", "--count", "1"]).with(0);
    assert_eq!(ended.out.lines().count(), 1, "{ended:?}");
    assert!(
        ended.out.starts_with(&id) && ended.out.contains(r"two\nlines \u{1b}[31m"),
        "{ended:?}"
    );
}

#[test]
fn names_each_get_all_and_a_name_goes_on_where_it_was() {
    let place = Place::ready();
    let _relay = place.start(["run"]);
    let billing = place.start(["subscribe", "orders", "--as", "billing", "--json"]);
    let shipping = place.start(["subscribe", "orders", "--as", "shipping", "--json"]);
    // What is published before a subscription is there goes to the first one only.
    eventually("both are there", || {
        place.run(["doctor"]).out.contains("with 2 subscriptions").then_some(())
    });
    let first = publish(&place, b"1", &["--key", "k"]);
    let got = |running: &Running, id: &str| {
        running.lines.all().iter().any(|line| parsed(line)["id"] == id).then_some(())
    };
    eventually("billing gets it", || got(&billing, &first));
    assert_eq!(billing.stop(), 0);
    let second = publish(&place, b"2", &["--key", "k"]);
    let arguments = ["subscribe", "orders", "--as", "billing", "--count", "1", "--json"];
    assert_eq!(parsed(&place.run(arguments).with(0).out)["id"], second.as_str());
    eventually("shipping gets the second", || got(&shipping, &second));
    assert_eq!(shipping.stop(), 0);
}

#[test]
fn what_was_not_printed_is_delivered_again() {
    let place = Place::ready();
    let _relay = place.start(["run"]);
    let ids: Vec<String> = (0..3).map(|n| publish(&place, &[b'0' + n], &["--key", "k"])).collect();
    // Nobody reads this one's output: the pipe is closed before anything arrives.
    let mut command = place.command(["subscribe", "orders", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{told}");
    assert!(told.is_empty(), "a reader that has gone is no mistake: {told}");
    let ended = place.run(["subscribe", "orders", "--json", "--count", "3"]).with(0);
    let got: Vec<String> =
        ended.out.lines().map(|line| parsed(line)["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(got, ids);
}

#[test]
fn one_that_is_killed_goes_on_after_the_last_line_that_it_settled() {
    let place = Place::ready();
    let _relay = place.start(["run"]);
    let mut subscriber = place.command(["subscribe", "orders", "--json"]);
    // A pipe that nobody empties: it can hold some lines, and the rest are not printed.
    subscriber.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = subscriber.spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let payload = vec![b'x'; 64 * 1024];
    let ids: Vec<String> = (0..6).map(|_| publish(&place, &payload, &["--key", "k"])).collect();
    eventually("all are relayed", || {
        let listed = place.run(["outbox", "list", "--json"]).with(0).json();
        let entries = listed["entries"].as_array().unwrap().clone();
        entries.iter().all(|entry| entry["state"] == "sent").then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let mut printed = String::new();
    pipe.read_to_string(&mut printed).unwrap();
    let whole = printed.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mut got: Vec<String> =
        whole.map(|line| parsed(line)["id"].as_str().unwrap().to_owned()).collect();
    assert!(got.len() < ids.len(), "the pipe held everything");
    // What comes now overlaps with what was printed and leaves no gap.
    let second = place.start(["subscribe", "orders", "--json"]);
    eventually("the rest arrives", || {
        let last = second.lines.all().pop()?;
        (parsed(&last)["id"] == ids[5].as_str()).then_some(())
    });
    for line in second.lines.all() {
        let id = parsed(&line)["id"].as_str().unwrap().to_owned();
        if !got.contains(&id) {
            got.push(id);
        }
    }
    assert_eq!(got, ids);
    assert_eq!(second.stop(), 0);
}

#[test]
fn a_signal_is_heard_although_nobody_empties_the_pipe() {
    let place = Place::ready();
    let _relay = place.start(["run"]);
    let mut command = place.command(["subscribe", "orders", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut subscriber = command.spawn().unwrap();
    let mut pipe = subscriber.stdout.take().unwrap();
    let ids: Vec<String> =
        (0..4).map(|_| publish(&place, &[b'x'; 100 * 1024], &["--key", "k"])).collect();
    // One byte of the first line: it is writing, and the line does not fit into the pipe.
    pipe.read_exact(&mut [0]).unwrap();
    let pid = i32::try_from(subscriber.id()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
    let status = eventually("it ends", || subscriber.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    drop(pipe);
    let ended = place.run(["subscribe", "orders", "--json", "--count", "4"]).with(0);
    let got: Vec<String> =
        ended.out.lines().map(|line| parsed(line)["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(got, ids, "nothing was settled, so all of it comes again");
}

#[test]
fn a_name_that_no_subscription_can_have_is_refused() {
    let place = Place::ready();
    let ended = place.run(["subscribe", "two words"]).with(2);
    assert!(ended.err.contains("topic 'two words'"), "{ended:?}");
    let ended = place.run(["subscribe", "orders", "--as", ""]).with(2);
    assert!(ended.err.contains("name ''"), "{ended:?}");
    place.run(["subscribe", "orders", "--count", "0"]).with(2);
}
