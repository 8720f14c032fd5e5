//! What a broker says before anybody has logged in: its product and its version.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a client says first.
const HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Most bytes of an answer that is read.
const MOST: usize = 64 * 1024;

/// Asks the broker what it is, such as `RabbitMQ 3.10.8`.
pub(crate) async fn ask(host: &str, port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(HELLO).await?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let length = usize::try_from(u32::from_be_bytes([head[3], head[4], head[5], head[6]]));
    let length = length.ok().filter(|length| *length <= MOST);
    let length = length.ok_or_else(|| io::Error::other("its greeting is too long"))?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    read(&payload).ok_or_else(|| io::Error::other("its greeting makes no sense"))
}

/// Reads the properties of the server in `connection.start`: class 10, method 10, version 0-9, then
/// a table.
fn read(payload: &[u8]) -> Option<String> {
    let mut rest = payload.strip_prefix(&[0, 10, 0, 10, 0, 9])?;
    let mut table = long(&mut rest)?;
    let (mut product, mut version) = (None, None);
    while !table.is_empty() {
        let length = usize::from(*table.split_off_first()?);
        let name = table.split_off(..length)?;
        let value = match *table.split_off_first()? {
            b'S' | b'F' => long(&mut table)?,
            b't' => table.split_off(..1)?,
            _ => return None,
        };
        let text = || String::from_utf8_lossy(value).chars().take(80).collect::<String>();
        match name {
            b"product" => product = Some(text()),
            b"version" => version = Some(text()),
            _ => {}
        }
    }
    let shown = format!("{} {}", product?, version?);
    Some(shown.escape_debug().to_string())
}

fn long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(rest.split_off(..4)?.try_into().ok()?);
    rest.split_off(..usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Vec<u8> {
        let mut table = Vec::new();
        for (name, kind, value) in
            [("capabilities", b'F', &b"\x01at\x01"[..]), ("product", b'S', b"RabbitMQ")]
        {
            table.push(u8::try_from(name.len()).expect("short"));
            table.extend(name.as_bytes());
            table.push(kind);
            table.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
            table.extend(value);
        }
        table.extend(b"\x07versionS\x00\x00\x00\x064.1.\x1b3");
        let length = u32::try_from(table.len()).expect("short").to_be_bytes();
        [&[0, 10, 0, 10, 0, 9][..], &length, &table, b"mechanisms"].concat()
    }

    #[test]
    fn a_greeting_is_read_and_a_broken_one_is_refused() {
        let whole = greeting();
        assert_eq!(read(&whole).as_deref(), Some("RabbitMQ 4.1.\\u{1b}3"));
        for end in 0..whole.len() - b"mechanisms".len() {
            assert_eq!(read(&whole[..end]), None, "cut after {end}");
        }
    }
}
