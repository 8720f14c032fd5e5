//! A database file that cannot grow while relay and consumers are at work: whoever writes is told
//! so, nothing that was promised is lost, and everything goes on once there is room again.

use posthaste_proof::chance::Chance;
use posthaste_proof::shop::{Behaviour, Order};
use posthaste_proof::{Failure, World};
use sqlx::AssertSqlSafe;

use crate::inside::{Inside, all_connections};
use crate::rig::{BOOKED, PATIENCE, SOON, number, order, place, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_everything_goes_on_when_there_is_room() -> Result<(), Failure>
{
    let world = world(&Chance::from_environment(71)).await?;
    let mut inside = Inside::open(&world)?;
    place(&world, &orders(50)).await?;
    let progress = inside.start_relay();
    inside.start_till().await?;
    inside.start_books().await?;
    world.rest(PATIENCE).await?;

    let free = limit_pages(&world, None).await?;
    let refusal = fill(&world).await;
    assert!(refusal.contains("full"), "a writer is told what to do: {refusal}");
    let deadline = tokio::time::Instant::now() + SOON;
    let away = loop {
        if let Some((_, away)) = progress.snapshot().database_away {
            break away;
        }
        assert!(tokio::time::Instant::now() < deadline, "the relay never met the full disk");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(away.contains("full"), "health says what to do: {away}");
    let before = number(&world, BOOKED).await?;

    limit_pages(&world, Some(free)).await?;
    place(&world, &orders(20)).await?;
    world.until(BOOKED, before + 20, SOON).await?;
    assert!(world.rest(PATIENCE).await?, "everything goes on");
    inside.stop().await?;
    let truth = world.truth().await?;
    truth.kept()?;
    truth.is_worth(120, 0)?;
    assert!(truth.dead.is_empty(), "a full disk buries nothing: {:?}", truth.dead);
    world.remove()
}

fn orders(count: i64) -> Vec<Order> {
    (0..count).map(|n| order(&format!("customer {}", n % 7), n, Behaviour::Good, "")).collect()
}

/// Places orders until one is refused, and says how.
async fn fill(world: &World) -> String {
    loop {
        if let Err(refusal) = place(world, &orders(10)).await {
            return refusal.to_string();
        }
    }
}

/// Sets the most pages of the file on every connection; `None` is what it has now, and a few, so
/// that a backlog gathers before it is full. Returns what the limit was.
async fn limit_pages(world: &World, pages: Option<i64>) -> Result<i64, Failure> {
    let mut connections = all_connections(world).await?;
    let mut before = 0;
    for connection in &mut connections {
        let now: i64 = sqlx::query_scalar("pragma page_count").fetch_one(&mut **connection).await?;
        before = sqlx::query_scalar("pragma max_page_count").fetch_one(&mut **connection).await?;
        let most = pages.unwrap_or(now + 12);
        let text = format!("pragma max_page_count = {most}");
        let _: i64 = sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(&mut **connection).await?;
    }
    Ok(before)
}
