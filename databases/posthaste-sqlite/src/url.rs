//! The forms in which a database file is named: `sqlite:///absolute/path.db`,
//! `sqlite://relative.db` and `sqlite:relative.db`.

use std::str::FromStr;

use posthaste_core::StoreError;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};

use crate::options::Options;

const FORMS: &str = "write sqlite:///absolute/path.db or sqlite:relative.db";

/// How to connect to the file that `url` names; durable, and never creating it.
pub(crate) fn parse(url: &str, options: &Options) -> Result<SqliteConnectOptions, StoreError> {
    let Some(rest) = url.strip_prefix("sqlite:") else {
        let shown: String =
            url.chars().take_while(|c| c.is_ascii_alphanumeric()).take(20).collect();
        return Err(StoreError::rejected(format!(
            "'{shown}…' is not the URL of a SQLite file; {FORMS}"
        )));
    };
    let path = rest.trim_start_matches("//");
    if path.is_empty() || path.starts_with('?') || path == "/" {
        return Err(StoreError::rejected(format!("the URL names no file; {FORMS}")));
    }
    if rest.contains(":memory:") || rest.contains("mode=memory") {
        return Err(StoreError::rejected(format!(
            "a database in memory cannot be shared and does not last; {FORMS}"
        )));
    }
    let parsed = SqliteConnectOptions::from_str(url).map_err(|error| StoreError::Rejected {
        reason: format!("the URL of the SQLite file cannot be read ({error}); {FORMS}"),
        source: Some(Box::new(error)),
    })?;
    Ok(parsed
        .create_if_missing(false)
        .busy_timeout(options.busy_timeout)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_names_its_file() {
        let path = |url: &str| {
            let parsed = parse(url, &Options::default()).expect("a good URL");
            parsed.get_filename().to_string_lossy().into_owned()
        };
        assert_eq!(path("sqlite:///var/app.db"), "/var/app.db");
        assert_eq!(path("sqlite://app.db"), "app.db");
        assert_eq!(path("sqlite:app.db"), "app.db");
        assert_eq!(path("sqlite:///var/my%20app.db"), "/var/my app.db");
    }

    #[test]
    fn what_is_no_file_is_refused_with_the_forms_to_write() {
        for url in [
            "postgres://u:secret@h/d",
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "x",
            "sqlite:a.db?mode=memory",
            "sqlite:a.db?journal=wal",
        ] {
            let error = parse(url, &Options::default()).expect_err(url).to_string();
            assert!(error.contains("sqlite:///") && !error.contains("secret"), "{error}");
        }
    }
}
