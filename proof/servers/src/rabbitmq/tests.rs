//! The laws of a RabbitMQ server for tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Connection, ConnectionProperties};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::*;
use crate::{rabbitmq_or_skip, skip};

macro_rules! rabbitmq {
    ($options:expr) => {
        match RabbitMq::missing() {
            None => RabbitMq::start($options).await,
            Some(reason) => return skip(&reason),
        }
    };
}

/// Publishes to a queue through the management interface; whether it was routed.
async fn publish(vhost: &TestVhost, exchange: &str, key: &str) -> bool {
    let body = json!({ "properties": { "delivery_mode": 2 }, "routing_key": key,
        "payload": "x", "payload_encoding": "string" });
    let path = format!("/api/exchanges/{}/{exchange}/publish", vhost.name);
    let (status, answer) = vhost.server().api("POST", &path, &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer.contains("true")
}

#[tokio::test]
async fn vhosts_are_apart_and_their_things_can_be_taken_away() {
    let Some(rabbitmq) = rabbitmq_or_skip().await else { return };
    let (one, two) = (rabbitmq.vhost().await, rabbitmq.vhost().await);
    one.declare_exchange("orders", "topic").await;
    one.declare_queue("orders.a b", &json!({ "x-queue-type": "quorum" })).await;
    assert!(!publish(&one, "orders", "paid").await);
    one.bind("orders", "orders.a b", "#").await;
    assert!(publish(&one, "orders", "paid").await);
    let queue = one.describe("queues", "orders.a b").await.expect("it is there");
    assert_eq!(queue["type"], "quorum");
    assert!(two.describe("queues", "orders.a b").await.is_none());
    one.unbind("orders", "orders.a b", "#").await;
    assert!(!publish(&one, "orders", "paid").await);
    one.delete_queue("orders.a b").await;
    one.delete_exchange("orders").await;
    assert!(one.describe("queues", "orders.a b").await.is_none());
    assert!(one.describe("exchanges", "orders").await.is_none());
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}

/// Looks until something is so; nothing tells when it is.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_user_may_what_it_was_permitted() {
    let Some(rabbitmq) = rabbitmq_or_skip().await else { return };
    let vhost = rabbitmq.vhost().await;
    vhost.declare_exchange("orders", "topic").await;
    let name = format!("{}-writer", vhost.name);
    vhost.user(&name, "secret/word", "", "^orders$", "").await;
    assert!(connect(&vhost.url_as(&name, "another")).await.is_err());
    let connection = connect(&vhost.url_as(&name, "secret/word")).await.expect("it may connect");
    let channel = connection.create_channel().await.expect("it may");
    let publish = |exchange: &str| {
        let (channel, exchange) = (channel.clone(), exchange.to_owned());
        async move {
            let (options, properties) = (BasicPublishOptions::default(), Default::default());
            let sent =
                channel.basic_publish(exchange.into(), "a".into(), options, b"x", properties);
            sent.await?.await
        }
    };
    let confirms = ConfirmSelectOptions::default();
    channel.confirm_select(confirms).await.expect("it may");
    assert!(publish("orders").await.is_ok_and(|confirm| confirm.is_ack()));
    assert!(publish("amq.topic").await.is_err(), "it may write to one exchange only");
}

#[tokio::test]
async fn connections_to_one_vhost_are_closed() {
    let Some(rabbitmq) = rabbitmq_or_skip().await else { return };
    let (one, two) = (rabbitmq.vhost().await, rabbitmq.vhost().await);
    let closed = connect(&one.url()).await.expect("it may connect");
    let open = connect(&two.url()).await.expect("it may connect");
    assert_eq!(one.close_connections().await, 1);
    eventually("the connection is closed", || !closed.status().connected()).await;
    assert!(open.status().connected());
}

#[tokio::test]
async fn the_memory_alarm_is_raised_and_ended() {
    let rabbitmq = rabbitmq!(RabbitMqOptions::new());
    let path = "/api/health/checks/local-alarms";
    assert_eq!(rabbitmq.api("GET", path, "").await.0, 200);
    let connection = connect(&rabbitmq.url("/")).await.expect("it may connect");
    rabbitmq.set_memory_alarm(true).await;
    assert_eq!(rabbitmq.api("GET", path, "").await.0, 503);
    let channel = connection.create_channel().await.expect("it may");
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), "a".into(), options, b"x", Default::default());
    sent.await.expect("it is on its way");
    eventually("who publishes is blocked", || connection.status().blocked()).await;
    rabbitmq.set_memory_alarm(false).await;
    eventually("who publishes goes on", || !connection.status().blocked()).await;
    assert_eq!(rabbitmq.api("GET", path, "").await.0, 200);
    assert!(rabbitmq.evaluate("no_module:at_all().").await.is_err());
}

#[tokio::test]
async fn what_was_kept_survives_a_kill_and_a_stop() {
    let rabbitmq = rabbitmq!(RabbitMqOptions::new());
    let vhost = rabbitmq.vhost().await;
    vhost.declare_queue("a", &json!({ "x-queue-type": "quorum" })).await;
    let port = rabbitmq.port();
    rabbitmq.kill().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    rabbitmq.restart().await;
    assert_eq!(rabbitmq.port(), port);
    assert!(vhost.describe("queues", "a").await.is_some());
    rabbitmq.stop().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    rabbitmq.restart().await;
    assert!(vhost.describe("queues", "a").await.is_some());
}

#[tokio::test]
async fn a_paused_server_is_silent_until_it_goes_on() {
    let rabbitmq = rabbitmq!(RabbitMqOptions::new());
    rabbitmq.pause().await;
    let mut client = TcpStream::connect(("127.0.0.1", rabbitmq.port())).expect("it listens");
    client.write_all(b"AMQP\0\0\x09\x01").expect("it is connected");
    client.set_read_timeout(Some(Duration::from_millis(700))).expect("a timeout can be set");
    let mut answer = [0; 7];
    assert!(client.read_exact(&mut answer).is_err(), "it speaks although it is paused");
    let resumed = Instant::now();
    rabbitmq.resume().await;
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    client.read_exact(&mut answer).unwrap_or_else(|error| {
        panic!("silent {:?} after it was resumed: {error}", resumed.elapsed())
    });
}

/// What a client that trusts an authority is told after it has said what it speaks.
fn greet(rabbitmq: &RabbitMq, authority: &Path, name: &'static str) -> std::io::Result<u8> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(authority).expect("it is a certificate");
    roots.add(authority).expect("it is an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerName::try_from(name).expect("it is a name");
    let client = ClientConnection::new(Arc::new(config), server).expect("it is complete");
    let socket = TcpStream::connect(("127.0.0.1", rabbitmq.node.tls_port()))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut stream = StreamOwned::new(client, socket);
    stream.write_all(b"AMQP\0\0\x09\x01")?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    Ok(first[0])
}

#[tokio::test]
async fn tls_is_for_the_name_and_the_authority() {
    let rabbitmq = rabbitmq!(RabbitMqOptions::new().tls());
    let tls = rabbitmq.tls();
    assert_eq!(greet(&rabbitmq, &tls.authority, "localhost").expect("it is trusted"), 1);
    assert!(greet(&rabbitmq, &tls.foreign_authority, "localhost").is_err());
    assert!(greet(&rabbitmq, &tls.authority, "127.0.0.1").is_err());
    let port = rabbitmq.node.tls_port();
    assert_eq!(rabbitmq.tls_url("/"), format!("amqps://guest:guest@localhost:{port}/%2F"));
}
