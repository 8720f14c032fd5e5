//! Partitions come and go while writers write, and nothing that is needed goes with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use posthaste_core::database::{Monitor, Schema, Upkeep};
use posthaste_core::finding::Severity;
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::outbox::{OutboxReader, ReadLimit, Settled, Settlement};
use posthaste_core::transaction::Transactional;
use posthaste_core::{Lane, Verdict};
use posthaste_postgres::{Options, Postgres};
use posthaste_servers::{PgBouncer, skip};

use crate::fixture::Fixture;

const ALL: ReadLimit = ReadLimit { messages: 100_000, bytes: 1 << 30 };

/// Small partitions instead of those of the first migration.
const SMALL: &str = "drop table posthaste.outbox_overflow, posthaste.outbox_p00001, \
       posthaste.outbox_p00002, posthaste.outbox_p00003; \
     create table posthaste.outbox_a partition of posthaste.outbox for values from (1) to (51); \
     create table posthaste.outbox_overflow partition of posthaste.outbox \
       for values from (51) to (maxvalue)";

async fn small() -> Option<(Fixture, Postgres)> {
    let options = Options { partition_rows: 50, ..Options::default() };
    let fixture = Fixture::unmigrated(options).await?;
    fixture.database.migrate().await.expect("migrate");
    fixture.sql(SMALL).await;
    let database = fixture.database.clone();
    Some((fixture, database))
}

async fn lease(database: &Postgres) -> Lease {
    let ttl = Duration::from_secs(600);
    match database.acquire("relay/default/0", "me", ttl).await.expect("a claim") {
        Claim::Granted(lease) => lease,
        held => panic!("{held:?}"),
    }
}

/// Reads on and settles everything as `verdict` says; returns how many there were.
async fn settle(
    database: &Postgres,
    lease: &Lease,
    number: &mut u64,
    verdict: impl Fn(usize) -> Verdict,
) -> usize {
    let lane = Lane::whole("default");
    let from = database.checkpoint(&lane).await.expect("checkpoint");
    let batch = database.read(&lane, &from, ALL).await.expect("read");
    let settled = |(n, entry): (usize, &posthaste_core::outbox::Entry)| Settled {
        position: entry.position.clone(),
        feed: posthaste_core::outbox::Feed::New,
        address: entry.body.as_ref().ok().map(|body| (body.topic.clone(), body.key.clone())),
        verdict: verdict(n),
    };
    *number += 1;
    let verdicts: Vec<Settled> = batch.entries.iter().enumerate().map(settled).collect();
    let count = verdicts.len();
    let checkpoint = Some(batch.checkpoint);
    let settlement = Settlement { lane, number: *number, checkpoint, verdicts };
    database.settle(lease, &settlement).await.expect("settle");
    count
}

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

/// The last partition still takes rows, and those of the first are old and sent.
async fn one_full(fixture: &Fixture, relay: &Postgres) -> Lease {
    let lease = lease(relay).await;
    fixture.sql(&insert(60)).await;
    assert_eq!(settle(relay, &lease, &mut 0, |_| Verdict::Sent).await, 60);
    tokio::time::sleep(Duration::from_millis(5)).await;
    lease
}

fn rows_of(partition: &str) -> String {
    format!("select count(*) from posthaste.{partition}")
}

async fn bounds(fixture: &Fixture) -> String {
    fixture
        .sql(
            "select string_agg(pg_get_expr(c.relpartbound, c.oid), '; ' order by c.relname) \
             from pg_inherits i join pg_class c on c.oid = i.inhrelid \
             where i.inhparent = 'posthaste.outbox'::regclass",
        )
        .await
}

async fn count(fixture: &Fixture) -> usize {
    fixture
        .sql("select count(*) from pg_inherits where inhparent = 'posthaste.outbox'::regclass")
        .await
        .parse()
        .expect("a number")
}

fn insert(rows: u32) -> String {
    format!(
        "insert into posthaste.outbox (topic, kind, payload) \
         select 'orders', 'placed', g from generate_series(1, {rows}) g"
    )
}

#[tokio::test]
async fn partitions_are_made_ahead_and_old_ones_go() {
    let Some((fixture, database)) = small().await else { return };
    let lease = lease(&database).await;
    let mut number = 0;
    let keep = Duration::from_millis(1);
    let (mut stated, mut removed) = (0, 0);
    for _ in 0..12 {
        fixture.sql(&insert(40)).await;
        stated += settle(&database, &lease, &mut number, |_| Verdict::Sent).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        removed += database.prune_sent(&lease, keep, 1000).await.expect("prune");
        let overflow = "select count(*) from posthaste.outbox_overflow";
        assert_eq!(fixture.sql(overflow).await, "0", "{}", bounds(&fixture).await);
    }
    removed += database.prune_sent(&lease, keep, 1000).await.expect("prune");
    assert_eq!((stated, removed), (480, 480));
    assert_eq!(fixture.rows().await, 0);
    let partitions = count(&fixture).await;
    assert!(partitions <= 8, "{partitions}: {}", bounds(&fixture).await);
    // A sequence that somebody has set back finds a partition for its numbers.
    fixture.sql("alter table posthaste.outbox alter column seq restart").await;
    fixture.sql(&insert(3)).await;
    assert_eq!(settle(&database, &lease, &mut number, |_| Verdict::Sent).await, 3);
}

#[tokio::test]
async fn a_last_partition_that_holds_rows_gets_an_end() {
    let Some((fixture, database)) = small().await else { return };
    let lease = lease(&database).await;
    fixture.sql(&insert(500)).await;
    let overflow = "select count(*) from posthaste.outbox_overflow";
    assert_eq!(fixture.sql(overflow).await, "450", "nobody has made partitions yet");
    database.prune_sent(&lease, Duration::from_secs(3600), 1000).await.expect("prune");
    assert_eq!(fixture.sql(overflow).await, "0", "{}", bounds(&fixture).await);
    assert_eq!(fixture.rows().await, 500, "nothing was lost");
    let bound = "select count(*) from pg_constraint where conname = 'posthaste_bound'";
    assert_eq!(fixture.sql(bound).await, "0");
    assert_eq!(settle(&database, &lease, &mut 0, |_| Verdict::Sent).await, 500);
}

#[tokio::test]
async fn what_waits_late_or_is_not_sent_keeps_its_row() {
    let Some((fixture, database)) = small().await else { return };
    let lease = lease(&database).await;
    let mut number = 0;
    // A row of the first partition that commits after everybody has passed it.
    let prepared = "begin; insert into posthaste.outbox (topic, kind, payload) \
                    values ('orders', 'placed', 'late'); prepare transaction 'late';";
    fixture.sql(prepared).await;
    fixture.sql(&insert(120)).await;
    let wait = Duration::from_secs(3600);
    let verdict = |n| match n {
        60 => Verdict::Retry { attempts: 1, delay: wait, detail: "busy".to_owned() },
        _ => Verdict::Sent,
    };
    settle(&database, &lease, &mut number, verdict).await;
    fixture.sql("commit prepared 'late'").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    for _ in 0..3 {
        database.prune_sent(&lease, Duration::from_millis(1), 1000).await.expect("prune");
    }
    let left = "select string_agg(payload, ' ' order by seq) from posthaste.outbox";
    assert_eq!(fixture.sql(left).await, "late 61", "{}", bounds(&fixture).await);
    assert_eq!(settle(&database, &lease, &mut number, |_| Verdict::Sent).await, 1, "it is read");
}

#[tokio::test]
async fn writers_never_fail_while_partitions_come_and_go() {
    let Some((fixture, database)) = small().await else { return };
    let lease = lease(&database).await;
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (pool, done) = (database.pool().clone(), done.clone());
            tokio::spawn(async move {
                let mut stated = 0;
                while !done.load(Ordering::SeqCst) {
                    sqlx::raw_sql(
                        "insert into posthaste.outbox (topic, kind, payload) \
                         values ('orders', 'placed', 'x'), ('orders', 'placed', 'y')",
                    )
                    .execute(&pool)
                    .await
                    .expect("a writer never fails");
                    stated += 2;
                }
                stated
            })
        })
        .collect();
    let (mut number, mut read, mut removed) = (0, 0, 0);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while (read < 3000 || removed < 1000) && tokio::time::Instant::now() < deadline {
        read += settle(&database, &lease, &mut number, |_| Verdict::Sent).await;
        removed += database
            .prune_sent(&lease, Duration::from_millis(1), 1000)
            .await
            .expect("pruning never fails");
    }
    done.store(true, Ordering::SeqCst);
    let mut stated = 0;
    for writer in writers {
        stated += writer.await.expect("a writer never fails");
    }
    read += settle(&database, &lease, &mut number, |_| Verdict::Sent).await;
    assert_eq!(read, stated, "everything was read once");
    assert!(removed >= 1000, "{removed} rows went");
    assert_eq!(
        fixture.rows().await,
        i64::try_from(stated).expect("few") - i64::try_from(removed).expect("few")
    );
}

#[tokio::test]
async fn what_a_member_of_the_owner_makes_belongs_to_the_owner() {
    let Some(fixture) = Fixture::unmigrated(Options::default()).await else { return };
    let (owner, relay) =
        (format!("{}-owner", fixture.test.name), format!("{}-r", fixture.test.name));
    fixture
        .sql(&format!(
            "create role \"{owner}\" login; create schema posthaste authorization \"{owner}\"; \
             create role \"{relay}\" login in role \"{owner}\""
        ))
        .await;
    fixture.as_role(&owner).migrate().await.expect("migrate");
    // Made by an earlier version.
    let earlier = format!(
        "set role \"{owner}\"; {SMALL}; reset role; \
         alter table posthaste.outbox_a owner to \"{relay}\""
    );
    fixture.sql(&earlier).await;
    let options = Options { partition_rows: 50, ..Options::default() };
    let relay = Postgres::open(&fixture.test.url_as(&relay), options).expect("a good URL");
    let lease = one_full(&fixture, &relay).await;
    for _ in 0..2 {
        relay.prune_sent(&lease, LONG, 1000).await.expect("prune");
    }
    assert!(count(&fixture).await > 3, "{}", bounds(&fixture).await);
    let others = "select string_agg(c.relname, ' ') from pg_class c, pg_class o \
         where o.oid = 'posthaste.outbox'::regclass and c.relowner <> o.relowner \
         and c.relnamespace = o.relnamespace and c.relkind in ('r', 'p', 'i', 'I')";
    assert_eq!(fixture.sql(others).await, "");
    let as_owner = format!(
        "set role \"{owner}\"; \
         do $$ declare t regclass; begin \
           for t in select inhrelid from pg_inherits \
             where inhparent = 'posthaste.outbox'::regclass loop \
             execute format('lock table %s in access share mode', t); \
             execute format('select count(*) from only %s', t); \
           end loop; end $$; \
         alter table posthaste.outbox add constraint later check (seq > 0); \
         alter table posthaste.outbox drop constraint later; select 'done'"
    );
    assert!(fixture.sql(&as_owner).await.ends_with("done"));
}

#[tokio::test]
async fn a_call_is_short_however_many_rows_wait_and_the_next_one_goes_on() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = lease(&fixture.database).await;
    fixture.sql(&insert(99_000)).await;
    fixture
        .sql(
            "insert into posthaste.held (destination, seq, hash, lane, topic, kind, state) \
             select 'default', g, 0, 0, 'orders', 'placed', 'parked' \
             from generate_series(1, 98900) g",
        )
        .await;
    assert_eq!(settle(&fixture.database, &lease, &mut 0, |_| Verdict::Sent).await, 99_000);
    fixture
        .sql(
            "insert into posthaste.held (destination, seq, hash, lane, topic, kind, state) \
             select 'default', g, 0, 0, 'orders', 'placed', 'parked' \
             from generate_series(1, 98900) g on conflict do nothing",
        )
        .await;
    let (mut removed, mut longest) = (0, Duration::ZERO);
    for _ in 0..60 {
        let began = tokio::time::Instant::now();
        removed += fixture.database.prune_sent(&lease, SHORT, 1000).await.expect("prune");
        longest = longest.max(began.elapsed());
        if removed == 100 {
            break;
        }
    }
    assert_eq!(removed, 100, "those behind all that wait");
    assert!(longest < Duration::from_millis(3500), "{longest:?}");
}

#[tokio::test]
async fn one_connection_is_enough() {
    let Some((fixture, _)) = small().await else { return };
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect(&fixture.test.url())
        .await
        .expect("connect");
    let options = Options { partition_rows: 50, ..Options::default() };
    let relay = Postgres::with_options(pool, options).expect("good options");
    let lease = one_full(&fixture, &relay).await;
    assert_eq!(relay.prune_sent(&lease, SHORT, 1000).await.expect("prune"), 60);
    assert_eq!(count(&fixture).await, 6, "{}", bounds(&fixture).await);
}

#[tokio::test]
async fn a_full_partition_is_emptied_through_a_pooler() {
    let Some((fixture, _)) = small().await else { return };
    if let Some(reason) = PgBouncer::missing() {
        return skip(&reason);
    }
    let settings = [("ignore_startup_parameters", "extra_float_digits")];
    let pooler = PgBouncer::start_with(fixture.test.server(), &settings).await;
    let url = format!("{}?pgbouncer=true", pooler.url(&fixture.test.name));
    let options = Options { partition_rows: 50, ..Options::default() };
    let relay = Postgres::open(&url, options).expect("a good URL");
    let lease = one_full(&fixture, &relay).await;
    assert_eq!(relay.prune_sent(&lease, SHORT, 1000).await.expect("prune"), 60);
    assert_eq!(fixture.rows().await, 0);
    assert_eq!(count(&fixture).await, 6, "{}", bounds(&fixture).await);
}

#[tokio::test]
async fn where_no_partition_can_be_made_old_messages_go_all_the_same() {
    let Some((fixture, database)) = small().await else { return };
    fixture
        .sql(
            "create function public.no() returns event_trigger language plpgsql as \
             'begin raise exception ''not today''; end'; create event trigger no \
             on ddl_command_start when tag in ('CREATE TABLE') execute function public.no()",
        )
        .await;
    let lease = one_full(&fixture, &database).await;
    assert_eq!(database.prune_sent(&lease, SHORT, 1000).await.expect("prune"), 60);
    assert_eq!(fixture.rows().await, 0);
}

#[tokio::test]
async fn a_partition_that_somebody_began_to_detach_comes_back_with_its_rows() {
    let Some((fixture, database)) = small().await else { return };
    fixture.sql(&insert(60)).await;
    let mut reader = fixture.second().begin().await.expect("begin");
    let look = "set transaction isolation level repeatable read; \
                select count(*) from posthaste.outbox";
    sqlx::raw_sql(look).execute(&mut *reader).await.expect("a look");
    let mut other = fixture.second().pool().acquire().await.expect("a connection");
    sqlx::raw_sql("set statement_timeout = '300ms'").execute(&mut *other).await.expect("set");
    let detach = "alter table posthaste.outbox detach partition posthaste.outbox_a concurrently";
    sqlx::raw_sql(detach).execute(&mut *other).await.expect_err("it is not done in time");
    drop(reader);
    assert_eq!(fixture.rows().await, 10, "those of the partition are nowhere");
    let problem = database.findings().await.into_iter().find(|it| it.what.contains("detach"));
    assert_eq!(problem.expect("a finding").severity, Severity::Problem);
    let lease = lease(&database).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while fixture.rows().await < 60 && tokio::time::Instant::now() < deadline {
        database.prune_sent(&lease, LONG, 1000).await.expect("prune");
    }
    assert_eq!(fixture.rows().await, 60, "{}", bounds(&fixture).await);
    assert_eq!(settle(&database, &lease, &mut 0, |_| Verdict::Sent).await, 60);
}

#[tokio::test]
async fn a_partition_is_as_old_as_its_youngest_row_that_a_right_clock_has_stated() {
    let Some((fixture, database)) = small().await else { return };
    let lease = lease(&database).await;
    let stated = |when: &str, rows: u32| {
        format!(
            "insert into posthaste.outbox (topic, kind, payload, stated_at) \
             select 'orders', 'placed', g, clock_timestamp() {when} from generate_series(1, {rows}) g; "
        )
    };
    // Its last row is of a clock that was behind.
    fixture.sql(&(stated("", 20) + &stated("- interval '2 hours'", 30) + &insert(50))).await;
    settle(&database, &lease, &mut 0, |_| Verdict::Sent).await;
    database.prune_sent(&lease, LONG, 1000).await.expect("prune");
    assert_eq!(fixture.sql(&rows_of("outbox_a")).await, "50");
    // And here of one that was ahead.
    let Some((fixture, database)) = small().await else { return };
    let lease = self::lease(&database).await;
    let ahead = stated("- interval '2 hours'", 10) + &stated("+ interval '9 years'", 40);
    fixture.sql(&(ahead + &insert(10))).await;
    settle(&database, &lease, &mut 0, |_| Verdict::Sent).await;
    assert_eq!(database.prune_sent(&lease, LONG, 1000).await.expect("prune"), 50);
    assert_eq!(fixture.rows().await, 10, "{}", bounds(&fixture).await);
}

#[tokio::test]
async fn nothing_waits_for_a_time_that_only_a_wrong_clock_has_seen() {
    let Some(fixture) = Fixture::new().await else { return };
    let lease = lease(&fixture.database).await;
    let filed = |seq: u32, state: &str, filed: &str, ready: &str| {
        format!(
            "insert into posthaste.held \
               (destination, seq, hash, lane, topic, kind, state, ready_at, history) \
             values ('default', {seq}, 0, 0, 't', 'k', '{state}', now() + interval '{ready}', \
               jsonb_build_array(jsonb_build_object('at', (extract(epoch from \
                 now() + interval '{filed}') * 1000000)::bigint))); "
        )
    };
    let rows = [
        filed(1, "retry", "4 years", "4 years 1 minute"),
        filed(2, "retry", "4 years", "4 years 3 days"),
        filed(3, "unroutable", "4 years", "4 years"),
        filed(4, "retry", "0 days", "3 days"),
        filed(5, "due", "4 years", "4 years"),
    ];
    fixture.sql(&rows.concat()).await;
    let waits = "select string_agg(round(extract(epoch from ready_at - now()) / 60)::text, ' ' \
         order by seq) from posthaste.held where seq < 5";
    let before = fixture.sql(waits).await;
    fixture.database.prune_sent(&lease, LONG, 1000).await.expect("prune");
    assert_eq!(fixture.sql(waits).await, before, "the clock was not set back");
    let noted = "insert into posthaste.batch (destination, lane, token, settlement, at, sent, \
         failed, dead) values ('default', 0, 1, 1, now() + interval '4 years', 0, 1, 0)";
    fixture.sql(noted).await;
    for _ in 0..2 {
        fixture.database.prune_sent(&lease, LONG, 1000).await.expect("prune");
        assert_eq!(fixture.sql(waits).await, "1 4320 0 4320");
    }
    let due = "select ready_at > now() + interval '1 year' from posthaste.held where seq = 5";
    assert_eq!(fixture.sql(due).await, "t", "it is due then");
    assert_eq!(fixture.sql("select count(*) from posthaste.batch").await, "0");
}
