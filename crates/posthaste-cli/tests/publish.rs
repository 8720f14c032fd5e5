//! `publish`, and what it refuses.

use crate::place::Place;

/// The one row of the outbox.
fn row(place: &Place) -> (String, Option<String>, String, Vec<u8>, String) {
    let columns = "id, key, headers, cast(payload as blob), typeof(payload)";
    let query = format!("select {columns} from posthaste_outbox");
    place
        .sql()
        .query_row(&query, [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .unwrap()
}

fn count(place: &Place) -> i64 {
    place.sql().query_row("select count(*) from posthaste_outbox", [], |row| row.get(0)).unwrap()
}

#[test]
fn the_message_is_written_as_it_was_stated_and_its_id_is_printed() {
    let place = Place::ready();
    let arguments = [
        "publish",
        "orders",
        "order.placed",
        "{\"id\": 42}",
        "--key",
        "42",
        "--header",
        "b=2",
        "--header",
        "a=x=y",
    ];
    let id = place.run(arguments).with(0).out.trim().to_owned();
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "a UUID of version 7: {id}");
    let (written, key, headers, payload, kind) = row(&place);
    assert_eq!((written, key.as_deref()), (id, Some("42")));
    assert_eq!(headers, r#"{"a":"x=y","b":"2"}"#);
    assert_eq!((payload.as_slice(), kind.as_str()), (b"{\"id\": 42}".as_slice(), "text"));
}

#[test]
fn standard_input_may_be_any_bytes() {
    let place = Place::ready();
    let ended = place.run_with(["publish", "t", "k", "-", "--json"], b"\xff\x00\xfe");
    assert_eq!(ended.with(0).json()["id"].as_str().unwrap().len(), 36);
    let (_, key, _, payload, kind) = row(&place);
    assert_eq!((key, payload.as_slice(), kind.as_str()), (None, b"\xff\0\xfe".as_slice(), "blob"));
}

#[test]
fn a_file_is_read_and_a_missing_one_is_named() {
    let place = Place::ready();
    place.write("body.txt", "hällo");
    place.run(["publish", "t", "k", "@body.txt"]).with(0);
    assert_eq!(row(&place).3, "hällo".as_bytes());
    let ended = place.run(["publish", "t", "k", "@nowhere.txt"]).with(1);
    assert!(ended.err.contains("nowhere.txt"), "{ended:?}");
}

#[test]
fn what_breaks_a_limit_is_refused_in_one_sentence_and_nothing_is_written() {
    let place = Place::ready();
    let long = "k".repeat(64 * 1024);
    for (arguments, words) in [
        (vec!["publish", "t", "k", "x", "--key", &long], "key has 65536 bytes"),
        (vec!["publish", "t", "k", "x", "--key", ""], "key has 0 bytes"),
        (vec!["publish", "t", "k", "x", "--header", "a=b\r\nc"], "CR, LF or NUL"),
        (vec!["publish", "t", "k", "x", "--header", "A=b"], "header name 'A'"),
        (vec!["publish", "t", "k", "x", "--header", "ab"], "NAME=VALUE"),
        (vec!["publish", "t", "k", "x", "--header", "a=1", "--header", "a=2"], "given twice"),
        (vec!["publish", "two words", "k", "x"], "topic 'two words'"),
        (vec!["publish", "t", "", "x"], "kind ''"),
        (vec!["publish", "t", "k", "x", "--due", "soon"], "--due"),
        (vec!["publish", "t", "k", "x", "--content-type", "a\nb"], "content type"),
    ] {
        let ended = place.run(arguments).with(2);
        assert!(ended.err.contains(words), "{words}: {ended:?}");
        assert!(ended.out.is_empty() && !ended.err.contains("panic"), "{ended:?}");
    }
    assert_eq!(count(&place), 0);
}

#[test]
fn a_payload_over_the_limit_is_refused_wherever_it_comes_from() {
    let place = Place::ready();
    let large = vec![b'x'; (1 << 20) + 1];
    let ended = place.run_with(["publish", "t", "k", "-"], &large).with(2);
    assert!(ended.err.contains("payload_limit") && ended.err.contains("1MiB"), "{ended:?}");
    std::fs::write(place.path("large.bin"), &large).unwrap();
    let ended = place.run(["publish", "t", "k", "@large.bin"]).with(2);
    assert!(ended.err.contains("large.bin"), "{ended:?}");
    let small = ["publish", "t", "k", "12345678", "--set", "database.payload_limit=7B"];
    assert!(place.run(small).with(2).err.contains("the limit is 7"));
    assert_eq!(count(&place), 0);
}

#[test]
fn a_larger_limit_holds_once_migrate_has_told_the_table() {
    let place = Place::ready();
    let large = vec![b'x'; (1 << 20) + 1];
    let raised = ["--set", "database.payload_limit=2MiB"];
    let publish = ["publish", "t", "k", "-"].into_iter().chain(raised);
    place.run_with(publish.clone(), &large).with(1);
    place.run(["migrate"].into_iter().chain(raised)).with(0);
    place.run_with(publish, &large).with(0);
}

#[test]
fn a_message_may_be_due_later() {
    let place = Place::ready();
    place.run(["publish", "t", "k", "x", "--due", "2h"]).with(0);
    place.run(["publish", "t", "k", "x", "--due", "2100-01-01T00:00:00Z"]).with(0);
    let due: Vec<i64> = {
        let sql = place.sql();
        let mut query = sql.prepare("select due_at from posthaste_outbox order by seq").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(due[1], 4_102_444_800_000);
    assert!(due[0] > 1_700_000_000_000 && due[0] < due[1], "{due:?}");
}
