//! What any program in any language may do with the tables, and what they refuse, tried with psql.

use crate::fixture::Fixture;

const ROWS: &str = "select topic, kind, coalesce(key, '-'), headers, \
     coalesce(payload, payload_bytes::text) from posthaste.outbox order by seq";

macro_rules! fixture {
    () => {
        match Fixture::new().await {
            Some(fixture) => fixture,
            None => return,
        }
    };
}

#[tokio::test]
async fn a_plain_insert_and_every_form_of_publish_state_a_message() {
    let fixture = fixture!();
    fixture
        .sql(
            r#"insert into posthaste.outbox (topic, kind, key, payload) values ('a', 'b', 'k', 'x');
            select posthaste.publish('a', 'b', '{"path":"c:\\temp","a":1}');
            select posthaste.publish('a', 'b', '{"b": 1, "a":"\\"}'::jsonb, key => '1');
            select posthaste.publish('a', 'b', '{"b": 1, "a":1}'::json, headers => '{"h": "v"}');
            select posthaste.publish('a', 'b', '\x00ff'::bytea, 'k', due => now());
            select posthaste.publish('a', 'b', 'text'::varchar, content_type => 'text/plain');"#,
        )
        .await;
    let expected = "a|b|k|{}|x\n\
         a|b|-|{}|{\"path\":\"c:\\\\temp\",\"a\":1}\n\
         a|b|1|{}|{\"a\": \"\\\\\", \"b\": 1}\n\
         a|b|-|{\"h\": \"v\"}|{\"b\": 1, \"a\":1}\n\
         a|b|k|{}|\\x00ff\n\
         a|b|-|{}|text";
    assert_eq!(fixture.sql(ROWS).await, expected);
    let made = "select count(*) from posthaste.outbox where due_at is not null \
         and payload_bytes is not null and payload is null";
    assert_eq!(fixture.sql(made).await, "1");
}

#[tokio::test]
async fn an_id_is_returned_made_ordered_or_taken_as_given() {
    let fixture = fixture!();
    let given = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let publish = format!("select posthaste.publish('a', 'b', 'x', id => '{given}')");
    assert_eq!(fixture.sql(&publish).await, given);
    let made = fixture.sql("select posthaste.publish('a', 'b', 'x')").await;
    let there = format!("select count(*) from posthaste.outbox where id = '{made}'");
    assert_eq!(fixture.sql(&there).await, "1");
    assert_eq!((&made[14..15], made.len()), ("7", 36), "{made}");
    assert!("89ab".contains(&made[19..20]), "{made}");
    let apart = "with recursive ids as ( \
         select posthaste.new_id() as id, pg_sleep(0.002), 1 as n union all \
         select posthaste.new_id(), pg_sleep(0.002), n + 1 from ids where n < 20) \
         select bool_and(rises) from (select id > lag(id) over (order by n) as rises from ids) i";
    assert_eq!(fixture.sql(apart).await, "t", "ids that are 2 ms apart");
    let now = "select abs(extract(epoch from clock_timestamp()) * 1000 - \
         ('x' || replace(left(posthaste.new_id()::text, 13), '-', ''))::bit(48)::bigint) < 1000";
    assert_eq!(fixture.sql(now).await, "t", "they hold the time");
}

#[tokio::test]
async fn the_name_of_the_constraint_says_what_is_wrong() {
    let fixture = fixture!();
    for (columns, values, wrong) in [
        ("topic", "''", "topic must be"),
        ("topic", "repeat('t', 201)", "topic must be"),
        ("topic", "'with space'", "topic must be"),
        ("topic", "E'a\\nb'", "topic must be"),
        ("topic", "'grün'", "topic must be"),
        ("kind", "'a:b'", "kind must be"),
        ("key", "''", "key must be"),
        ("key", "repeat('ü', 257)", "key must be"),
        ("content_type", "E'text/plain\\r\\nx: y'", "content_type must be"),
        ("content_type", "''", "content_type must be"),
        ("due_at", "'infinity'", "due_at must be"),
        ("due_at", "'6000-01-01'", "due_at must be"),
        ("stated_at", "'-infinity'", "stated_at must be"),
        ("payload_bytes", "'\\x00'", "give either payload or payload_bytes"),
        ("headers", "'[]'", "headers must be a JSON object of strings"),
        ("headers", "'\"a\"'", "headers must be a JSON object of strings"),
        ("headers", "'{\"a\": 1}'", "headers must be a JSON object of strings"),
        ("headers", "'{\"a\": null}'", "headers must be a JSON object of strings"),
        ("headers", "'{\"Upper\": \"v\"}'", "a header name must be"),
        ("headers", "'{\"\": \"v\"}'", "a header name must be"),
        ("headers", "'{\"posthaste-key\": \"v\"}'", "are reserved"),
        ("headers", "'{\"a\": \"b\\r\\n\"}'", "holds a CR or LF"),
        ("headers", "jsonb_build_object('a', repeat('v', 32768))", "more than 32768 bytes"),
        (
            "headers",
            "(select jsonb_object_agg('h' || n, 'v') from generate_series(1, 65) n)",
            "more than 64 headers",
        ),
        ("xid", "'5'", "leave xid out"),
    ] {
        let base = [("topic", "'a'"), ("kind", "'b'"), ("payload", "'x'")];
        let kept = base.iter().filter(|(name, _)| *name != columns);
        let (names, given): (Vec<_>, Vec<_>) = kept.copied().chain([(columns, values)]).unzip();
        let statement = format!(
            "insert into posthaste.outbox ({}) values ({})",
            names.join(", "),
            given.join(", ")
        );
        let said = fixture.refused(&statement).await;
        assert!(said.contains("posthaste: ") && said.contains(wrong), "{statement}: {said}");
    }
    let neither = "insert into posthaste.outbox (topic, kind) values ('a', 'b')";
    assert!(fixture.refused(neither).await.contains("give either payload or payload_bytes"));
    let large = "select posthaste.publish('a', 'b', repeat('x', 1048577))";
    assert!(fixture.refused(large).await.contains("payload is over the payload_limit"));
    assert_eq!(fixture.rows().await, 0);
}

#[tokio::test]
async fn the_edges_are_inside() {
    let fixture = fixture!();
    fixture
        .sql(
            "select posthaste.publish(repeat('t', 200), 'A-Z.a/z_0', repeat('x', 1048576), \
               key => repeat('k', 512), headers => (select jsonb_object_agg('h' || n, 'ü') \
               from generate_series(1, 64) n), content_type => repeat('c', 200)); \
             select posthaste.publish('a', 'b', ''); select posthaste.publish('a', 'b', ''::bytea); \
             select posthaste.publish('a', 'b', 'x', key => null, headers => null);",
        )
        .await;
    assert_eq!(fixture.rows().await, 4);
}

#[tokio::test]
async fn a_position_is_given_and_a_row_is_never_changed() {
    let fixture = fixture!();
    let by_hand =
        "insert into posthaste.outbox (seq, topic, kind, payload) values (7, 'a', 'b', 'x')";
    assert!(fixture.refused(by_hand).await.contains("seq"));
    fixture.sql("select posthaste.publish('a', 'b', 'x')").await;
    for change in ["topic = 'other'", "payload = 'y'", "due_at = now()", "xid = '3'"] {
        let update = format!("update posthaste.outbox set {change}");
        assert!(fixture.refused(&update).await.contains("is never changed"), "{change}");
    }
}

#[tokio::test]
async fn copy_savepoints_and_prepared_transactions_state_what_they_commit() {
    let fixture = fixture!();
    fixture
        .sql(
            "copy posthaste.outbox (topic, kind, payload) from stdin;\n\
             a\tb\tcopied\na\tb\tc:\\\\temp\n\\.\n\
             begin; select posthaste.publish('a', 'b', 'kept'); savepoint one; \
             select posthaste.publish('a', 'b', 'lost'); rollback to one; savepoint two; \
             select posthaste.publish('a', 'b', 'kept too'); release two; commit; \
             begin; select posthaste.publish('a', 'b', 'prepared'); prepare transaction 'later'; \
             begin; select posthaste.publish('a', 'b', 'given up'); rollback;",
        )
        .await;
    let there = "select string_agg(payload, ',' order by seq) from posthaste.outbox";
    assert_eq!(fixture.sql(there).await, "copied,c:\\temp,kept,kept too");
    fixture.sql("commit prepared 'later'").await;
    assert_eq!(fixture.sql(there).await, "copied,c:\\temp,kept,kept too,prepared");
    let one = "select count(distinct xid) from posthaste.outbox where payload like 'kept%'";
    assert_eq!(fixture.sql(one).await, "1", "a savepoint has the id of its transaction");
}

#[tokio::test]
async fn rows_with_a_position_by_hand_go_where_they_belong() {
    let fixture = fixture!();
    let forced = "insert into posthaste.outbox (seq, topic, kind, payload) \
         overriding system value values";
    fixture.sql(&format!("{forced} (5, 'a', 'b', 'x'), (999999999, 'a', 'b', 'x')")).await;
    let place = "select tableoid::regclass from posthaste.outbox where seq = 999999999";
    assert_eq!(fixture.sql(place).await, "posthaste.outbox_overflow");
    assert!(fixture.refused(&format!("{forced} (0, 'a', 'b', 'x')")).await.contains("partition"));
    assert!(fixture.refused(&format!("{forced} (5, 'a', 'b', 'x')")).await.contains("duplicate"));
}

#[tokio::test]
async fn an_inbox_in_any_language_is_one_insert() {
    let fixture = fixture!();
    let insert = "with inserted as (insert into posthaste.inbox (consumer, id) \
         values ('shipping', '6ba7b810-9dad-11d1-80b4-00c04fd430c8') on conflict do nothing \
         returning 1) select count(*) from inserted";
    assert_eq!(fixture.sql(insert).await, "1");
    assert_eq!(fixture.sql(insert).await, "0");
}

#[tokio::test]
async fn functions_are_bound_to_what_they_call_whatever_the_search_path() {
    let fixture = fixture!();
    let trap = "create schema trap; \
         create function trap.gen_random_uuid() returns uuid language sql as \
           $$ select '00000000-0000-0000-0000-000000000000'::uuid $$; \
         create function trap.sha256(bytea) returns bytea language sql as $$ select $1 $$; \
         create function trap.jsonb_typeof(jsonb) returns text language sql as \
           $$ select 'object' $$; \
         create table trap.outbox (like posthaste.outbox); \
         set search_path = trap, pg_catalog;";
    let made =
        format!("{trap} select posthaste.publish('a', 'b', 'x', headers => '{{\"a\":\"b\"}}')");
    assert!(!fixture.sql(&made).await.contains("-0000-000000000000"));
    let path = "set search_path = trap, pg_catalog;";
    let hash = format!("{path} select posthaste.lane_hash('k', null)");
    assert_eq!(fixture.sql(&hash).await, "2186593065");
    let bad = format!("{path} select posthaste.publish('a', 'b', 'x', headers => '[]')");
    assert!(fixture.refused(&bad).await.contains("headers must be"));
    assert_eq!(fixture.rows().await, 1);
}

/// What one message of 1 KiB adds to the log of the server, with both indexes, against what is in
/// it: the payload, 16 bytes of id, 8 of time and the names.
#[tokio::test]
async fn a_message_costs_little_more_log_than_it_has_bytes() {
    const ROWS: u64 = 2000;
    let fixture = fixture!();
    let insert = format!(
        "explain (analyze, wal, costs off, timing off, summary off) \
         insert into posthaste.outbox (topic, kind, key, payload) \
         select 'orders', 'order.placed', 'key-' || n, repeat(md5(n::text), 32) \
         from generate_series(1, {ROWS}) n"
    );
    let plan = fixture.sql(&insert).await;
    let logged = plan.split("bytes=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let logged: u64 = logged.and_then(|bytes| bytes.parse().ok()).expect(&plan);
    let stated = 1024 + 16 + 8 + "orders".len() + "order.placed".len() + "key-1000".len();
    let most = u64::try_from(stated).expect("small") * 5 / 4;
    assert!(logged / ROWS <= most, "{} bytes a message, {most} are allowed", logged / ROWS);
}
