//! What is refused because it would lose, repeat or stop something, and what works whatever the
//! role and the database are set to.

use std::time::Duration;

use posthaste_core::lane::Lanes;
use posthaste_core::lease::{Claim, Lease, Leases};
use posthaste_core::outbox::{OutboxReader, ReadLimit, Settlement};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_core::{Checkpoint, Lane, StoreError};
use posthaste_postgres::Postgres;
use sqlx::postgres::PgPoolOptions;

use crate::fixture::{Fixture, message, shown};

const LIMIT: ReadLimit = ReadLimit { messages: 100, bytes: 1 << 20 };

async fn leading(database: &Postgres, lane: &Lane) -> Lease {
    let claim = database.acquire(&lane.lease_name(), "me", Duration::from_secs(600)).await;
    match claim.expect("a claim") {
        Claim::Granted(lease) => lease,
        held => panic!("{held:?}"),
    }
}

fn nothing(lane: &Lane, number: u64) -> Settlement {
    Settlement { lane: lane.clone(), number, checkpoint: None, verdicts: Vec::new() }
}

async fn set(fixture: &Fixture, setting: &str) {
    let name = &fixture.test.name;
    // It may be what keeps this from being changed.
    let free = "set default_transaction_read_only = off";
    fixture.sql(&format!("{free}; alter database \"{name}\" set {setting}")).await;
}

#[tokio::test]
async fn lanes_of_another_division_are_not_read() {
    let Some(fixture) = Fixture::new().await else { return };
    let (database, start) = (&fixture.database, Checkpoint::start());
    fixture.state(&[message(1)]).await;
    fixture.sql("insert into posthaste.lanes values ('default', 2, 2)").await;
    let lane = Lane::whole("default");
    let checkpoint = database.checkpoint(&lane).await;
    assert!(matches!(checkpoint, Err(StoreError::Fenced)), "{checkpoint:?}");
    let read = database.read(&lane, &start, LIMIT).await;
    assert!(matches!(read, Err(StoreError::Fenced)), "{read:?}");
    let ready = database.ready(&lane, LIMIT).await;
    assert!(matches!(ready, Err(StoreError::Fenced)), "{ready:?}");
    for lane in Lane::all("default", 2) {
        database.read(&lane, &start, LIMIT).await.expect("a lane of now");
    }
}

#[tokio::test]
async fn a_checkpoint_that_is_gone_is_not_begun_by_a_settlement() {
    let Some(fixture) = Fixture::new().await else { return };
    let lane = Lane::whole("default");
    let lease = leading(&fixture.database, &lane).await;
    fixture.sql("delete from posthaste.checkpoint").await;
    let settled = fixture.database.settle(&lease, &nothing(&lane, 1)).await;
    assert!(matches!(settled, Err(StoreError::Fenced)), "{settled:?}");
    assert_eq!(fixture.sql("select count(*) from posthaste.checkpoint").await, "0");
    assert_eq!(fixture.sql("select settlement from posthaste.lease").await, "0", "all or nothing");
    let lease = leading(&fixture.database, &lane).await;
    fixture.database.settle(&lease, &nothing(&lane, 1)).await.expect("settle");
}

/// A standby that took over without the last grants gives out their tokens again.
#[tokio::test]
async fn a_token_that_was_given_out_again_is_not_the_earlier_holders() {
    let Some(fixture) = Fixture::new().await else { return };
    let lane = Lane::whole("default");
    let lease = leading(&fixture.database, &lane).await;
    fixture.sql("update posthaste.lease set owner = 'another'").await;
    let settled = fixture.database.settle(&lease, &nothing(&lane, 1)).await;
    assert!(matches!(settled, Err(StoreError::Fenced)), "{settled:?}");
    let renewed = fixture.database.renew(&lease, Duration::from_secs(60)).await;
    assert!(matches!(renewed, Err(StoreError::Fenced)), "{renewed:?}");
    let divided = fixture.database.divide("default", std::slice::from_ref(&lease)).await;
    assert!(matches!(divided, Err(StoreError::Fenced)), "{divided:?}");
    fixture.database.release(&lease).await.expect("changes nothing");
    let held = "select count(*) from posthaste.lease where expires_at > clock_timestamp()";
    assert_eq!(fixture.sql(held).await, "1", "it was given back by somebody else");
}

#[tokio::test]
async fn nobody_leads_in_a_copy_before_it_is_adopted() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.sql("update posthaste.cluster set database_oid = 1").await;
    let lane = Lane::whole("default");
    let claim = fixture.database.acquire(&lane.lease_name(), "me", Duration::from_secs(60)).await;
    assert!(shown(claim).contains("posthaste adopt"));
    assert_eq!(fixture.sql("select count(*) from posthaste.checkpoint").await, "0");
    let acted = fixture.refused("select posthaste.act(array[1], 'me', null)").await;
    assert!(acted.contains("is a copy"), "{acted}");
}

#[tokio::test]
async fn names_are_compared_by_their_bytes() {
    let Some(fixture) = Fixture::new().await else { return };
    let other = "select count(*), count(*) filter (where a.attcollation = '\"C\"'::regcollation) \
         from pg_attribute a join pg_class c on c.oid = a.attrelid \
         where c.relnamespace = 'posthaste'::regnamespace and c.relkind in ('r', 'p') \
         and a.attname in ('destination', 'name', 'topic', 'kind', 'key', 'consumer', 'owner')";
    let counted = fixture.sql(other).await;
    let (all, bytes) = counted.split_once('|').expect("two numbers");
    assert_eq!(all, bytes);
}

#[tokio::test]
async fn what_the_database_is_set_to_holds_for_the_services_transactions_only() {
    let Some(fixture) = Fixture::new().await else { return };
    set(&fixture, "default_transaction_isolation = 'serializable'").await;
    set(&fixture, "default_transaction_read_only = on").await;
    let (database, lane) = (fixture.second(), Lane::whole("default"));
    let lease = leading(&database, &lane).await;
    database.settle(&lease, &nothing(&lane, 1)).await.expect("settle");
    let mut tx = database.begin().await.expect("begin");
    database.enqueue(&mut tx, &[message(1)]).await.expect("enqueue");
    let level: String = sqlx::query_scalar("select current_setting('transaction_isolation')")
        .fetch_one(&mut *tx)
        .await
        .expect("a setting");
    assert_eq!(level, "serializable");
    database.commit(tx).await.expect("commit");
    database.settle(&lease, &nothing(&lane, 2)).await.expect("on the same connection as well");

    let pool = PgPoolOptions::new().connect(&fixture.test.url()).await.expect("a pool");
    let foreign = Postgres::new(pool);
    let refused = foreign.acquire("other", "me", Duration::from_secs(1)).await;
    assert!(shown(refused).contains("default_transaction_read_only"));
    set(&fixture, "default_transaction_read_only = off").await;
    let pool = PgPoolOptions::new().connect(&fixture.test.url()).await.expect("a pool");
    let refused = Postgres::new(pool).settle(&lease, &nothing(&lane, 3)).await;
    assert!(shown(refused).contains("default_transaction_isolation"));
}

#[tokio::test]
async fn a_division_of_much_that_waits_takes_the_time_that_it_takes() {
    let Some(fixture) = Fixture::new().await else { return };
    set(&fixture, "statement_timeout = '2s'").await;
    fixture
        .sql(
            "create function public.slow() returns trigger language plpgsql as \
               $$ begin perform pg_sleep(2.5); return null; end $$; \
             create trigger slow before update on posthaste.held \
               for each statement execute function public.slow()",
        )
        .await;
    let (database, lane) = (fixture.second(), Lane::whole("default"));
    let lease = leading(&database, &lane).await;
    database.want_lanes("default", 2).await.expect("want lanes");
    database.divide("default", &[lease]).await.expect("divide");
}
