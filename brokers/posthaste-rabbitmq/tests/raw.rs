//! A publisher that writes its frames by hand, because no client library would send what it sends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// A connection with one channel.
struct Raw(TcpStream);

impl Raw {
    async fn send(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(u32::try_from(payload.len()).expect("short").to_be_bytes());
        frame.extend(payload);
        frame.push(0xCE);
        self.0.write_all(&frame).await.expect("written");
    }

    async fn call(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        self.send(METHOD, channel, &[&numbers(class, method)[..], arguments].concat()).await;
    }

    /// Reads frames until this method comes; returns its arguments.
    async fn expect(&mut self, class: u16, method: u16) -> Vec<u8> {
        loop {
            let mut head = [0; 7];
            self.0.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            let mut payload = vec![0; usize::try_from(length).expect("short") + 1];
            self.0.read_exact(&mut payload).await.expect("a payload");
            if head[0] == METHOD && payload[..4] == numbers(class, method) {
                payload.pop();
                return payload.split_off(4);
            }
        }
    }
}

fn numbers(class: u16, method: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (class.to_be_bytes(), method.to_be_bytes());
    [a, b, c, d]
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("short")], text].concat()
}

fn long(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("short").to_be_bytes(), text].concat()
}

/// Publishes a persistent message with these bytes as its `message_id` and returns once the broker
/// has it on disk.
pub(crate) async fn publish(
    port: u16,
    vhost: &str,
    exchange: &str,
    routing_key: &[u8],
    message_id: &[u8],
) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("reachable");
    let mut raw = Raw(stream);
    raw.0.write_all(b"AMQP\x00\x00\x09\x01").await.expect("written");
    raw.expect(10, 10).await;
    let login = [long(b""), short(b"PLAIN"), long(b"\x00guest\x00guest"), short(b"en_US")];
    raw.call(0, 10, 11, &login.concat()).await;
    let tune = raw.expect(10, 30).await;
    raw.call(0, 10, 31, &tune).await;
    raw.call(0, 10, 40, &[short(vhost.as_bytes()), vec![0, 0]].concat()).await;
    raw.expect(10, 41).await;
    raw.call(1, 20, 10, &[0]).await;
    raw.expect(20, 11).await;
    raw.call(1, 85, 10, &[0]).await;
    raw.expect(85, 11).await;
    let to = [vec![0, 0], short(exchange.as_bytes()), short(routing_key), vec![0]];
    raw.call(1, 60, 40, &to.concat()).await;
    // Flags of `delivery_mode` (bit 12) and `message_id` (bit 7).
    let flags = (1_u16 << 12 | 1 << 7).to_be_bytes();
    let properties = [vec![2], short(message_id)].concat();
    let header = [&[0, 60, 0, 0][..], &2_u64.to_be_bytes(), &flags, &properties].concat();
    raw.send(HEADER, 1, &header).await;
    raw.send(BODY, 1, b"{}").await;
    raw.expect(60, 80).await;
    raw.call(0, 10, 50, &[0, 200, 0, 0, 0, 0, 0]).await;
    raw.expect(10, 51).await;
}
