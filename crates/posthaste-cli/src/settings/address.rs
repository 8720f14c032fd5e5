//! A URL that may hold a password: shown redacted everywhere, opened only on purpose.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use crate::redact;

/// The URL of a database or a broker.
#[derive(Clone)]
pub(crate) struct Address(SecretString);

impl Address {
    /// From what was typed, valid or not. Its password is remembered, so that it never appears in
    /// anything this process prints, whoever puts it there.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        let url = url.into();
        redact::remember(&url);
        Self(SecretString::from(url))
    }

    /// The scheme in lower case, if there is one.
    pub(crate) fn scheme(&self) -> Option<String> {
        let (scheme, _) = self.expose().split_once(':')?;
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let valid =
            scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(known);
        valid.then(|| scheme.to_ascii_lowercase())
    }

    /// Whether it holds a password or another secret.
    pub(crate) fn holds_secret(&self) -> bool {
        redact::text(self.expose()) != self.expose()
    }

    /// The URL itself, for the backend that opens it.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The secret, for a backend that keeps it as one.
    pub(crate) fn secret(&self) -> SecretString {
        self.0.clone()
    }
}

/// Without its password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::text(self.expose()))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL in quotes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Address, E> {
                Ok(Address::new(text))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_recognised_and_nonsense_is_not() {
        let scheme = |url: &str| Address::new(url).scheme();
        assert_eq!(scheme("sqlite:///a/b.db").as_deref(), Some("sqlite"));
        assert_eq!(scheme("BUS:///x").as_deref(), Some("bus"));
        assert_eq!(scheme("sqlite:app.db").as_deref(), Some("sqlite"));
        for none in ["", "app.db", "://x", "1a:x", "a b:x"] {
            assert_eq!(scheme(none), None, "{none}");
        }
    }

    #[test]
    fn neither_display_nor_debug_shows_the_password() {
        let address = Address::new("amqp://user:canary-5131@host/v");
        assert!(address.holds_secret());
        assert_eq!(
            format!("{address} {address:?}"),
            "amqp://user:***@host/v amqp://user:***@host/v"
        );
        assert_eq!(address.expose(), "amqp://user:canary-5131@host/v");
        assert!(!Address::new("bus:///tmp/a@b.db").holds_secret());
    }
}
