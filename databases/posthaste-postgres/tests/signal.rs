//! Hints of commits: heard from other processes, and never needed.

use std::time::Duration;

use posthaste_core::outbox::Signal;
use posthaste_postgres::{Options, Postgres};

use crate::fixture::{Fixture, message};

/// Whether a hint comes in time.
async fn is_signalled(database: &Postgres, patience: Duration) -> bool {
    tokio::time::timeout(patience, database.changed()).await.is_ok()
}

async fn quiet(database: &Postgres) {
    while is_signalled(database, Duration::from_millis(200)).await {}
}

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_writer_in_any_language_can_give_a_hint() {
    let Some(fixture) = Fixture::new().await else { return };
    quiet(&fixture.database).await;
    fixture.sql("notify posthaste_outbox").await;
    assert!(is_signalled(&fixture.database, PATIENCE).await);
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_counts_as_a_hint() {
    let Some(fixture) = Fixture::new().await else { return };
    quiet(&fixture.database).await;
    let ended = fixture
        .sql(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity \
             where application_name = 'posthaste listen' and datname = current_database()",
        )
        .await;
    assert_eq!(ended, "1", "one connection listens");
    assert!(is_signalled(&fixture.database, PATIENCE).await, "something may have been missed");
    quiet(&fixture.database).await;
    fixture.sql("notify posthaste_outbox").await;
    assert!(is_signalled(&fixture.database, PATIENCE).await);
}

#[tokio::test]
async fn many_commits_make_few_notifications() {
    let Some(fixture) = Fixture::new().await else { return };
    let second = fixture.second();
    quiet(&second).await;
    let before = std::time::Instant::now();
    for n in 0..100 {
        fixture.state(&[message(n)]).await;
    }
    let lasted = before.elapsed();
    let mut hints = 0;
    while is_signalled(&second, Duration::from_millis(200)).await {
        hints += 1;
    }
    let most = 2 + lasted.as_millis() / 10;
    assert!((1..=most).contains(&hints), "{hints} hints for 100 commits in {lasted:?}");
}

#[tokio::test]
async fn without_hints_nobody_listens_and_a_commit_in_the_process_is_still_seen() {
    let options = Options { listen: false, ..Options::default() };
    let Some(fixture) = Fixture::unmigrated(options).await else { return };
    posthaste_core::database::Schema::migrate(&fixture.database).await.expect("migrate");
    quiet(&fixture.database).await;
    let listening = "select count(*) from pg_stat_activity \
                     where application_name = 'posthaste listen' and datname = current_database()";
    assert_eq!(fixture.sql(listening).await, "0");
    fixture.sql("notify posthaste_outbox").await;
    assert!(!is_signalled(&fixture.database, Duration::from_millis(300)).await);
    fixture.state(&[message(1)]).await;
    assert!(is_signalled(&fixture.database, PATIENCE).await);
}
