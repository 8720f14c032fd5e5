//! The laws of a PostgreSQL server for tests.

use super::*;
use crate::{postgres_or_skip, skip};

macro_rules! postgres {
    ($options:expr) => {
        match Postgres::missing() {
            None => Postgres::start($options).await,
            Some(reason) => return skip(&reason),
        }
    };
}

/// Asks again and again until this is the answer.
async fn until(postgres: &Postgres, question: &str, wanted: &str) {
    let deadline = Instant::now() + START;
    loop {
        let answer = postgres.psql("postgres", question).await;
        if answer.as_deref() == Ok(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{question}: {answer:?}");
    }
}

#[tokio::test]
async fn databases_are_apart() {
    let Some(postgres) = postgres_or_skip().await else { return };
    let (one, two) = (postgres.database().await, postgres.database().await);
    one.psql("create table a (b text); insert into a values ('x'), ('y');").await.expect("made");
    assert_eq!(one.psql("select b, 1 from a order by b").await.as_deref(), Ok("x|1\ny|1"));
    assert!(two.psql("select b from a").await.is_err_and(|reason| reason.contains("a")));
    assert!(one.url().ends_with(&one.name) && one.admin_url().ends_with("/postgres"));
}

#[tokio::test]
async fn what_was_committed_survives_a_kill_and_what_was_prepared_does() {
    let postgres = postgres!(PostgresOptions::new());
    let settings = "show fsync; show wal_level; show max_prepared_transactions";
    assert_eq!(postgres.psql("postgres", settings).await.as_deref(), Ok("on\nlogical\n16"));
    let made = "create table a (b int); insert into a values (1);
        begin; insert into a values (2); prepare transaction 'late';";
    postgres.psql("postgres", made).await.expect("made");
    let port = postgres.port();
    postgres.kill().await;
    assert!(postgres.psql("postgres", "select 1").await.is_err());
    postgres.restart().await;
    assert_eq!(postgres.port(), port);
    let found = postgres.psql("postgres", "commit prepared 'late'; select sum(b) from a").await;
    assert_eq!(found.as_deref(), Ok("3"));
    assert!(postgres.log().contains("redo"), "it recovered from a crash: {}", postgres.log());
}

#[tokio::test]
async fn a_stop_is_clean() {
    let postgres = postgres!(PostgresOptions::new().set("work_mem", "5MB"));
    postgres.stop().await;
    assert!(postgres.log().contains("database system is shut down"), "{}", postgres.log());
    postgres.restart().await;
    assert!(!postgres.log().contains("redo"), "{}", postgres.log());
    assert_eq!(postgres.psql("postgres", "show work_mem").await.as_deref(), Ok("5MB"));
}

#[tokio::test]
async fn a_paused_server_is_silent_until_it_goes_on() {
    let postgres = postgres!(PostgresOptions::new());
    let asking = tokio::spawn({
        let postgres = postgres.clone();
        async move { postgres.psql("postgres", "select pg_sleep(0.3), 7").await }
    });
    let busy = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    until(&postgres, busy, "1").await;
    postgres.pause().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!asking.is_finished(), "the server goes on although it is paused");
    postgres.resume().await;
    assert_eq!(asking.await.expect("it was asked").as_deref(), Ok("|7"));
}

#[tokio::test]
async fn the_end_of_a_server_leaves_nothing() {
    let postgres = postgres!(PostgresOptions::new());
    let directory = postgres.directory().to_owned();
    assert!(directory.join("data").is_dir());
    drop(postgres);
    assert!(!directory.exists());
}

#[tokio::test]
async fn tls_is_for_the_name_and_the_authority() {
    let postgres = postgres!(PostgresOptions::new().tls());
    let ask = |address: String| {
        let mut psql = command::clean(postgres.binaries().join("psql"));
        psql.args([
            "-X",
            "-A",
            "-t",
            "-c",
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
        ]);
        command::run(psql.arg(address), "", START)
    };
    let (url, tls) = (postgres.tls_url("postgres"), postgres.tls());
    let trusting =
        |url: &str, authority: &Path| format!("{url}&sslrootcert={}", authority.display());
    assert_eq!(ask(trusting(&url, &tls.authority)).as_deref(), Ok("t"));
    assert!(ask(trusting(&url, &tls.foreign_authority)).is_err());
    let other_name = url.replace("localhost", "127.0.0.1");
    assert!(ask(trusting(&other_name, &tls.authority)).is_err());
}

#[tokio::test]
async fn a_standby_follows_and_is_promoted_with_what_was_prepared() {
    let postgres = postgres!(PostgresOptions::new());
    let standby = postgres.standby().await;
    let made = "set synchronous_commit = remote_apply; create table a (b int);
        begin; insert into a values (1); prepare transaction 'late';";
    let wait = "alter system set synchronous_standby_names = '*'; select pg_reload_conf();";
    postgres.psql("postgres", wait).await.expect("it waits for the standby");
    let waits = "show synchronous_standby_names";
    until(&postgres, waits, "*").await;
    postgres.psql("postgres", made).await.expect("made");
    assert!(standby.psql("postgres", "insert into a values (2)").await.is_err());
    postgres.kill().await;
    standby.promote().await;
    let found = standby.psql("postgres", "commit prepared 'late'; select count(*) from a").await;
    assert_eq!(found.as_deref(), Ok("1"));
}
