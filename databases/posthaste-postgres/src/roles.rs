//! Who needs which rights: the grants for four roles, each with no more than it uses.

use posthaste_core::StoreError;

use crate::namespace::Namespace;

const GRANTS: &str = include_str!("../grants.sql");

/// PostgreSQL cuts longer names short.
const MOST_BYTES: usize = 63;

/// Names of roles that exist. One role may stand for several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// States messages.
    pub writer: String,
    /// Handles messages with an inbox, and states further ones.
    pub consumer: String,
    /// Relays.
    pub relay: String,
    /// Looks at everything and acts on dead letters.
    pub operator: String,
}

impl Roles {
    /// `PREFIX_writer`, `PREFIX_consumer`, `PREFIX_relay` and `PREFIX_operator`.
    pub fn with_prefix(prefix: &str) -> Self {
        let named = |role: &str| format!("{prefix}_{role}");
        Self {
            writer: named("writer"),
            consumer: named("consumer"),
            relay: named("relay"),
            operator: named("operator"),
        }
    }
}

/// The statements that give the roles their rights in `schema`, to be run by its owner after every
/// migration. They make no roles and take nothing away.
///
/// # Errors
/// [`StoreError::Rejected`] if the schema or a role has no possible name.
pub fn grants(schema: &str, roles: &Roles) -> Result<String, StoreError> {
    let namespace = Namespace::new(schema)?;
    let mut text = namespace.text(GRANTS).into_owned();
    let Roles { writer, consumer, relay, operator } = roles;
    for (place, role) in
        [("writer", writer), ("consumer", consumer), ("relay", relay), ("operator", operator)]
    {
        text = text.replace(&format!("{{{place}}}"), &quoted(role)?);
    }
    Ok(text)
}

fn quoted(role: &str) -> Result<String, StoreError> {
    if role.is_empty() || role.len() > MOST_BYTES || role.contains(['\0', '{', '}']) {
        let shown: String = role.chars().take(80).flat_map(char::escape_debug).collect();
        return Err(StoreError::rejected(format!(
            "'{shown}' cannot be the name of a role; it must be 1 to 63 bytes without NUL and braces"
        )));
    }
    Ok(format!("\"{}\"", role.replace('"', "\"\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_in_quoted() {
        let roles = Roles { writer: "a\"b".to_owned(), ..Roles::with_prefix("app") };
        let text = grants("shop", &roles).expect("good names");
        assert!(text.contains("GRANT USAGE ON SCHEMA \"shop\" TO \"a\"\"b\";"), "{text}");
        assert!(text.contains("\"shop\".settle") && !text.contains("posthaste."), "{text}");
        let statements = text.lines().filter(|line| !line.starts_with("--"));
        assert!(statements.into_iter().all(|line| !line.contains('{')), "{text}");
    }

    #[test]
    fn what_can_be_no_name_is_refused() {
        for writer in ["", "a\0", "{relay}", &"x".repeat(64)] {
            let roles = Roles { writer: writer.to_owned(), ..Roles::with_prefix("app") };
            assert!(grants("posthaste", &roles).is_err(), "{writer:?}");
        }
        assert!(grants("No", &Roles::with_prefix("app")).is_err());
    }
}
