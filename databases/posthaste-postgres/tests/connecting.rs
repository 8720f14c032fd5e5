//! The way to the server: TLS, PgBouncer, and what is said when there is none.

use std::time::Duration;

use posthaste_core::StoreError;
use posthaste_core::database::Schema;
use posthaste_core::inbox::{Acceptance, Attempts, Inbox};
use posthaste_core::transaction::{OutboxWriter, Transactional};
use posthaste_postgres::{Options, Postgres};
use posthaste_servers::{PgBouncer, PostgresOptions, skip};

use crate::fixture::{Fixture, id, message, shown};

fn open(url: &str) -> Postgres {
    let options = Options { acquire_timeout: Duration::from_secs(10), ..Options::default() };
    Postgres::open(url, options).expect("a good URL")
}

#[tokio::test]
async fn a_certificate_is_believed_only_for_its_name_and_from_a_known_authority() {
    if let Some(reason) = posthaste_servers::Postgres::missing() {
        return skip(&reason);
    }
    let server = posthaste_servers::Postgres::start(PostgresOptions::new().tls()).await;
    let (url, tls) = (server.tls_url("postgres"), server.tls().clone());
    let trusting = |url: &str, authority: &std::path::Path| {
        open(&format!("{url}&sslrootcert={}", authority.display()))
    };
    let encrypted: bool =
        sqlx::query_scalar("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            .fetch_one(trusting(&url, &tls.authority).pool())
            .await
            .expect("a trusted connection");
    assert!(encrypted);
    let by_number = url.replace("localhost", "127.0.0.1");
    for (case, database) in [
        ("another authority", trusting(&url, &tls.foreign_authority)),
        ("another name", trusting(&by_number, &tls.authority)),
        ("no authority of its own", open(&url)),
    ] {
        let refused = database.version().await;
        assert!(matches!(refused, Err(StoreError::Failed { .. })), "{case}: {refused:?}");
        assert!(shown(refused).contains("sslrootcert=FILE"), "{case}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_a_certificate_is_wanted() {
    let Some(fixture) = Fixture::new().await else { return };
    let url = format!("{}?sslmode=verify-full", fixture.test.url());
    let refused = open(&url).version().await;
    assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
    let plain = open(&format!("{}?sslmode=disable", fixture.test.url()));
    plain.version().await.expect("asked for in so many words");
}

#[tokio::test]
async fn a_socket_is_a_way_to_the_server() {
    let Some(fixture) = Fixture::new().await else { return };
    let server = fixture.test.server();
    let folder = server.directory().display();
    let url =
        format!("postgres://postgres@/{}?host={folder}&port={}", fixture.test.name, server.port());
    assert_eq!(open(&url).version().await.expect("version"), Some(1));
}

#[tokio::test]
async fn what_is_not_there_is_named_without_the_password() {
    let Some(fixture) = Fixture::new().await else { return };
    let port = fixture.test.server().port();
    let free = posthaste_servers::free_port();
    for (url, part) in [
        (format!("postgres://postgres:hush@127.0.0.1:{port}/nowhere"), "nowhere"),
        (format!("postgres://nobody_here:hush@127.0.0.1:{port}/postgres"), "nobody_here"),
        (format!("postgres://postgres:hush@127.0.0.1:{free}/postgres"), "is the server running"),
    ] {
        let options = Options { acquire_timeout: Duration::from_millis(500), ..Options::default() };
        let refused = Postgres::open(&url, options).expect("a good URL").version().await;
        let (debug, said) = (format!("{refused:?}"), shown(refused));
        assert!(said.contains(part) || said.contains("in use"), "{said}");
        assert!(!said.contains("hush") && !debug.contains("hush"), "{debug}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pgbouncer_that_pools_transactions_everything_is_done_inside_of_them() {
    let Some(fixture) = Fixture::new().await else { return };
    if let Some(reason) = PgBouncer::missing() {
        return skip(&reason);
    }
    let pooler = PgBouncer::start(fixture.test.server()).await;
    let url = format!("{}?pgbouncer=true", pooler.url(&fixture.test.name));
    let handles: Vec<_> = (0..6_u8)
        .map(|number| {
            let database = open(&url);
            tokio::spawn(async move {
                for round in 0..10 {
                    let one = message(number * 10 + round);
                    let mut tx = database.begin().await.expect("begin");
                    database.enqueue(&mut tx, std::slice::from_ref(&one)).await.expect("enqueue");
                    let first = database.accept(&mut tx, "shipping", &[one.id]).await;
                    assert_eq!(first.expect("accept"), [Acceptance::First]);
                    database.commit(tx).await.expect("commit");
                    database.begin_attempt("billing", id(number)).await.expect("an attempt");
                }
            })
        })
        .collect();
    for handle in handles {
        handle.await.expect("a task");
    }
    assert_eq!(fixture.rows().await, 60);
    let attempts = "select count(*), min(attempts), max(attempts) from posthaste.attempt";
    assert_eq!(fixture.sql(attempts).await, "6|10|10");
    assert_eq!(open(&url).version().await.expect("version"), Some(1));
    open(&url).migrate().await.expect("migrating changes nothing");
}
