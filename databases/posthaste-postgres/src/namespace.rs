//! The schema that the tables stand in, and statements with its name put in.
//!
//! Statements are written for the schema `posthaste`; every `posthaste.` in them is a name
//! qualified with it. For another schema that is replaced, quoted, so that any name which passes
//! the check below works, keywords included.

use std::borrow::Cow;

use posthaste_core::StoreError;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::options::DEFAULT_SCHEMA;

const MOST_BYTES: usize = 41;

/// A schema by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// The usual one.
    pub(crate) fn posthaste() -> Self {
        Self { name: DEFAULT_SCHEMA.to_owned() }
    }

    /// Refuses a name that would have to be escaped, or that PostgreSQL keeps for itself.
    pub(crate) fn new(name: &str) -> Result<Self, StoreError> {
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let known = |c: char| first(c) || c.is_ascii_digit();
        let good = name.starts_with(first)
            && name.chars().all(known)
            && name.len() <= MOST_BYTES
            && !name.starts_with("pg_")
            && name != "information_schema";
        if good {
            return Ok(Self { name: name.to_owned() });
        }
        Err(StoreError::rejected(format!(
            "schema '{}' must be a lower-case letter or _, then up to 40 of a-z 0-9 _, and not \
             begin with pg_",
            name.chars().take(60).flat_map(char::escape_debug).collect::<String>()
        )))
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A template with the name of the schema put in.
    pub(crate) fn text<'t>(&self, template: &'t str) -> Cow<'t, str> {
        if self.name == DEFAULT_SCHEMA {
            return Cow::Borrowed(template);
        }
        let quoted = format!("\"{}\"", self.name);
        let text = template
            .replace("posthaste.", &format!("{quoted}."))
            .replace("SCHEMA posthaste", &format!("SCHEMA {quoted}"))
            .replace("EXISTS posthaste", &format!("EXISTS {quoted}"));
        Cow::Owned(text)
    }

    /// A statement with the name of the schema put in.
    pub(crate) fn sql(&self, template: &'static str) -> SqlStr {
        AssertSqlSafe(self.text(template)).into_sql_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_an_escape_are_refused() {
        for good in ["posthaste", "_", "order", "a1_b", &format!("a{}", "b".repeat(40))] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1a",
            "A",
            "a-b",
            "a b",
            "a\"b",
            "ä",
            "pg_x",
            "a;",
            &format!("a{}", "b".repeat(41)),
        ] {
            let refused = Namespace::new(bad).expect_err(bad);
            assert!(matches!(refused, StoreError::Rejected { .. }), "{bad}");
        }
    }

    #[test]
    fn every_qualified_name_is_put_into_the_schema() {
        let other = Namespace::new("order").expect("a good name");
        let text = other.text("CREATE SCHEMA posthaste; select posthaste.f(id) from posthaste.t");
        assert_eq!(text, "CREATE SCHEMA \"order\"; select \"order\".f(id) from \"order\".t");
        let made = other.text("CREATE SCHEMA IF NOT EXISTS posthaste");
        assert_eq!(made, "CREATE SCHEMA IF NOT EXISTS \"order\"");
        let own = Namespace::new("posthaste").expect("a good name");
        assert!(matches!(own.text("select posthaste.f()"), Cow::Borrowed(_)));
    }
}
