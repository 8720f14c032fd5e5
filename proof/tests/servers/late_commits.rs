//! Transactions that stay open while many others commit, roll back, take back a part of themselves,
//! or are prepared and outlive a crash of the server: none is skipped, and none holds up others.

use std::time::Duration;

use posthaste::Outbox;
use posthaste::core::MessageId;
use posthaste_proof::chance::Chance;
use posthaste_proof::evidence::{acknowledged, rolled_back};
use posthaste_proof::node::Writing;
use posthaste_proof::shop::{Behaviour, Order};
use posthaste_proof::{Failure, Job};
use posthaste_servers::{Postgres, PostgresOptions, rabbitmq_or_skip, skip};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use posthaste_proof::rig::{order, state};
use posthaste_proof::site::{Site, moment};

/// Transactions that are prepared.
const PREPARED: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_commits_late_is_sent_and_holds_up_nobody() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(241);
    if let Some(reason) = Postgres::missing() {
        skip(&reason);
        return Ok(());
    }
    let Some(rabbitmq) = rabbitmq_or_skip().await else { return Ok(()) };
    let postgres = Postgres::start(PostgresOptions::new()).await;
    let site = Site::on(&postgres, rabbitmq, &chance).await?;
    let mut crew = site.crew(2).await?;
    let slow = Writing {
        transactions: u64::MAX,
        rollback_one_in: 4,
        hold_ms: 2500,
        savepoint_one_in: 3,
        customers: 6,
        ..Writing::default()
    };
    let slow = [(); 6].map(|()| Job::Write(slow.clone()));
    crew.add("writer that is slow", slow).await?;
    let mut pending = Vec::new();
    for number in 0..PREPARED {
        pending.push(prepare(&site, number).await?);
        site.goes_on(15).await?;
    }
    // An open transaction without any message holds up nobody either.
    let mut idle = PgConnection::connect(&site.world.database_url).await?;
    idle.execute("begin; select pg_current_xact_id()").await?;
    site.goes_on(40).await?;
    postgres.kill().await;
    postgres.restart().await;
    site.goes_on(40).await?;
    for (number, ids) in (0..).zip(pending) {
        moment(&mut chance, 200).await;
        finish(&site, number, ids, number % 3 != 2).await?;
    }
    site.goes_on(20).await?;
    let truth = site.judged(crew, 200).await?;
    assert!(truth.report.counts.rolled_back >= 20, "too few were rolled back: {:?}", truth.report);
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    let prepared: Vec<_> =
        truth.transactions().filter(|one| one.id.contains("of the test")).collect();
    assert_eq!(prepared.len(), 4, "those that were committed are there: {prepared:?}");
    site.world.remove()
}

/// States orders in a transaction and prepares it.
pub(super) async fn prepare(site: &Site, number: u64) -> Result<Vec<MessageId>, Failure> {
    let mut connection = PgConnection::connect(&site.world.database_url).await?;
    connection.execute("begin").await?;
    let orders: Vec<Order> =
        (0..4).map(|n| order(&format!("customer {n}"), n, Behaviour::Good, "prepared")).collect();
    let outbox = Outbox::new(site.world.database.clone());
    let ids = state(&outbox, &mut connection, &orders).await?;
    let prepare = AssertSqlSafe(format!("prepare transaction 'late {number}'"));
    connection.execute(prepare).await?;
    connection.close().await?;
    Ok(ids)
}

/// Commits or rolls back what was prepared.
pub(super) async fn finish(
    site: &Site,
    number: u64,
    ids: Vec<MessageId>,
    commit: bool,
) -> Result<(), Failure> {
    let ids = ids.iter().map(MessageId::to_string).collect();
    let mut connection = PgConnection::connect(&site.world.database_url).await?;
    let act = if commit { "commit" } else { "rollback" };
    connection.execute(AssertSqlSafe(format!("{act} prepared 'late {number}'"))).await?;
    connection.close().await?;
    site.world.evidence.note(match commit {
        true => acknowledged(ids),
        false => rolled_back(ids),
    })
}

/// A thousand rows commit while one with a lower number is open; then that one commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_low_number_that_commits_last_is_not_skipped() -> Result<(), Failure> {
    let chance = Chance::from_environment(242);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    let mut connection = PgConnection::connect(&site.world.database_url).await?;
    connection.execute("begin").await?;
    let outbox = Outbox::new(site.world.database.clone());
    let early = [order("ann", 1, Behaviour::Good, "early")];
    let ids = state(&outbox, &mut connection, &early).await?;
    let mut crew = site.crew(1).await?;
    site.goes_on(500).await?;
    site.end_writers(&mut crew).await?;
    connection.execute("commit").await?;
    let committed = ids.iter().map(MessageId::to_string).collect();
    site.world.evidence.note(acknowledged(committed))?;
    let booked = format!("select count(*) from shop_effect where message = '{}'", ids[0]);
    site.world.until(&booked, 1, Duration::from_secs(10)).await?;
    let truth = site.judged(crew, 500).await?;
    assert_eq!(truth.copies, 0, "no fault, no copy");
    site.world.remove()
}
