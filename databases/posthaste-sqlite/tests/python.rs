//! The contract from another language and another process: Python with its standard `sqlite3`.

use std::process::Command;

use posthaste_core::outbox::OutboxReader;

use crate::fixture::{ALL, Fixture, lane};

/// Whether there is an interpreter; says so where there is none.
pub(crate) fn python_is_there() -> bool {
    let there = Command::new("python3").arg("-c").arg("import sqlite3").output();
    let there = there.is_ok_and(|output| output.status.success());
    if !there {
        let mut out = std::io::stderr().lock();
        let note = b"posthaste-skip: python3 with sqlite3 is not installed\n";
        std::io::Write::write_all(&mut out, note).expect("stderr");
    }
    there
}

const ORDER: &str = r#"
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("pragma busy_timeout = 5000")
with db:
    db.execute("create table orders (number integer primary key, total integer)")
    for number in range(1, 4):
        db.execute("insert into orders (total) values (?)", (number * 10,))
        db.execute(
            "insert into posthaste_outbox (topic, kind, key, payload) values (?, ?, ?, ?)",
            ("orders", "order.placed", number, json.dumps({"number": number})))
    db.execute(
        "insert into posthaste_outbox (topic, kind, payload, headers, content_type) "
        "values (?, ?, ?, ?, ?)",
        ("orders", "scan", b"\xff\x00", json.dumps({"trace-id": "é"}), "image/x"))
try:
    with db:
        db.execute("insert into orders (total) values (1)")
        db.execute(
            "insert into posthaste_outbox (topic, kind, key, payload) values (?, ?, ?, ?)",
            ("orders", "order.placed", "", "{}"))
except sqlite3.IntegrityError as error:
    print(error)
print(db.execute("select count(*) from orders").fetchone()[0])
"#;

#[tokio::test]
async fn a_script_writes_state_and_messages_in_one_transaction() {
    if !python_is_there() {
        return;
    }
    let fixture = Fixture::new().await;
    let output = Command::new("python3")
        .arg("-c")
        .arg(ORDER)
        .arg(fixture.path())
        .output()
        .expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    assert!(said.contains("posthaste: key must be text of 1 to 512 bytes"), "{said}");
    assert!(said.trim_end().ends_with('3'), "the refused transaction left nothing: {said}");
    let start = posthaste_core::Checkpoint::start();
    let batch = fixture.database.read(&lane(), &start, ALL).await.expect("a batch");
    let messages: Vec<_> = batch.entries.into_iter().map(|e| e.body.expect("a message")).collect();
    assert_eq!(messages.len(), 4);
    assert_eq!(messages[2].key.as_deref(), Some("3"));
    assert_eq!(messages[2].payload.as_text(), Some("{\"number\": 3}"));
    assert_eq!(messages[3].payload.as_bytes().as_ref(), b"\xff\x00");
    assert_eq!(messages[3].headers.get("trace-id"), Some("é"));
}
