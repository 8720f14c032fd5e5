//! What a message may hold. Checked by every writer before anything is written, and again by the
//! tables, because any program may write to those.

use crate::message::Message;

/// Most bytes of a topic and of a kind.
pub const NAME_BYTES: usize = 200;
/// Most bytes of a key.
pub const KEY_BYTES: usize = 512;
/// Most headers of one message.
pub const HEADERS: usize = 64;
/// Most bytes of all header names and values of one message together.
pub const HEADER_BYTES: usize = 32 * 1024;
/// Most bytes of a header name.
pub const HEADER_NAME_BYTES: usize = 64;
/// Beginning of the header names that brokers' adapters use for themselves.
pub const RESERVED_HEADERS: &str = "posthaste-";
/// Most bytes of a content type.
pub const CONTENT_TYPE_BYTES: usize = 200;
/// Most bytes of a payload unless an option says otherwise.
pub const PAYLOAD_BYTES_DEFAULT: usize = 1024 * 1024;
/// Most bytes of a payload whatever an option says.
pub const PAYLOAD_BYTES_MOST: usize = 64 * 1024 * 1024;

/// The one limit that can be chosen; the others are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    payload: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payload: PAYLOAD_BYTES_DEFAULT }
    }
}

impl Limits {
    /// Limits with another payload size in bytes; at most [`PAYLOAD_BYTES_MOST`] is granted.
    pub fn with_payload(bytes: usize) -> Self {
        Self { payload: bytes.min(PAYLOAD_BYTES_MOST) }
    }

    /// Most bytes of a payload.
    pub fn payload(&self) -> usize {
        self.payload
    }

    /// Refuses a message that the tables would refuse.
    ///
    /// # Errors
    /// The first limit that the message breaks, naming the field and the limit.
    pub fn check(&self, message: &Message) -> Result<(), Invalid> {
        check_name("topic", &message.topic)?;
        check_name("kind", &message.kind)?;
        if let Some(key) = &message.key {
            if key.is_empty() || key.len() > KEY_BYTES {
                return Err(Invalid::KeyLength { bytes: key.len() });
            }
            if key.contains('\0') {
                return Err(Invalid::KeyNul);
            }
        }
        if let Some(content_type) = &message.content_type {
            let visible = content_type.bytes().all(|b| (0x20..0x7f).contains(&b));
            if content_type.is_empty() || content_type.len() > CONTENT_TYPE_BYTES || !visible {
                return Err(Invalid::ContentType { value: excerpt(content_type) });
            }
        }
        message.headers.check()?;
        if message.payload.len() > self.payload {
            let bytes = message.payload.len();
            return Err(Invalid::PayloadTooLarge { bytes, limit: self.payload });
        }
        Ok(())
    }
}

/// Refuses a topic or a kind (`field` says which) that is not 1 to 200 of `[A-Za-z0-9._/-]`.
///
/// # Errors
/// [`Invalid::Name`].
pub fn check_name(field: &'static str, value: &str) -> Result<(), Invalid> {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-');
    if value.is_empty() || value.len() > NAME_BYTES || !value.bytes().all(known) {
        return Err(Invalid::Name { field, value: excerpt(value) });
    }
    Ok(())
}

/// The beginning of a value, fit for an error message: bounded, and without control characters.
pub(crate) fn excerpt(value: &str) -> String {
    let mut shown: String = value.chars().take(40).flat_map(char::escape_debug).collect();
    if value.chars().nth(40).is_some() {
        shown.push('…');
    }
    shown
}

/// Why a message is refused before it is written. Nothing has been written when this is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A topic or kind out of its alphabet or length.
    #[error("{field} '{value}' must be 1 to 200 of the characters A-Z a-z 0-9 . _ / -")]
    Name {
        /// `topic` or `kind`.
        field: &'static str,
        /// The beginning of what was given.
        value: String,
    },
    /// An empty or overlong key.
    #[error("key has {bytes} bytes; it must have 1 to 512 (leave it out if order does not matter)")]
    KeyLength {
        /// Length that was given.
        bytes: usize,
    },
    /// A key with a NUL in it.
    #[error("key holds a NUL character, which not every database can store")]
    KeyNul,
    /// A content type that could not be a header value.
    #[error("content type '{value}' must be 1 to 200 visible ASCII characters")]
    ContentType {
        /// The beginning of what was given.
        value: String,
    },
    /// More headers than the contract allows.
    #[error("{count} headers; at most 64 are allowed")]
    TooManyHeaders {
        /// How many were given.
        count: usize,
    },
    /// More bytes of headers than the contract allows.
    #[error(
        "headers hold {bytes} bytes; at most 32768 are allowed (put large data in the payload)"
    )]
    HeadersTooLarge {
        /// How many bytes were given.
        bytes: usize,
    },
    /// A header name out of its alphabet or length.
    #[error("header name '{name}' must be 1 to 64 of the characters a-z 0-9 -")]
    HeaderName {
        /// The beginning of what was given.
        name: String,
    },
    /// A header name that adapters use for themselves.
    #[error(
        "header name '{name}' is reserved: names that begin with posthaste- are set by Posthaste"
    )]
    HeaderReserved {
        /// The header's name.
        name: String,
    },
    /// A header value that could break a wire format.
    #[error("the value of header '{name}' holds a CR, LF or NUL")]
    HeaderValue {
        /// The header's name.
        name: String,
    },
    /// A payload over the limit.
    #[error(
        "payload has {bytes} bytes; the limit is {limit} (raise payload_limit, up to 64 MiB, or \
         store the data elsewhere and send a reference)"
    )]
    PayloadTooLarge {
        /// Length that was given.
        bytes: usize,
        /// Length that is allowed.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageId, Timestamp};

    fn message() -> Message {
        let id = MessageId::v7(Timestamp::from_millis(1), [0; 10]);
        Message::new(id, "orders", "order.placed", "{}", Timestamp::from_millis(1))
    }

    #[test]
    fn the_edges_are_inside_and_the_next_step_is_outside() {
        let limits = Limits::with_payload(10);
        let ok = |change: &dyn Fn(&mut Message)| {
            let mut changed = message();
            change(&mut changed);
            limits.check(&changed)
        };
        assert!(ok(&|m| m.topic = "a".repeat(200)).is_ok());
        assert!(ok(&|m| m.topic = "a".repeat(201)).is_err());
        assert!(ok(&|m| m.topic = "a/B.c_d-9".into()).is_ok());
        assert!(ok(&|m| m.topic = "a b".into()).is_err());
        assert!(ok(&|m| m.kind = String::new()).is_err());
        assert!(ok(&|m| m.key = Some("k".repeat(512))).is_ok());
        assert!(ok(&|m| m.key = Some("k".repeat(64 * 1024))).is_err());
        assert!(ok(&|m| m.key = Some(String::new())).is_err());
        assert!(ok(&|m| m.key = Some("a\0b".into())).is_err());
        assert!(ok(&|m| m.payload = "0123456789".into()).is_ok());
        assert!(ok(&|m| m.payload = "0123456789a".into()).is_err());
        assert!(ok(&|m| m.content_type = Some("a\nb".into())).is_err());
        assert_eq!(Limits::with_payload(usize::MAX).payload(), PAYLOAD_BYTES_MOST);
    }

    #[test]
    fn an_error_shows_a_bounded_piece_without_control_characters() {
        let error = check_name("topic", &format!("\u{1b}[31m{}", "x".repeat(5000))).unwrap_err();
        let shown = error.to_string();
        assert!(shown.len() < 200 && !shown.contains('\u{1b}'), "{shown}");
    }
}
