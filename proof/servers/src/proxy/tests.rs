//! Each fault, seen from a client of a server that answers every line with the same line.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes.
const SILENCE: Duration = Duration::from_millis(150);

/// A server that answers what it hears; it ends with the test's runtime.
async fn echo() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let serving = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = client.split();
                // A client that is gone is what these tests are about.
                drop(tokio::io::copy(&mut reader, &mut writer).await);
            });
        }
    });
    (address, serving)
}

async fn proxy() -> Proxy {
    Proxy::start(echo().await.0).await.expect("a port is free")
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(proxy: &Proxy) -> Self {
        let socket = TcpStream::connect(proxy.addr()).await.expect("the proxy listens");
        Self(BufReader::new(socket))
    }

    async fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.expect("the proxy reads");
    }

    /// A line, or what was heard before the end.
    async fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let heard = timeout(PATIENCE, self.0.read_line(&mut line)).await;
        heard.expect("an answer in time").map(|_| line)
    }

    async fn hears_nothing(&mut self) -> bool {
        timeout(SILENCE, self.0.read_u8()).await.is_err()
    }
}

async fn works(proxy: &Proxy) -> bool {
    let mut client = Client::connect(proxy).await;
    client.say("works\n").await;
    client.hear().await.is_ok_and(|line| line == "works\n")
}

#[tokio::test]
async fn without_faults_everything_passes_and_is_counted() {
    let proxy = proxy().await;
    let mut client = Client::connect(&proxy).await;
    let text = "x".repeat(10 * PORTION) + "\n";
    let size = u64::try_from(text.len()).expect("it is small");
    let (reader, mut writer) = client.0.into_inner().into_split();
    let sent = text.clone();
    let sending = tokio::spawn(async move {
        writer.write_all(sent.as_bytes()).await.expect("the proxy reads");
        writer.shutdown().await.expect("it is open");
    });
    let mut heard = String::new();
    BufReader::new(reader).read_to_string(&mut heard).await.expect("it is passed");
    sending.await.expect("it was sent");
    assert!(heard == text, "{} of {size} bytes", heard.len());
    let counts = proxy.wait_for(PATIENCE, |counts| counts.open == 0).await;
    let wanted = Counts { connections: 1, open: 0, to_server: size, to_client: size, swallowed: 0 };
    assert_eq!(counts, wanted);
    client = Client::connect(&proxy).await;
    proxy.wait_for(PATIENCE, |counts| counts.open == 1 && counts.connections == 2).await;
    drop(client);
}

#[tokio::test]
async fn a_delay_holds_each_way_for_its_time() {
    let proxy = proxy().await;
    let mut client = Client::connect(&proxy).await;
    proxy.delay(Direction::ToServer, Duration::from_millis(60));
    proxy.delay(Direction::ToClient, Duration::from_millis(60));
    let asked = Instant::now();
    client.say("a\n").await;
    assert_eq!(client.hear().await.expect("it is passed"), "a\n");
    assert!(asked.elapsed() >= Duration::from_millis(120), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_stall_holds_everything_and_loses_nothing() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let proxy = proxy().await;
        let mut client = Client::connect(&proxy).await;
        client.say("a\n").await;
        client.hear().await.expect("it is passed");
        proxy.stall(direction);
        client.say("b\n").await;
        assert!(client.hears_nothing().await);
        assert_eq!(proxy.counts().open, 1);
        assert_eq!(proxy.bytes(direction), 2, "what waits is not counted");
        proxy.heal().await;
        assert_eq!(client.hear().await.expect("it is passed"), "b\n");
    }
}

#[tokio::test]
async fn replies_are_lost_while_questions_pass() {
    let proxy = proxy().await;
    let mut client = Client::connect(&proxy).await;
    proxy.swallow(Direction::ToClient);
    client.say("lost\n").await;
    let counts = proxy.wait_for(PATIENCE, |counts| counts.swallowed == 5).await;
    assert_eq!((counts.to_server, counts.to_client), (5, 5));
    proxy.heal().await;
    client.say("found\n").await;
    assert_eq!(client.hear().await.expect("it is passed"), "found\n");
}

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes_of_each_connection() {
    let proxy = proxy().await;
    let mut old = Client::connect(&proxy).await;
    old.say("a\n").await;
    old.hear().await.expect("it is passed");
    proxy.cut_after(Direction::ToClient, 3);
    for client in [&mut old, &mut Client::connect(&proxy).await] {
        client.say("12345\n").await;
        assert_eq!(client.hear().await.expect("it is closed, not reset"), "123");
    }
    proxy.wait_for(PATIENCE, |counts| counts.open == 0).await;
    proxy.heal().await;
    assert!(works(&proxy).await);
    proxy.cut_after(Direction::ToServer, 0);
    let mut client = Client::connect(&proxy).await;
    assert_eq!(client.hear().await.expect("it is closed, not reset"), "");
}

#[tokio::test]
async fn open_connections_are_reset_or_closed_and_new_ones_are_not() {
    let proxy = proxy().await;
    let mut client = Client::connect(&proxy).await;
    proxy.wait_for(PATIENCE, |counts| counts.open == 1).await;
    proxy.reset();
    let error = client.hear().await.expect_err("it is reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let mut client = Client::connect(&proxy).await;
    proxy.wait_for(PATIENCE, |counts| counts.connections == 2).await;
    proxy.close();
    assert_eq!(client.hear().await.expect("it is closed, not reset"), "");
    assert!(works(&proxy).await);
}

#[tokio::test]
async fn a_stalled_connection_can_be_reset() {
    let proxy = proxy().await;
    let mut client = Client::connect(&proxy).await;
    proxy.stall(Direction::ToServer);
    client.say("a\n").await;
    proxy.wait_for(PATIENCE, |counts| counts.open == 1).await;
    proxy.reset();
    assert!(client.hear().await.is_err());
}

#[tokio::test]
async fn connections_are_refused_until_it_heals() {
    let proxy = proxy().await;
    let mut open = Client::connect(&proxy).await;
    proxy.wait_for(PATIENCE, |counts| counts.open == 1).await;
    proxy.refuse().await;
    let refused = TcpStream::connect(proxy.addr()).await.expect_err("it is refused");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    open.say("a\n").await;
    assert_eq!(open.hear().await.expect("open connections go on"), "a\n");
    proxy.heal().await;
    assert!(works(&proxy).await);
    assert_eq!(proxy.connections(), 2, "who was refused is not counted");
}

#[tokio::test]
async fn a_server_that_is_away_resets_and_another_takes_its_place() {
    let (first, serving) = echo().await;
    let proxy = Proxy::start(first).await.expect("a port is free");
    assert!(works(&proxy).await);
    serving.abort();
    assert!(serving.await.is_err());
    let mut client = Client::connect(&proxy).await;
    assert!(client.hear().await.is_err());
    let (second, _serving) = echo().await;
    proxy.set_upstream(second);
    assert!(works(&proxy).await);
    let url = format!("amqp://a@127.0.0.1:{}/b", second.port());
    assert_eq!(proxy.url(&url), format!("amqp://a@127.0.0.1:{}/b", proxy.addr().port()));
}

#[tokio::test]
async fn a_dropped_proxy_leaves_no_connection_and_no_port() {
    let proxy = proxy().await;
    let address = proxy.addr();
    let mut client = Client::connect(&proxy).await;
    proxy.wait_for(PATIENCE, |counts| counts.open == 1).await;
    drop(proxy);
    drop(client.hear().await);
    assert!(TcpStream::connect(address).await.is_err());
}
