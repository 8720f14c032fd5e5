//! Partitions come and go while writers write, and nothing that is needed goes with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use posthaste_core::database::{Schema, Upkeep};
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::outbox::{OutboxReader, ReadLimit, Settled, Settlement};
use posthaste_core::{Lane, Verdict};
use posthaste_postgres::{Options, Postgres};

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
