//! Reaching a broker, being let in, and what is said when that fails.

use std::path::Path;
use std::time::Duration;

use posthaste_conformance::run;
use posthaste_conformance::sample::message;
use posthaste_core::finding::Severity;
use posthaste_core::{Broker, BrokerError, Subscription};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::*;

async fn tries(url: &str, authority: Option<&Path>) -> Result<(), BrokerError> {
    let rabbit = open_with(url, |options| options.ca_file = authority.map(Path::to_owned));
    let opened = within("it ends", rabbit.subscriber(&Subscription::new("orders", "one"))).await;
    opened.map(drop)
}

/// Only who can show a certificate of the right authority for the right name is talked to.
#[test]
fn a_broker_must_prove_who_it_is() {
    run("tls", async {
        let server = strict().await;
        let (vhost, tls) = (server.vhost().await, server.tls());
        let url = server.tls_url(&vhost.name);
        tries(&url, Some(&tls.authority)).await.expect("the right authority and name");
        let wrong = [
            ("a foreign authority", tries(&url, Some(&tls.foreign_authority)).await),
            ("the system's authorities", tries(&url, None).await),
            (
                "another name",
                tries(&url.replace("localhost", "127.0.0.1"), Some(&tls.authority)).await,
            ),
        ];
        for (what, tried) in wrong {
            let error = tried.expect_err(what).to_string();
            assert!(error.contains("certificate"), "{what}: {error}");
        }
        let missing = tries(&url, Some(Path::new("/no/such/file"))).await.expect_err("no file");
        assert!(missing.to_string().contains("/no/such/file"), "{missing}");
    });
}

/// Everything is encrypted as well as published and received.
#[test]
fn messages_pass_through_tls() {
    run("tls messages", async {
        let server = strict().await;
        let vhost = server.vhost().await;
        let url = server.tls_url(&vhost.name);
        let authority = server.tls().authority.display().to_string();
        let rabbit = open(&format!("{url}?cacertfile={authority}"));
        let mut subscriber = subscribe(&rabbit, "orders").await;
        let stated = message("orders");
        accept(&rabbit, std::slice::from_ref(&stated)).await;
        arrive(subscriber.as_mut(), &[stated.id]).await;
    });
}

/// Whatever goes wrong, the password stays where it is.
#[test]
fn no_error_shows_the_password() {
    run("password", async {
        let vhost = vhost().await;
        let user = format!("{}-secretive", vhost.name);
        vhost.user(&user, "right", "", "", "").await;
        let wrong = vhost.url_as(&user, "hunter2secret");
        let nobody = format!("amqp://{user}:hunter2secret@127.0.0.1:1/x");
        let no_vhost = vhost.server().url_as(&user, "right", "hunter2secret-is-no-vhost");
        for (url, says) in [(&wrong, "correct user and password"), (&nobody, "cannot connect")] {
            let rabbit = open(url);
            let unavailable = rabbit.publisher().publish(&[message("orders")]).await;
            let unavailable = unavailable.expect_err("not let in");
            let failed = tries(url, None).await.expect_err("not let in");
            let findings = rabbit.check().await;
            assert_eq!(findings[0].severity, Severity::Problem);
            let said = format!("{unavailable:?} {failed:?} {findings:?} {rabbit:?}");
            assert!(!said.contains("hunter2secret"), "{said}");
            assert!(said.contains(says), "{said}");
        }
        let failed = tries(&no_vhost, None).await.expect_err("there is no such vhost");
        assert!(failed.to_string().contains("vhost"), "{failed}");
    });
}

/// Somebody listens and never says a word.
#[test]
fn connecting_ends_within_its_time() {
    run("mute", async {
        let mute = TcpListener::bind(("127.0.0.1", posthaste_servers::free_port())).await;
        let mute = mute.expect("a port");
        let port = mute.local_addr().expect("it is bound").port();
        let rabbit = open(&format!("amqp://127.0.0.1:{port}?connection_timeout=500"));
        let begin = Instant::now();
        let tried = rabbit.publisher().publish(&[message("orders")]).await;
        assert!(tried.is_err() && begin.elapsed() < Duration::from_secs(5), "{tried:?}");
        let (mut stream, _) = mute.accept().await.expect("it came");
        // What was given up is hung up: no thread waits for an answer for ever.
        let mut said = Vec::new();
        let end = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut said);
        within("the line is closed", end).await.expect("in order");
        assert!(said.starts_with(b"AMQP"));
    });
}

/// Closing does not wait for a connection that is not there yet.
#[test]
fn closing_ends_an_attempt_to_connect() {
    run("closing", async {
        let mute = TcpListener::bind(("127.0.0.1", posthaste_servers::free_port())).await;
        let mute = mute.expect("a port");
        let port = mute.local_addr().expect("it is bound").port();
        let rabbit = open_with(&format!("amqp://127.0.0.1:{port}"), |options| {
            options.connect_within = Duration::from_secs(3600);
            options.publish_within = Duration::from_secs(3600);
        });
        let publisher = rabbit.publisher();
        let call = tokio::spawn(async move { publisher.publish(&[message("orders")]).await });
        let (_stream, _) = mute.accept().await.expect("it came");
        within("it is closed", rabbit.close()).await;
        let ended = within("the call ends", call).await.expect("ends");
        assert!(ended.is_err(), "{ended:?}");
    });
}

/// What a person should know.
#[test]
fn the_doctor_says_what_is_found() {
    run("check", async {
        let vhost = vhost().await;
        let findings = open(&vhost.url()).check().await;
        assert!(findings.iter().all(|it| it.severity == Severity::Good), "{findings:?}");
        assert!(findings.iter().any(|it| it.what.starts_with("RabbitMQ ")), "{findings:?}");
        let remote = open("amqp://192.0.2.1?connection_timeout=50").check().await;
        let locked = open_with(&vhost.url(), |options| options.declare = false).check().await;
        assert!(locked.iter().any(|it| it.what.contains("20 looks")), "{locked:?}");
        let warned = remote.iter().any(|it| it.severity == Severity::Warning);
        assert!(warned && remote.iter().any(|it| it.what.contains("not encrypted")), "{remote:?}");
    });
}
