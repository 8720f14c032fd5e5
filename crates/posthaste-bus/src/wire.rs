//! What is said over a socket: a greeting, then frames of a length and a body.
//!
//! A length is looked at before anything is allocated for it, and memory grows with what arrives,
//! not with what was announced. A frame that is not understood ends the connection.

use std::io;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::protocol::{Handed, Reply, Request};

/// Version of the greeting, the frames and everything in them.
pub(crate) const VERSION: u32 = 1;
/// Bytes of a frame, at most: a full batch and one message of the largest size.
pub(crate) const MOST: u32 = 80 * 1024 * 1024;
const MAGIC: &[u8; 13] = b"posthaste-bus";

/// From client to owner: a request under a number; number 0 wants no answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Up {
    pub(crate) number: u64,
    pub(crate) request: Request,
}

/// From owner to client.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Down {
    /// The answer to a request.
    Reply { number: u64, reply: Reply },
    /// Messages for a consumer.
    Batch { consumer: u64, batch: Vec<Handed> },
}

/// What the other end said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: u32,
    pub(crate) pid: u32,
}

/// Says who is here.
pub(crate) async fn greet(stream: &mut (impl AsyncWrite + Unpin), pid: u32) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(pid.to_le_bytes());
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Bytes of the number of one start of an owner.
const INSTANCE: usize = 32;

/// The owner says, after its greeting, which start of it is here.
pub(crate) async fn tell(stream: &mut (impl AsyncWrite + Unpin), instance: &str) -> io::Result<()> {
    let mut bytes = [b' '; INSTANCE];
    let length = instance.len().min(INSTANCE);
    bytes[..length].copy_from_slice(&instance.as_bytes()[..length]);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Whether the owner is the one that was sought.
pub(crate) async fn is(stream: &mut (impl AsyncRead + Unpin), instance: &str) -> io::Result<bool> {
    let mut bytes = [0; INSTANCE];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes.trim_ascii_end() == instance.as_bytes())
}

/// Hears who is there.
pub(crate) async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Greeting> {
    let mut magic = [0; 13];
    stream.read_exact(&mut magic).await?;
    if magic != *MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not a bus"));
    }
    Ok(Greeting { version: stream.read_u32_le().await?, pid: stream.read_u32_le().await? })
}

/// Reads a frame and its size; `None` at the end of the stream.
pub(crate) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(T, usize)>> {
    let length = match stream.read_u32_le().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if length > MOST {
        return Err(wrong(format!("a frame of {length} bytes; at most {MOST} are allowed")));
    }
    let mut body = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut body).await?;
    if u32::try_from(body.len()) != Ok(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (frame, rest) = postcard::take_from_bytes(&body)
        .map_err(|error| wrong(format!("a frame that is not understood: {error}")))?;
    if !rest.is_empty() {
        return Err(wrong("a frame with something behind its end".to_owned()));
    }
    Ok(Some((frame, body.len())))
}

/// A frame with its length, ready to be sent.
pub(crate) fn frame(content: &impl Serialize) -> io::Result<Bytes> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let frame = postcard::to_extend(content, vec![0; 4])
        .map_err(|error| wrong(format!("could not write a frame: {error}")))?;
    let length = u32::try_from(frame.len() - 4).ok().filter(|length| *length <= MOST);
    let length = length.ok_or_else(|| wrong(format!("a frame of {} bytes", frame.len())))?;
    let mut frame = frame;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    fn read_up(bytes: &[u8]) -> io::Result<Option<(Up, usize)>> {
        wait(async { read(&mut &bytes[..]).await })
    }

    #[test]
    fn a_frame_comes_back_as_it_was() {
        let up = Up { number: 7, request: Request::Withdraw { consumer: 300 } };
        let bytes = frame(&up).expect("framed");
        let (back, size) = read_up(&bytes).expect("read").expect("a frame");
        assert_eq!((back, size), (up, bytes.len() - 4));
        assert!(read_up(&[]).expect("the end").is_none());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_error_or_another_frame() {
        let request = Request::Attach {
            consumer: 1,
            address: "orders".into(),
            name: "shipping".into(),
            ordered: true,
        };
        let bytes = frame(&Up { number: 7, request }).expect("framed");
        for end in 1..bytes.len() {
            let cut = read_up(&bytes[..end]);
            assert!(matches!(cut, Ok(None) | Err(_)), "{end}: {cut:?}");
        }
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[index] ^= 1 << bit;
                // Whatever it is, it ends without a panic and without a large allocation.
                if let Ok(Some((up, size))) = read_up(&flipped) {
                    assert!(size <= flipped.len(), "{up:?}");
                }
            }
        }
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        let mut bytes = (MOST + 1).to_le_bytes().to_vec();
        bytes.extend([0; 8]);
        assert_eq!(read_up(&bytes).expect_err("too long").kind(), io::ErrorKind::InvalidData);
        let mut bytes = MOST.to_le_bytes().to_vec();
        bytes.extend([0; 8]);
        assert_eq!(read_up(&bytes).expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_greeting_is_heard_and_another_protocol_is_not() {
        let mut said = Vec::new();
        wait(greet(&mut said, 42)).expect("said");
        let heard = wait(hear(&mut said.as_slice())).expect("heard");
        assert_eq!(heard, Greeting { version: VERSION, pid: 42 });
        assert!(wait(hear(&mut &b"GET / HTTP/1.1\r\nHost: localhost\r\n"[..])).is_err());
    }
}
