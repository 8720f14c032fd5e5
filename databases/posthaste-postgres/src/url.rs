//! The URL of a database: libpq's forms, and two parameters of our own.

use std::path::Path;

use posthaste_core::StoreError;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::connect::{Session, is_here};

const FORM: &str = "write postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// Parameters that the driver knows.
const KNOWN: [&str; 17] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// What a URL says.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) connect: PgConnectOptions,
    pub(crate) session: Session,
    pub(crate) schema: Option<String>,
}

/// Reads a URL. No error shows any part of it that could be a password.
pub(crate) fn parse(url: &str) -> Result<Address, StoreError> {
    let mut parsed = read(url)
        .filter(|parsed| matches!(parsed.scheme(), "postgres" | "postgresql"))
        .ok_or_else(|| StoreError::rejected(format!("not the URL of a database; {FORM}")))?;
    let mut kept = Vec::new();
    let mut session = Session::Own;
    let mut schema = None;
    let mut mode_is_given = false;
    for (name, value) in parsed.query_pairs() {
        match name.as_ref() {
            "schema" => schema = Some(value.into_owned()),
            "pgbouncer" => session = pooling(&value)?,
            other if KNOWN.contains(&other) || other.starts_with("options[") => {
                mode_is_given |= matches!(other, "sslmode" | "ssl-mode");
                refuse_absent_file(other, &value)?;
                kept.push((name.into_owned(), value.into_owned()));
            }
            other => {
                let shown: String = other.chars().take(40).flat_map(char::escape_debug).collect();
                return Err(StoreError::rejected(format!(
                    "the URL of the database has the parameter '{shown}', which is not known; \
                     take it out (known are {}, schema, pgbouncer)",
                    KNOWN.join(", ")
                )));
            }
        }
    }
    parsed.set_query(None);
    if !kept.is_empty() {
        parsed.query_pairs_mut().extend_pairs(kept);
    }
    let connect = PgConnectOptions::from_url(&parsed).map_err(|_| {
        // The driver's sentence may hold a value, and values may be secrets.
        StoreError::rejected(format!("the URL of the database cannot be read; {FORM}"))
    })?;
    Ok(Address { connect: finish(connect, session, mode_is_given), session, schema })
}

/// The parts of a URL. libpq allows a user without a host, for a socket that a parameter names.
fn read(url: &str) -> Option<url::Url> {
    match url::Url::parse(url) {
        Err(url::ParseError::EmptyHost) => {
            url::Url::parse(&url.replacen("@/", "@localhost/", 1)).ok()
        }
        parsed => parsed.ok(),
    }
}

/// Refuses the name of a file that is not there, which the driver tells like a server that is not.
fn refuse_absent_file(name: &str, value: &str) -> Result<(), StoreError> {
    let names_a_file = name.starts_with("ssl") && !matches!(name, "sslmode" | "ssl-mode");
    if !names_a_file || value.starts_with("-----BEGIN") || Path::new(value).is_file() {
        return Ok(());
    }
    let shown: String = value.chars().take(200).flat_map(char::escape_debug).collect();
    Err(StoreError::rejected(format!(
        "there is no file {shown}, which {name} in the URL of the database names"
    )))
}

fn pooling(value: &str) -> Result<Session, StoreError> {
    match value {
        "true" => Ok(Session::Pooled),
        "false" => Ok(Session::Own),
        _ => Err(StoreError::rejected("pgbouncer in the URL of the database is true or false")),
    }
}

/// Verifies whoever answers for a server elsewhere, unless the user chose otherwise.
fn finish(connect: PgConnectOptions, session: Session, mode_is_given: bool) -> PgConnectOptions {
    let chosen = mode_is_given || std::env::var_os("PGSSLMODE").is_some();
    let mode = match connect.get_ssl_mode() {
        given if chosen => given,
        _ if is_here(&connect) => PgSslMode::Prefer,
        _ => PgSslMode::VerifyFull,
    };
    let connect = connect.ssl_mode(mode).disable_statement_logging();
    let connect = match connect.get_application_name() {
        Some(_) => connect,
        None => connect.application_name("posthaste"),
    };
    match session {
        // The pooler refuses a session with settings it does not know.
        Session::Pooled => connect.statement_cache_capacity(0).extra_float_digits(None),
        Session::Own | Session::Foreign => connect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::transport;
    use posthaste_core::finding::Severity;

    fn mode(url: &str) -> String {
        format!("{:?}", parse(url).expect(url).connect.get_ssl_mode())
    }

    #[test]
    fn a_server_elsewhere_is_verified_unless_the_url_says_otherwise() {
        assert_eq!(mode("postgres://u:p@db.example/app"), "VerifyFull");
        assert_eq!(mode("postgresql://u:p@10.1.2.3/app"), "VerifyFull");
        assert_eq!(mode("postgres://u:p@db.example/app?sslmode=require"), "Require");
        assert_eq!(mode("postgres://u:p@db.example/app?sslmode=disable"), "Disable");
        for here in ["127.0.0.1", "localhost", "[::1]", "%2Frun%2Fpostgresql"] {
            assert_eq!(mode(&format!("postgres://u:p@{here}/app")), "Prefer", "{here}");
        }
        assert_eq!(mode("postgres:///app?host=/run/postgresql"), "Prefer");
        let socket = parse("postgres://me@/app?host=/run/postgresql").expect("as libpq has it");
        assert!(socket.connect.get_socket().is_some());
        assert_eq!(socket.connect.get_username(), "me");
    }

    #[test]
    fn a_way_that_others_can_listen_to_is_warned_of() {
        let found = |url: &str| transport(&parse(url).expect(url).connect).severity;
        assert_eq!(found("postgres://u:p@db.example/app"), Severity::Good);
        assert_eq!(found("postgres://u:p@db.example/app?sslmode=require"), Severity::Warning);
        assert_eq!(found("postgres://u:p@db.example/app?sslmode=disable"), Severity::Warning);
        assert_eq!(found("postgres://u:p@localhost/app?sslmode=disable"), Severity::Good);
    }

    #[test]
    fn a_certificate_that_is_not_there_is_named() {
        let refused = parse("postgres://u@db.example/app?sslrootcert=/no/such/ca.pem");
        let said = refused.expect_err("no file").to_string();
        assert!(said.contains("/no/such/ca.pem") && said.contains("sslrootcert"), "{said}");
        let there = concat!("postgres://u@db.example/app?sslrootcert=", env!("CARGO_MANIFEST_DIR"));
        assert!(parse(&format!("{there}/Cargo.toml")).is_ok());
    }

    #[test]
    fn our_own_parameters_are_taken_out() {
        let address = parse("postgres://u@localhost/app?schema=orders&pgbouncer=true&user=me")
            .expect("a good URL");
        assert_eq!(address.schema.as_deref(), Some("orders"));
        assert_eq!(address.session, Session::Pooled);
        assert_eq!(address.connect.get_username(), "me");
    }

    #[test]
    fn no_error_shows_a_secret() {
        for url in [
            "sqlite://secret",
            "postgres://u:secret@h:99999/d",
            "postgres://u:secret@h/d?sslmode=secret",
            "postgres://u:p@h/d?pgbouncer=secret",
            "postgres://u:p@h/d?colour=secret",
            "u:secret@h",
        ] {
            let error = parse(url).expect_err(url);
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
