//! What a message carries: opaque bytes that are never parsed, with a note whether they were
//! given as text, so that a table can show text as text.

use std::fmt;

use bytes::Bytes;

/// The body of a message, carried byte for byte.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload {
    bytes: Bytes,
    text: bool,
}

impl Payload {
    /// A payload stated as text. Databases store it in a text column, so that people can read it.
    pub fn text(text: impl Into<String>) -> Self {
        Self { bytes: Bytes::from(text.into()), text: true }
    }

    /// A payload stated as bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), text: false }
    }

    /// Bytes that came out of a text column. They stay text only if they are UTF-8: a table may
    /// hold text that is not, and it must still arrive byte for byte.
    pub fn from_text_column(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let text = std::str::from_utf8(&bytes).is_ok();
        Self { bytes, text }
    }

    /// The bytes, whichever way they were stated.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The text, if the payload was stated as text.
    pub fn as_text(&self) -> Option<&str> {
        if self.text { std::str::from_utf8(&self.bytes).ok() } else { None }
    }

    /// Whether the payload was stated as text.
    pub fn is_text(&self) -> bool {
        self.text
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing in it; an empty payload is a valid one.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

/// Shows the kind and the length only: payloads hold other people's data and do not belong in logs.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.text { "text" } else { "bytes" };
        write!(f, "Payload({kind}, {} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf8_is_carried_as_bytes() {
        let payload = Payload::from_text_column(vec![0xff, 0x00]);
        assert!(!payload.is_text());
        assert_eq!(payload.as_bytes().as_ref(), [0xff, 0x00]);
        assert!(Payload::from_text_column("ä".as_bytes().to_vec()).is_text());
    }

    #[test]
    fn debug_output_never_shows_the_content() {
        assert_eq!(format!("{:?}", Payload::text("secret")), "Payload(text, 6 bytes)");
    }
}
