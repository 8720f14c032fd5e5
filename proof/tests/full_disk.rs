//! A database file that cannot grow while relay and consumers are at work: whoever writes is told
//! so, nothing that was promised is lost, and everything goes on once there is room again.

use std::time::Duration;

use posthaste_proof::chance::Chance;
use posthaste_proof::shop::{Behaviour, Order};
use posthaste_proof::{Failure, World};
use sqlx::AssertSqlSafe;

use crate::inside::{Inside, all_connections};
use posthaste_proof::rig::{BOOKED, PATIENCE, number, order, place, world};

/// Orders that wait when the disk is full.
const BACKLOG: i64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_everything_goes_on_when_there_is_room() -> Result<(), Failure>
{
    let world = world(&Chance::from_environment(71)).await?;
    let mut inside = Inside::open(&world)?;
    place(&world, &orders(BACKLOG)).await?;
    // Enough to begin with, and not for what relay and consumers have to write for the backlog.
    let room = limit_pages(&world, Limit::MoreBy(8)).await?;
    let progress = inside.start_relay();
    inside.start_till().await?;
    inside.start_books().await?;
    assert!(!world.rest(Duration::from_secs(2)).await?, "the disk was to be full");
    let refusal = fill(&world).await;
    assert!(refusal.contains("full"), "a writer is told what is the matter: {refusal}");
    if let Some((_, away)) = progress.snapshot().database_away {
        assert!(away.contains("full"), "health says what is the matter: {away}");
    }
    assert!(number(&world, BOOKED).await? < BACKLOG, "the consumer met the full disk");

    limit_pages(&world, Limit::At(room)).await?;
    place(&world, &orders(20)).await?;
    assert!(world.rest(PATIENCE).await?, "everything goes on");
    inside.stop().await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(320, 0)?;
    assert!(truth.dead.is_empty(), "a full disk buries nothing: {:?}", truth.dead);
    world.remove()
}

fn orders(count: i64) -> Vec<Order> {
    (0..count).map(|n| order(&format!("customer {}", n % 7), n, Behaviour::Good, "")).collect()
}

/// The most pages of the file.
#[derive(Clone, Copy)]
enum Limit {
    At(i64),
    /// So many more than it has now.
    MoreBy(i64),
}

/// Places orders until one is refused, and says how.
async fn fill(world: &World) -> String {
    loop {
        if let Err(refusal) = place(world, &orders(1)).await {
            return refusal.to_string();
        }
    }
}

/// Sets the limit on every connection, and returns what it was.
async fn limit_pages(world: &World, limit: Limit) -> Result<i64, Failure> {
    let mut connections = all_connections(world).await?;
    let mut before = 0;
    for connection in &mut connections {
        let now: i64 = sqlx::query_scalar("pragma page_count").fetch_one(&mut **connection).await?;
        before = sqlx::query_scalar("pragma max_page_count").fetch_one(&mut **connection).await?;
        let most = match limit {
            Limit::At(pages) => pages,
            Limit::MoreBy(pages) => now + pages,
        };
        let text = format!("pragma max_page_count = {most}");
        let _: i64 = sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(&mut **connection).await?;
    }
    Ok(before)
}
