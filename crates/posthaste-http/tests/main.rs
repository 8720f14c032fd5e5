//! The server over real connections: what it answers, and whom it does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste::core::database::Upkeep;
use posthaste::memory::{MemoryBroker, MemoryDatabase};
use posthaste::{Draft, Relay};
use posthaste_http::{Health, router, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    runtime: Runtime,
    address: SocketAddr,
    health: Health,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health::new("default");
        let (stop, stopped) = oneshot::channel::<()>();
        let stopping = async move { drop(stopped.await) };
        let served = runtime.spawn(serve(listener, router(health.clone()), stopping));
        Self { runtime, address, health, stop, served }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What it answers to these bytes, until it closes.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        // It may answer and close before it has read all of an overlong request.
        drop(stream.write_all(request.as_bytes()));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        String::from_utf8(answer).unwrap()
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Asks until the answer holds all of these.
    #[track_caller]
    fn eventually(&self, what: &str, path: &str, parts: &[&str]) {
        let begun = Instant::now();
        loop {
            let answer = self.get(path);
            if parts.iter().all(|part| answer.contains(part)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn answers(&self, request: &str, status: u16) {
        let answer = self.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.200}: {answer}");
    }
}

#[test]
fn a_relay_that_waits_is_alive_and_not_ready_and_says_why() {
    let server = Server::start();
    assert!(server.get("/health/live").starts_with("HTTP/1.1 200 "));
    server.health.waiting("there is no file app.db");
    let answer = server.get("/health/ready");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("waiting: there is no file app.db"), "{answer}");
    assert!(answer.contains("\"ready\":false"), "{answer}");
    let figures = server.get("/metrics");
    assert!(figures.contains("posthaste_database_up{destination=\"default\"} 0"), "{figures}");
    assert!(figures.contains("posthaste_ready{destination=\"default\"} 0"), "{figures}");
    assert!(figures.to_ascii_lowercase().contains("content-type: application/openmetrics-text"));
}

#[test]
fn a_relay_that_leads_or_stands_by_is_ready_and_its_figures_are_those_of_the_database() {
    let server = Server::start();
    let database = Arc::new(MemoryDatabase::new());
    let start = |stopped: oneshot::Receiver<()>| {
        let relay = Relay::new(database.clone(), Arc::new(MemoryBroker::new()));
        let progress = relay.progress();
        let relayed = relay.run_until(async move { drop(stopped.await) });
        (server.runtime.spawn(relayed), progress)
    };
    let (stop, stopped) = oneshot::channel();
    let (relayed, progress) = start(stopped);
    server.health.relaying(database.clone(), progress);
    server.eventually("it leads", "/health/ready", &["200 OK", "\"leading\":true"]);
    let message = Draft::new("orders", "order.placed", "x").into_message();
    let later = Draft::new("orders", "order.placed", "x").due_in(PATIENCE * 60).into_message();
    server.runtime.block_on(database.enqueue_alone(&[message, later])).unwrap();
    let figures = [
        "posthaste_sent_total{destination=\"default\"} 1",
        "posthaste_held{destination=\"default\",state=\"due\"} 1",
        "posthaste_backlog{destination=\"default\"} 0",
        "posthaste_leader{destination=\"default\"} 1",
        "posthaste_ready{destination=\"default\"} 1",
    ];
    server.eventually("it has sent one", "/metrics", &figures);
    // A second relay beside it is as ready, because the first one leads.
    let (stop_standby, stopped) = oneshot::channel();
    let (standing_by, progress) = start(stopped);
    server.health.relaying(database.clone(), progress);
    server.eventually("it stands by", "/health/ready", &["200 OK", "\"leading\":false"]);
    for stop in [stop, stop_standby] {
        stop.send(()).unwrap();
    }
    server.runtime.block_on(async { (relayed.await, standing_by.await) }).0.unwrap();
}

#[test]
fn what_nobody_is_bound_to_is_shown_and_is_no_fault() {
    let server = Server::start();
    let database = Arc::new(MemoryDatabase::new());
    let relay = Relay::new(database.clone(), Arc::new(MemoryBroker::new().returning()));
    server.health.relaying(database.clone(), relay.progress());
    let (stop, stopped) = oneshot::channel::<()>();
    let relayed = server.runtime.spawn(relay.run_until(async move { drop(stopped.await) }));
    let messages = ["order.placed", "order.placed", "order.paid"]
        .map(|kind| Draft::new("orders", kind, "x").into_message());
    server.runtime.block_on(database.enqueue_alone(&messages)).unwrap();
    let figures = [
        "posthaste_held{destination=\"default\",state=\"unroutable\"} 3",
        "posthaste_unroutable{destination=\"default\",topic=\"orders\",kind=\"order.placed\"} 2",
        "posthaste_unroutable{destination=\"default\",topic=\"orders\",kind=\"order.paid\"} 1",
        "posthaste_set_aside_total{destination=\"default\"} 3",
        "posthaste_backlog{destination=\"default\"} 0",
    ];
    server.eventually("they are set aside", "/metrics", &figures);
    let parts = ["200 OK", "\"topic\":\"orders\"", "\"kind\":\"order.placed\"", "\"entries\":2"];
    server.eventually("it is ready all the same, and says so", "/health/ready", &parts);
    stop.send(()).unwrap();
    server.runtime.block_on(relayed).unwrap();
}

#[test]
fn a_database_without_a_schema_is_not_ready() {
    let server = Server::start();
    let database = Arc::new(MemoryDatabase::unmigrated());
    let relay = Relay::new(database.clone(), Arc::new(MemoryBroker::new()));
    server.health.relaying(database, relay.progress());
    let answer = server.get("/health/ready");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\"database\":false"), "{answer}");
}

#[test]
fn a_request_that_names_another_host_is_misdirected() {
    let server = Server::start();
    for path in ["/health/live", "/health/ready", "/metrics", "/nowhere"] {
        let end = "Connection: close\r\n\r\n";
        for head in [
            format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n{end}"),
            format!("GET {path} HTTP/1.1\r\nHost: evil.example:80\r\n{end}"),
            format!("GET {path} HTTP/1.1\r\n{end}"),
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n{end}"),
            format!("GET http://evil.example{path} HTTP/1.1\r\nHost: localhost\r\n{end}"),
        ] {
            server.answers(&head, 421);
        }
    }
}

#[test]
fn everything_has_a_limit() {
    let server = Server::start();
    let head = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n";
    let fields = "x: y\r\n".repeat(100);
    server.answers(&format!("{head}{fields}\r\n"), 431);
    let long = format!("x: {}\r\n", "y".repeat(100 * 1024));
    server.answers(&format!("{head}{long}\r\n"), 431);
    server.answers("POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405);
    server.answers("nonsense\r\n\r\n", 400);
    // None of that has done it any harm.
    assert!(server.get("/health/live").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_connection_that_says_nothing_does_not_delay_the_end() {
    let server = Server::start();
    let mut silent = server.connect();
    silent.write_all(b"GET /health/live HTTP/1.1\r\nHo").unwrap();
    assert!(server.get("/health/live").starts_with("HTTP/1.1 200 "));
    server.stop.send(()).unwrap();
    let served = server.served;
    let ended = server.runtime.block_on(async { tokio::time::timeout(PATIENCE, served).await });
    ended.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect_timeout(&server.address, PATIENCE).is_err(), "it still listens");
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        serve(listener, router(Health::new("default")), std::future::pending()).await.unwrap_err()
    });
    assert!(error.to_string().contains("no authentication"), "{error}");
}
