//! Each role does its work with exactly its grants, and nothing that is another one's.

use std::time::Duration;

use posthaste_core::database::{EntryFilter, Monitor, Schema, Upkeep};
use posthaste_core::dead_letter::{DeadFilter, DeadLetters};
use posthaste_core::inbox::{Acceptance, Attempts, Burial, Inbox, InboxUpkeep, InboxWindow};
use posthaste_core::lane::Lanes;
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::outbox::{Feed, OutboxReader, ReadLimit, Settled, Settlement};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::verdict::DeadReason;
use posthaste_core::{Lane, Verdict};
use posthaste_postgres::{Options, Postgres, Roles, grants};

use crate::fixture::{Fixture, id, message};

const ALL: ReadLimit = ReadLimit { messages: 100, bytes: 1 << 20 };

/// A database with a role of each kind, which have exactly the grants. The roles stay behind: they
/// belong to the server, which ends with the tests.
struct Cast {
    fixture: Fixture,
    roles: Roles,
}

impl Cast {
    async fn new() -> Option<Self> {
        let fixture = Fixture::new().await?;
        // Roles belong to the whole server, so they carry the name of the database.
        let role = |kind: &str| format!("{}-{kind}", fixture.test.name);
        let roles = Roles {
            writer: role("writer"),
            consumer: role("consumer"),
            relay: role("relay"),
            operator: role("operator"),
        };
        for role in [&roles.writer, &roles.consumer, &roles.relay, &roles.operator] {
            fixture.sql(&format!("create role \"{role}\" login")).await;
        }
        fixture.sql(&grants("posthaste", &roles).expect("good names")).await;
        Some(Self { fixture, roles })
    }

    fn played_by(&self, role: &str) -> Postgres {
        self.fixture.as_role(role)
    }

    /// Runs a statement as a role; whether it may.
    async fn may(&self, role: &str, statement: &str) -> bool {
        let as_role = format!("begin; set local role \"{role}\"; {statement}; rollback;");
        match self.fixture.test.psql(&as_role).await {
            Ok(_) => true,
            Err(reason) => {
                assert!(reason.contains("permission denied"), "{statement}: {reason}");
                false
            }
        }
    }
}

async fn state(writer: &Postgres, number: u8) {
    let mut tx = writer.begin().await.expect("begin");
    let mut one = message(number);
    one.key = Some("k".to_owned());
    one.headers.insert("trace", "x");
    writer.enqueue(&mut tx, &[one]).await.expect("enqueue");
    writer.commit(tx).await.expect("commit");
}

#[tokio::test]
async fn a_writer_states_messages_and_can_do_nothing_else() {
    let Some(cast) = Cast::new().await else { return };
    let writer = &cast.roles.writer;
    state(&cast.played_by(writer), 1).await;
    cast.played_by(writer).enqueue_alone(&[message(2)]).await.expect("enqueue alone");
    for may in [
        "select posthaste.publish('a', 'b', 'x', key => 'k', headers => '{\"a\": \"b\"}')",
        "select posthaste.publish('a', 'b', '{}'::jsonb)",
        "select posthaste.publish('a', 'b', '{}'::json)",
        "select posthaste.publish('a', 'b', '\\x00'::bytea)",
        "insert into posthaste.outbox (topic, kind, payload) values ('a', 'b', 'x')",
    ] {
        assert!(cast.may(writer, may).await, "{may}");
    }
    for never in [
        "select id from posthaste.outbox",
        "insert into posthaste.outbox (topic, kind, payload, xid) values ('a', 'b', 'x', '5')",
        "insert into posthaste.outbox (topic, kind, payload, seq) overriding system value \
         values ('a', 'b', 'x', 9)",
        "insert into posthaste.outbox_p00001 (topic, kind, payload) values ('a', 'b', 'x')",
        "update posthaste.outbox set topic = 'a'",
        "delete from posthaste.outbox",
        "truncate posthaste.outbox",
        "lock table posthaste.outbox in share mode",
        "select setval('posthaste.outbox_seq_seq', 1)",
        "select * from posthaste.held",
        "insert into posthaste.inbox (consumer, id) values ('a', gen_random_uuid())",
        "select posthaste.act(array[1], 'me', null)",
        "select posthaste.refuse_foreign()",
        "select posthaste.lane_hash('a', null)",
        "create table posthaste.mine (a int)",
    ] {
        assert!(!cast.may(writer, never).await, "{never}");
    }
}

#[tokio::test]
async fn a_consumer_keeps_its_inbox_and_can_do_nothing_else() {
    let Some(cast) = Cast::new().await else { return };
    let role = &cast.roles.consumer;
    let consumer = cast.played_by(role);
    state(&consumer, 1).await;
    consumer.begin_attempt("shipping", id(1)).await.expect("begin an attempt");
    consumer.record_failure("shipping", id(1), 1, "no").await.expect("record a failure");
    let mut tx = consumer.begin().await.expect("begin");
    let accepted = consumer.accept(&mut tx, "shipping", &[id(1)]).await.expect("accept");
    assert_eq!(accepted, [Acceptance::First]);
    assert!(consumer.holds(&mut tx, "shipping", id(1)).await.expect("holds"));
    let burial = Burial { reason: DeadReason::Rejected, detail: "no".to_owned(), attempts: 1 };
    consumer.bury(&mut tx, "shipping", &message(2), &burial).await.expect("bury");
    consumer.commit(tx).await.expect("commit");
    assert_eq!(consumer.reposted("shipping", 9).await.expect("reposted"), []);
    let repost = "select posthaste.act(array[1], 'ann', null)";
    cast.fixture.sql(repost).await;
    assert_eq!(consumer.reposted("packing", 9).await.expect("reposted"), []);
    let reposted = consumer.reposted("shipping", 9).await.expect("reposted");
    assert_eq!(reposted, [message(2)]);
    let mut tx = consumer.begin().await.expect("begin");
    consumer.accept(&mut tx, "shipping", &[id(2)]).await.expect("accept");
    consumer.commit(tx).await.expect("commit");
    assert_eq!(consumer.reposted("shipping", 9).await.expect("reposted"), []);
    let none = InboxWindow { age: Duration::ZERO, count: Some(0) };
    assert_eq!(consumer.prune_inbox("shipping", none, 9).await.expect("prune"), 2);
    for never in [
        "select id from posthaste.outbox",
        "select * from posthaste.dead_letter",
        "delete from posthaste.dead_letter",
        "insert into posthaste.dead_letter (side, name) values ('relay', 'default')",
        "delete from posthaste.outbox",
        "select * from posthaste.held",
        "select * from posthaste.lease",
        "select * from posthaste.audit",
        "update posthaste.dead_letter set state = 'reposted'",
        "update posthaste.inbox set consumer = 'x'",
        "select posthaste.act(array[1], 'me', null)",
    ] {
        assert!(!cast.may(role, never).await, "{never}");
    }
}

/// The lease of the only lane.
async fn leading(relay: &Postgres, lane: &Lane) -> Lease {
    let claim = relay.acquire(&lane.lease_name(), "me", Duration::from_secs(60)).await;
    match claim.expect("a claim") {
        Claim::Granted(lease) => lease,
        held => panic!("{held:?}"),
    }
}

fn judged(number: u64, verdict: Verdict) -> Settled {
    let address = Some(("orders".to_owned(), Some("k".to_owned())));
    let position = posthaste_core::Position::new(number.to_string());
    Settled { position, feed: Feed::New, address, verdict }
}

#[tokio::test]
async fn a_relay_reads_and_settles_and_can_do_nothing_else() {
    let Some(cast) = Cast::new().await else { return };
    for number in 1..=3 {
        state(&cast.played_by(&cast.roles.writer), number).await;
    }
    let relay = cast.played_by(&cast.roles.relay);
    let lane = Lane::whole("default");
    let lease = leading(&relay, &lane).await;
    let from = relay.checkpoint(&lane).await.expect("checkpoint");
    let batch = relay.read(&lane, &from, ALL).await.expect("read");
    assert_eq!(batch.entries.len(), 3);
    let dead = Verdict::Dead {
        reason: DeadReason::Refused,
        detail: "no".to_owned(),
        attempts: 1,
        park: true,
    };
    let retry = Verdict::Retry { delay: Duration::ZERO, detail: "not now".to_owned(), attempts: 1 };
    let settlement = Settlement {
        lane: lane.clone(),
        number: 1,
        checkpoint: Some(batch.checkpoint),
        verdicts: vec![judged(1, dead), judged(2, retry), judged(3, Verdict::Behind)],
    };
    relay.settle(&lease, &settlement).await.expect("settle");
    relay.ready(&lane, ALL).await.expect("ready");
    relay.renew(&lease, Duration::from_secs(60)).await.expect("renew");
    relay.status("default").await.expect("status");
    relay.prune_sent(&lease, Duration::ZERO, 100).await.expect("prune");
    relay.want_lanes("default", 2).await.expect("want lanes");
    relay.divide("default", &[lease]).await.expect("divide");
    let second = Lane { destination: "default".to_owned(), index: 1, of: 2 };
    relay.release(&leading(&relay, &second).await).await.expect("release");
    for never in [
        "insert into posthaste.outbox (topic, kind, payload) values ('a', 'b', 'x')",
        "select posthaste.publish('a', 'b', 'x')",
        "update posthaste.outbox set topic = 'a'",
        "delete from posthaste.dead_letter",
        "select * from posthaste.inbox",
        "select * from posthaste.audit",
        "update posthaste.cluster set floor = 1",
        "select posthaste.act(array[1], 'me', null)",
        "truncate posthaste.outbox",
    ] {
        assert!(!cast.may(&cast.roles.relay, never).await, "{never}");
    }
}

#[tokio::test]
async fn an_operator_sees_everything_and_acts_on_record_only() {
    let Some(cast) = Cast::new().await else { return };
    let consumer = cast.played_by(&cast.roles.consumer);
    for number in 1..=2 {
        let mut tx = consumer.begin().await.expect("begin");
        let burial = Burial { reason: DeadReason::Rejected, detail: "no".to_owned(), attempts: 1 };
        consumer.bury(&mut tx, "shipping", &message(number), &burial).await.expect("bury");
        consumer.commit(tx).await.expect("commit");
    }
    state(&cast.played_by(&cast.roles.writer), 1).await;
    let operator = cast.played_by(&cast.roles.operator);
    let letters = operator.list(&DeadFilter { limit: 9, ..DeadFilter::default() }).await;
    let letters: Vec<_> =
        letters.expect("list").into_iter().map(|letter| letter.reference).collect();
    operator.repost(&letters[..1], "ann").await.expect("repost");
    operator.discard(&letters[1..], "ann", "obsolete").await.expect("discard");
    operator.status("default").await.expect("status");
    let filter = EntryFilter { destination: "default".to_owned(), limit: 9, ..Default::default() };
    assert_eq!(operator.entries(&filter).await.expect("entries").len(), 1);
    operator.want_lanes("default", 2).await.expect("want lanes");
    for never in [
        "delete from posthaste.audit",
        "update posthaste.audit set actor = 'nobody'",
        "delete from posthaste.outbox",
        "insert into posthaste.outbox (topic, kind, payload) values ('a', 'b', 'x')",
        "update posthaste.checkpoint set token = ''",
        "update posthaste.lease set token = 1",
        "update posthaste.cluster set floor = 1",
    ] {
        assert!(!cast.may(&cast.roles.operator, never).await, "{never}");
    }
}

#[tokio::test]
async fn an_operator_reposts_and_gives_up_what_a_relay_could_not_send() {
    let Some(cast) = Cast::new().await else { return };
    for number in 1..=3 {
        state(&cast.played_by(&cast.roles.writer), number).await;
    }
    let relay = cast.played_by(&cast.roles.relay);
    let lane = Lane::whole("default");
    let lease = leading(&relay, &lane).await;
    let from = relay.checkpoint(&lane).await.expect("checkpoint");
    let batch = relay.read(&lane, &from, ALL).await.expect("read");
    let dead = |park| Verdict::Dead {
        reason: DeadReason::Refused,
        detail: "no".to_owned(),
        attempts: 1,
        park,
    };
    let verdicts = vec![judged(1, dead(true)), judged(2, dead(true)), judged(3, Verdict::Behind)];
    let settlement =
        Settlement { lane: lane.clone(), number: 1, checkpoint: Some(batch.checkpoint), verdicts };
    relay.settle(&lease, &settlement).await.expect("settle");
    let operator = cast.played_by(&cast.roles.operator);
    operator.discard(&["1".to_owned()], "ann", "obsolete").await.expect("discard");
    operator.repost(&["2".to_owned()], "ann").await.expect("repost");
    let ready = relay.ready(&lane, ALL).await.expect("ready");
    assert!(!ready.entries.is_empty());
}

#[tokio::test]
async fn an_owner_migrates_a_schema_that_was_made_for_it_without_any_other_right() {
    let Some(fixture) = Fixture::unmigrated(Options::default()).await else { return };
    let owner = format!("{}-owner", fixture.test.name);
    fixture
        .sql(&format!(
            "create role \"{owner}\" login; create schema posthaste authorization \"{owner}\""
        ))
        .await;
    let database = fixture.as_role(&owner);
    database.migrate().await.expect("migrate");
    database.migrate().await.expect("again");
    assert!(database.adopt("ann").await.expect("adopt")[0].contains("nothing to adopt"));
    state(&database, 1).await;
    assert_eq!(fixture.rows().await, 1);
}

#[tokio::test]
async fn whoever_has_no_grant_can_do_nothing() {
    let Some(cast) = Cast::new().await else { return };
    let nobody = format!("{}-nobody", cast.fixture.test.name);
    cast.fixture.sql(&format!("create role \"{nobody}\"")).await;
    assert!(!cast.may(&nobody, "select posthaste.publish('a', 'b', 'x')").await);
    let open = "select count(*) from pg_proc where pronamespace = 'posthaste'::regnamespace \
         and has_function_privilege('public', oid, 'execute')";
    assert_eq!(cast.fixture.sql(open).await, "0", "functions are nobody's by default");
}
