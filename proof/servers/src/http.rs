//! The little of HTTP that the management interface of a server needs.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How long one step of an exchange may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Asks a server on loopback one question, on a connection of its own, and returns the status and
/// the body of the answer.
pub(crate) fn ask(
    port: u16,
    credentials: &str,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect_timeout(&address, LIMIT)?;
    connection.set_read_timeout(Some(LIMIT))?;
    connection.set_write_timeout(Some(LIMIT))?;
    // An answer of the old version comes whole, not in chunks, and ends with the connection.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nhost: localhost\r\nauthorization: Basic {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        STANDARD.encode(credentials),
        body.len()
    );
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "that is no answer of HTTP"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut status = head.strip_prefix("HTTP/")?.split(' ');
    Some((status.nth(1)?.parse().ok()?, body.to_owned()))
}

/// A name as one step of a path.
pub(crate) fn step(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

#[test]
fn answers_and_names_are_understood() {
    let answer = "HTTP/1.1 204 No Content\r\na: b\r\n\r\nbody\r\n\r\nmore";
    assert_eq!(parse(answer), Some((204, "body\r\n\r\nmore".to_owned())));
    assert_eq!(parse("SSH-2.0"), None);
    assert_eq!(step("/a b.c#é"), "%2Fa%20b.c%23%C3%A9");
}
