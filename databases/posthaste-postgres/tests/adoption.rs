//! A dump that is restored elsewhere: refused until it is adopted, and then complete.

use std::process::Command;
use std::time::Duration;

use posthaste_core::database::Schema;
use posthaste_core::lease::{Claim, Leases};
use posthaste_core::outbox::{Feed, OutboxReader, ReadLimit, Settled, Settlement};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Lane, MessageId, StoreError, Verdict};
use posthaste_postgres::{Options, Postgres};
use posthaste_servers::TestDatabase;

use crate::fixture::{Fixture, id, message, shown};

const SOME: ReadLimit = ReadLimit { messages: 2, bytes: 1 << 20 };

fn open(database: &TestDatabase) -> Postgres {
    Postgres::open(&database.url(), Options::default()).expect("a good URL")
}

/// Sends and settles what there is to read, in portions, and returns the ids. The number goes on.
async fn drain(database: &Postgres, number: &mut u64, portions: usize) -> Vec<MessageId> {
    let lane = Lane::whole("default");
    let claim = database.acquire(&lane.lease_name(), "me", Duration::from_secs(60)).await;
    let Claim::Granted(lease) = claim.expect("a claim") else { panic!("held by nobody else") };
    let mut sent = Vec::new();
    for _ in 0..portions {
        let from = database.checkpoint(&lane).await.expect("checkpoint");
        let batch = database.read(&lane, &from, SOME).await.expect("read");
        let verdicts = batch.entries.iter().map(|entry| {
            let body = entry.body.as_ref().expect("a message");
            sent.push(body.id);
            Settled {
                position: entry.position.clone(),
                feed: Feed::New,
                address: Some((body.topic.clone(), body.key.clone())),
                verdict: Verdict::Sent,
            }
        });
        let verdicts = verdicts.collect();
        *number += 1;
        let settlement = Settlement {
            lane: lane.clone(),
            number: *number,
            checkpoint: Some(batch.checkpoint),
            verdicts,
        };
        database.settle(&lease, &settlement).await.expect("settle");
    }
    sent
}

/// Restores a dump of one database into another one, data and all.
async fn copy(from: &TestDatabase, to: &TestDatabase) {
    let server = from.server();
    let mut dump = Command::new(server.binaries().join("pg_dump"));
    dump.args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres"]);
    let dumped = dump.arg(&from.name).output().expect("pg_dump runs");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let text = String::from_utf8(dumped.stdout).expect("UTF-8");
    to.psql(&text).await.expect("restored");
}

#[tokio::test]
async fn a_copy_is_refused_until_it_is_adopted_and_then_sends_the_rest_once() {
    let Some(fixture) = Fixture::new().await else { return };
    let stated: Vec<_> = (1..=9).map(message).collect();
    fixture.state(&stated[..3]).await;
    // The fourth takes its number now and commits after the others: it is late in the copy too.
    let mut late = fixture.database.begin().await.expect("begin");
    fixture.database.enqueue(&mut late, &stated[3..4]).await.expect("enqueue");
    fixture.state(&stated[4..7]).await;
    let mut number = 0;
    let mut sent = drain(&fixture.database, &mut number, 3).await;
    assert_eq!(sent.len(), 6, "all but the late one");
    fixture.database.commit(late).await.expect("commit");
    fixture.state(&stated[7..8]).await;

    let other = fixture.test.server().database().await;
    copy(&fixture.test, &other).await;
    let copied = open(&other);
    assert_eq!(copied.version().await.expect("version"), Some(1));
    let refused = copied.checkpoint(&Lane::whole("default")).await;
    assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
    assert!(shown(refused).contains("posthaste adopt"));

    let notes = copied.adopt("ann").await.expect("adopt");
    assert!(notes[0].contains("adopted"), "{notes:?}");
    let mut tx = copied.begin().await.expect("begin");
    copied.enqueue(&mut tx, &stated[8..9]).await.expect("enqueue");
    copied.commit(tx).await.expect("commit");
    sent.extend(drain(&copied, &mut number, 4).await);
    sent.sort_unstable();
    let all: Vec<_> = (1..=9).map(id).collect();
    assert_eq!(sent, all, "each once");
    let record = "select action, actor from posthaste.audit";
    assert_eq!(other.psql(record).await.as_deref(), Ok("adopt|ann"));
    let again = copied.adopt("ann").await.expect("adopt");
    assert!(again.len() == 1 && again[0].contains("nothing to adopt"), "{again:?}");
}

#[tokio::test]
async fn the_original_is_no_copy() {
    let Some(fixture) = Fixture::new().await else { return };
    let notes = fixture.database.adopt("ann").await.expect("adopt");
    assert!(notes[0].contains("nothing to adopt"), "{notes:?}");
    assert_eq!(fixture.sql("select count(*) from posthaste.audit").await, "0");
}

#[tokio::test]
async fn an_adoption_waits_for_writers_and_says_so() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql("update posthaste.cluster set database_oid = 1").await;
    let mut open = fixture.database.begin().await.expect("begin");
    fixture.database.enqueue(&mut open, &[message(1)]).await.expect("enqueue");
    let options = Options { lock_timeout: Duration::from_millis(50), ..Options::default() };
    let impatient = Postgres::open(&fixture.test.url(), options).expect("a good URL");
    let refused = impatient.adopt("ann").await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(shown(refused).contains("is still open"));
    fixture.database.commit(open).await.expect("commit");
    impatient.adopt("ann").await.expect("adopt");
}

#[tokio::test]
async fn numbers_that_sessions_hold_back_prevent_an_adoption() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql("update posthaste.cluster set database_oid = 1").await;
    fixture.sql("alter table posthaste.outbox alter column seq set cache 5").await;
    assert!(shown(fixture.database.adopt("ann").await).contains("set cache 1"));
}
