//! The headers of a message: names and text values that travel with it unchanged.

use std::collections::BTreeMap;
use std::collections::btree_map;

use serde::{Deserialize, Serialize};

use crate::limits::{self, Invalid};

/// Names and values, ordered by name. At rest and on the wire a JSON object of strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name` to `value` and returns the value it had. Limits are looked at by
    /// [`Headers::check`], which every writer calls before it writes.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) -> Option<String> {
        self.0.insert(name.into(), value.into())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Bytes of all names and values together.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Refuses what the contract refuses.
    ///
    /// # Errors
    /// More than 64 headers, more than 32 KiB of them, a name that is not 1 to 64 of `[a-z0-9-]`
    /// or begins with `posthaste-`, or a value with a carriage return, a line feed or a NUL.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.0.len() > limits::HEADERS {
            return Err(Invalid::TooManyHeaders { count: self.0.len() });
        }
        if self.size() > limits::HEADER_BYTES {
            return Err(Invalid::HeadersTooLarge { bytes: self.size() });
        }
        for (name, value) in &self.0 {
            let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if name.is_empty() || name.len() > limits::HEADER_NAME_BYTES || !name.bytes().all(known)
            {
                return Err(Invalid::HeaderName { name: limits::excerpt(name) });
            }
            if name.starts_with(limits::RESERVED_HEADERS) {
                return Err(Invalid::HeaderReserved { name: name.clone() });
            }
            if value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
                return Err(Invalid::HeaderValue { name: name.clone() });
            }
        }
        Ok(())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl IntoIterator for Headers {
    type Item = (String, String);
    type IntoIter = btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_checked() {
        let one = |name: &str, value: &str| Headers::from_iter([(name, value)]).check();
        assert!(one("trace-id", "ünïcode is fine").is_ok());
        assert!(one("a", "").is_ok());
        for name in ["", "Upper", "under_score", "sp ace", &"n".repeat(65)] {
            assert!(matches!(one(name, "v"), Err(Invalid::HeaderName { .. })), "{name}");
        }
        for value in ["a\rb", "a\nb", "a\0b"] {
            assert!(matches!(one("n", value), Err(Invalid::HeaderValue { .. })));
        }
        assert!(matches!(one("posthaste-key", "v"), Err(Invalid::HeaderReserved { .. })));
        let many: Headers = (0..65).map(|n| (format!("n{n}"), "v")).collect();
        assert!(matches!(many.check(), Err(Invalid::TooManyHeaders { count: 65 })));
        assert!(matches!(one("n", &"v".repeat(32 * 1024)), Err(Invalid::HeadersTooLarge { .. })));
    }
}
