//! The tables as programs in any language see them: what is enough, what is refused and how.

use crate::fixture::Fixture;

/// Inserts with the columns and the literal values given, beside those that are needed.
async fn insert(fixture: &Fixture, columns: &str, values: &str) -> Result<u64, String> {
    let mut names = vec!["topic", "kind", "payload"];
    let mut literals = vec!["'orders'", "'placed'", "'{}'"];
    for (name, literal) in columns.split('+').zip(values.split('+')) {
        match names.iter().position(|known| *known == name) {
            Some(place) => literals[place] = literal,
            None => {
                names.push(name);
                literals.push(literal);
            }
        }
    }
    let (names, literals) = (names.join(", "), literals.join(", "));
    let sql = format!("insert into posthaste_outbox ({names}) values ({literals})");
    fixture.execute(&sql).await.map_err(|error| error.to_string())
}

async fn refused(fixture: &Fixture, columns: &str, values: &str, sentence: &str) {
    let shown: String = values.chars().take(60).collect();
    let error = insert(fixture, columns, values).await.expect_err(&shown);
    assert!(error.contains(&format!("posthaste: {sentence}")), "{columns} = {shown}: {error}");
    assert_eq!(fixture.number("select count(*) from posthaste_outbox").await, 0, "{shown}");
}

async fn accepted(fixture: &Fixture, columns: &str, values: &str) {
    let shown: String = values.chars().take(60).collect();
    let done = insert(fixture, columns, values).await;
    assert_eq!(done, Ok(1), "{columns} = {shown}");
    fixture.execute("delete from posthaste_outbox").await.expect("a delete by hand");
}

#[tokio::test]
async fn the_plain_insert_is_enough_and_the_rest_has_defaults() {
    let fixture = Fixture::new().await;
    fixture.state(&[Some("7"), None]).await;
    let well_formed = "select count(*) from posthaste_outbox where id glob \
         '????????-????-7???-[89ab]???-????????????' and id not glob '*[^0-9a-f-]*' \
         and abs(stated_at - (julianday('now') - 2440587.5) * 86400000) < 5000 \
         and headers = '{}' and due_at is null and content_type is null";
    assert_eq!(fixture.number(well_formed).await, 2);
    let made_at = "select max(abs((select 1) * 0 + (julianday('now') - 2440587.5) * 86400000 - \
         stated_at)) < 5000 from posthaste_outbox";
    assert_eq!(fixture.number(made_at).await, 1);
    assert_eq!(fixture.number("select count(distinct id) from posthaste_outbox").await, 2);
}

#[tokio::test]
async fn an_id_made_by_the_table_holds_the_time_of_its_making() {
    let fixture = Fixture::new().await;
    fixture.state(&[None; 50]).await;
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select id, stated_at from posthaste_outbox order by seq")
            .fetch_all(fixture.database.pool())
            .await
            .expect("rows");
    for (id, stated_at) in rows {
        let millis = i64::from_str_radix(&id.replace('-', "")[..12], 16).expect("hexadecimal");
        assert!((millis - stated_at).abs() <= 1, "{id} {stated_at}");
        id.parse::<posthaste_core::MessageId>().expect("a UUID");
    }
}

#[tokio::test]
async fn nulls_in_columns_with_defaults_mean_the_default() {
    let fixture = Fixture::new().await;
    let done =
        insert(&fixture, "id+headers+stated_at+key+due_at", "null+null+null+null+null").await;
    assert_eq!(done, Ok(1));
    let whole = "select count(*) from posthaste_outbox where length(id) = 36 and headers = '{}' \
         and stated_at > 1700000000000";
    assert_eq!(fixture.number(whole).await, 1);
}

#[tokio::test]
async fn names_are_checked() {
    let fixture = Fixture::new().await;
    for column in ["topic", "kind"] {
        let sentence = format!("{column} must be 1 to 200 of the characters");
        let long = format!("'{}'", "a".repeat(201));
        for value in ["null", "''", "'a b'", "'ä'", "'a' || char(0) || 'b'", "x'61'", &long] {
            refused(&fixture, column, value, &sentence).await;
        }
        accepted(&fixture, column, &format!("'{}'", "a".repeat(200))).await;
        accepted(&fixture, column, "'a/B.c_d-9'").await;
        accepted(&fixture, column, "42").await;
    }
}

#[tokio::test]
async fn keys_are_checked_and_numbers_will_do() {
    let fixture = Fixture::new().await;
    let sentence = "key must be text of 1 to 512 bytes";
    let long = format!("'{}'", "k".repeat(513));
    let huge = format!("'{}'", "k".repeat(64 * 1024));
    let wide = format!("'{}'", "ä".repeat(257));
    for value in ["''", "x'6b'", &long, &huge, &wide] {
        refused(&fixture, "key", value, sentence).await;
    }
    refused(&fixture, "key", "'a' || char(0)", "key holds a NUL character").await;
    accepted(&fixture, "key", &format!("'{}'", "ä".repeat(256))).await;
    insert(&fixture, "key", "42").await.expect("a number as key");
    assert_eq!(fixture.text("select key || typeof(key) from posthaste_outbox").await, "42text");
}

#[tokio::test]
async fn payloads_are_text_or_blobs_within_the_limit() {
    let fixture = Fixture::new().await;
    for value in ["null", "42", "4.2"] {
        refused(&fixture, "payload", value, "payload must be text or a blob").await;
    }
    refused(&fixture, "payload", "zeroblob(1048577)", "payload is over the payload_limit").await;
    let text = "printf('%.*c', 1048577, 'x')";
    refused(&fixture, "payload", text, "payload is over the payload_limit").await;
    let sentence = "payload is over";
    refused(&fixture, "payload", "zeroblob(67108865)", sentence).await;
    for value in ["''", "x''", "zeroblob(1048576)", "cast(x'ff00' as text)"] {
        accepted(&fixture, "payload", value).await;
    }
    fixture
        .execute("insert into posthaste_setting (name, value) values ('payload_limit', 1048577)")
        .await
        .expect("a setting");
    accepted(&fixture, "payload", "zeroblob(1048577)").await;
    refused(&fixture, "payload", "zeroblob(1048578)", "payload is over the payload_limit").await;
}

#[tokio::test]
async fn times_that_look_like_another_unit_are_refused() {
    let fixture = Fixture::new().await;
    let sentence = "due_at must be milliseconds since 1970; this looks like seconds or micro";
    for value in ["1790000000", "1790000000000000", "'soon'", "0", "-1", "1790000000000.5"] {
        refused(&fixture, "due_at", value, sentence).await;
    }
    accepted(&fixture, "due_at", "1790000000000").await;
    accepted(&fixture, "due_at", "'1790000000000'").await;
    refused(&fixture, "stated_at", "'now'", "stated_at must be an integer").await;
    let sentence = "stated_at must be milliseconds since 1970; this looks like microseconds";
    refused(&fixture, "stated_at", "1790000000000000", sentence).await;
    // A machine without a battery starts in 1970, and must be able to publish.
    accepted(&fixture, "stated_at", "1000").await;
}

#[tokio::test]
async fn a_message_is_never_replaced() {
    let fixture = Fixture::new().await;
    fixture.state(&[None]).await;
    let id = fixture.text("select id from posthaste_outbox").await;
    let values = format!("values (1, '{id}', 'orders', 'placed', 'other')");
    for columns in ["(seq, id, topic, kind, payload)", "(rowid, id, topic, kind, payload)"] {
        let replace = format!("insert or replace into posthaste_outbox {columns} {values}");
        let error = fixture.execute(&replace).await.expect_err("it is not sent yet").to_string();
        assert!(error.contains("posthaste: a message with this id is in the outbox"), "{error}");
    }
    let replace = "replace into posthaste_outbox (seq, topic, kind, payload) \
         values (1, 'orders', 'placed', 'other')";
    let error = fixture.execute(replace).await.expect_err("not sent yet").to_string();
    assert!(error.contains("posthaste: leave seq out"), "{error}");
    let update = format!(
        "insert into posthaste_outbox (id, topic, kind, payload) values ('{id}', 'a', 'b', 'c') \
         on conflict (id) do update set payload = 'other'"
    );
    fixture.execute(&update).await.expect_err("nor updated");
    let payloads = "select group_concat(payload) from posthaste_outbox";
    assert_eq!(fixture.text(payloads).await, "x");
}

#[tokio::test]
async fn headers_are_an_object_of_safe_strings() {
    let fixture = Fixture::new().await;
    let object = "headers must be a JSON object of strings";
    for value in [
        "'nope'",
        "'[]'",
        "'\"a\"'",
        "'{\"a\":1}'",
        "'{\"a\":null}'",
        "'{\"a\":{}}'",
        "''",
        "'{}' || char(0)",
        "x'7b7d'",
        "'{\"a\":\"' || char(10) || '\"}'",
        "'{a:\"b\"}'",
    ] {
        refused(&fixture, "headers", value, object).await;
    }
    let name = "a header name must be 1 to 64 of the characters a-z 0-9 -";
    let long = format!("'{{\"{}\":\"v\"}}'", "n".repeat(65));
    for value in
        ["'{\"\":\"v\"}'", "'{\"A\":\"v\"}'", "'{\"a_b\":\"v\"}'", "'{\"ä\":\"v\"}'", &long]
    {
        refused(&fixture, "headers", value, name).await;
    }
    for value in [
        r#"'{"a":"x\ny"}'"#,
        r#"'{"a":"x\ry"}'"#,
        r#"'{"a":"x\u0000y"}'"#,
        r#"'{"a":"\\\u0000"}'"#,
        r#"'{"a":"\u000a"}'"#,
    ] {
        refused(&fixture, "headers", value, "a header value holds a CR, LF or NUL").await;
    }
    let twice = r#"'{"a":"x","a":"y"}'"#;
    refused(&fixture, "headers", twice, "a header name is there twice").await;
    let reserved = r#"'{"posthaste-id":"x"}'"#;
    refused(&fixture, "headers", reserved, "header names that begin with posthaste- are res").await;
    let many: Vec<String> = (0..65).map(|n| format!("\"n{n}\":\"v\"")).collect();
    let many = format!("'{{{}}}'", many.join(","));
    refused(&fixture, "headers", &many, "more than 64 headers").await;
    for length in [32 * 1024, 300 * 1024] {
        let large = format!("'{{\"a\":\"{}\"}}'", "v".repeat(length));
        refused(&fixture, "headers", &large, "headers hold more than 32768 bytes").await;
    }
    for value in [
        r#"'{"a":"\\u0000 is only text"}'"#,
        r#"'{ "a-1" : "ünïcode",
        "b":"\t\"" }'"#,
        r#"'{"a":""}'"#,
    ] {
        accepted(&fixture, "headers", value).await;
    }
    let largest = format!("'{{\"a\":\"{}\"}}'", "v".repeat(32 * 1024 - 1));
    accepted(&fixture, "headers", &largest).await;
}

#[tokio::test]
async fn ids_and_content_types_are_checked() {
    let fixture = Fixture::new().await;
    let sentence = "id must be a UUID in lower case with hyphens";
    for value in [
        "''",
        "'nonsense'",
        "'01932D4E-8F00-7A3B-9C4D-1E2F3A4B5C6D'",
        "x'00'",
        "'01932d4e8f007a3b9c4d1e2f3a4b5c6d'",
        "'01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d '",
    ] {
        refused(&fixture, "id", value, sentence).await;
    }
    accepted(&fixture, "id", "'01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d'").await;
    let sentence = "content_type must be 1 to 200 visible ASCII characters";
    for value in ["''", "'a' || char(10)", "'ä'", "x'61'", "printf('%.*c', 201, 'x')"] {
        refused(&fixture, "content_type", value, sentence).await;
    }
    accepted(&fixture, "content_type", "'application/json; charset=utf-8'").await;
}

#[tokio::test]
async fn a_number_never_comes_twice_and_is_the_databases_to_give() {
    let fixture = Fixture::new().await;
    fixture.state(&[None, None]).await;
    fixture.execute("delete from posthaste_outbox").await.expect("a delete by hand");
    refused(&fixture, "seq", "0", "leave seq out").await;
    refused(&fixture, "seq", "1", "leave seq out").await;
    refused(&fixture, "seq", "9223372036854775807", "leave seq out").await;
    fixture.state(&[None]).await;
    assert_eq!(fixture.number("select seq from posthaste_outbox").await, 3);
}

#[tokio::test]
async fn a_row_cannot_arrive_behind_a_checkpoint() {
    let fixture = Fixture::new().await;
    fixture
        .execute("insert into posthaste_checkpoint values ('default', 50, 0)")
        .await
        .expect("a checkpoint");
    refused(&fixture, "kind", "'placed'", "leave seq out").await;
}

#[tokio::test]
async fn rows_are_never_changed() {
    let fixture = Fixture::new().await;
    fixture.state(&[None]).await;
    let error = fixture.execute("update posthaste_outbox set payload = 'y'").await;
    let error = error.expect_err("an update").to_string();
    assert!(error.contains("posthaste: a row of the outbox is never changed"), "{error}");
}

#[tokio::test]
async fn the_inbox_works_with_two_plain_statements() {
    let fixture = Fixture::new().await;
    let insert = "insert or ignore into posthaste_inbox (consumer, id) values ('shipping', 'a')";
    assert_eq!(fixture.execute(insert).await.expect("first"), 1);
    assert_eq!(fixture.execute(insert).await.expect("again"), 0);
    let other = "insert or ignore into posthaste_inbox (consumer, id) values ('billing', 'a')";
    assert_eq!(fixture.execute(other).await.expect("another consumer"), 1);
}
