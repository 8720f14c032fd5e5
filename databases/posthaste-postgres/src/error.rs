//! What the driver's errors mean: the only place that knows PostgreSQL's codes.

use posthaste_core::StoreError;

use crate::schema;

/// What the server said.
pub(crate) struct Said<'a> {
    /// Five characters, see "PostgreSQL Error Codes".
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) constraint: Option<&'a str>,
    pub(crate) column: Option<&'a str>,
}

/// The cause of an error, boxed.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Names the consequence of a driver's error that came up when `doing` was tried at `place`.
pub(crate) fn classify(doing: &str, place: &str, error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(database) = &error {
        let server = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
        let said = Said {
            code: server.map_or("", |server| server.code()),
            message: database.message(),
            constraint: database.constraint(),
            column: server.and_then(|server| server.column()),
        };
        let (consequence, text) = by_code(doing, place, &said);
        return consequence.of(text, Box::new(error));
    }
    let (consequence, text) = match &error {
        sqlx::Error::PoolTimedOut => (
            Consequence::Unavailable,
            format!(
                "{doing}: all connections to {place} are in use; look for a transaction that is \
                 left open, or allow more connections"
            ),
        ),
        sqlx::Error::PoolClosed => {
            (Consequence::Failed, format!("{doing}: the connection pool of {place} was closed"))
        }
        // The driver has no kind of its own for a certificate that is not accepted.
        sqlx::Error::Io(said) if said.kind() == std::io::ErrorKind::InvalidData => {
            (Consequence::Failed, tls(doing, place, &said.to_string()))
        }
        sqlx::Error::Io(said) => (
            Consequence::Unavailable,
            format!("{doing}: no connection to {place} ({said}); is the server running there?"),
        ),
        sqlx::Error::Tls(said) => (Consequence::Failed, tls(doing, place, &said.to_string())),
        sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed | sqlx::Error::Protocol(_) => {
            (Consequence::Unavailable, format!("{doing}: the connection to {place} was lost"))
        }
        sqlx::Error::Configuration(_) => {
            (Consequence::Failed, format!("{doing}: the options for {place} are wrong ({error})"))
        }
        _ => (Consequence::Failed, format!("{doing} at {place}: {error}")),
    };
    consequence.of(text, Box::new(error))
}

/// Whether the transaction was ended by an earlier error.
pub(crate) fn is_aborted(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("25P02"))
}

/// Whether a lock was not to be had in time.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

/// Whether the role lacks a right.
pub(crate) fn is_denied(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42501"))
}

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    Unavailable,
    Failed,
    Rejected,
    Fenced,
    SchemaMissing,
}

impl Consequence {
    pub(crate) fn of(self, text: String, cause: Cause) -> StoreError {
        let source = Some(cause);
        match self {
            Self::Unavailable => StoreError::Unavailable { context: text, source },
            Self::Failed => StoreError::Failed { context: text, source },
            Self::Rejected => StoreError::Rejected { reason: text, source },
            Self::Fenced => StoreError::Fenced,
            Self::SchemaMissing => schema::missing(&text),
        }
    }
}

/// What a certificate that is not accepted means for people.
fn tls(doing: &str, place: &str, said: &str) -> String {
    format!(
        "{doing}: no trusted connection to {place} ({said}); name the CA with sslrootcert=FILE in \
         the URL, or look at the host name"
    )
}

/// The consequence of what the server said, and a sentence about it.
pub(crate) fn by_code(doing: &str, place: &str, said: &Said<'_>) -> (Consequence, String) {
    let Said { code, message, .. } = said;
    match *code {
        "42501" => (
            Consequence::Failed,
            format!(
                "{doing}: {message}; grant this role what it needs (`posthaste migrate \
                 --grants=PREFIX` prints the statements)"
            ),
        ),
        "42P01" | "42703" | "3F000" | "42883" => {
            (Consequence::SchemaMissing, (*message).to_owned())
        }
        "28P01" | "28000" => (
            Consequence::Failed,
            format!("{doing}: {place} does not let this user in ({message}); look at the URL"),
        ),
        "3D000" => {
            (Consequence::Failed, format!("{doing}: {message}; create it, or look at the URL"))
        }
        "25P02" => (
            Consequence::Rejected,
            "an earlier statement of this transaction failed, so nothing of it is committed; look \
             at the error of that statement"
                .to_owned(),
        ),
        "25006" if is_of_standby(message) => (
            Consequence::Failed,
            format!("{doing}: {place} is a standby and takes no writes; name the primary"),
        ),
        "25006" => (
            Consequence::Failed,
            format!(
                "{doing}: transactions at {place} are read only; turn \
                 default_transaction_read_only off for this role and database, or name the primary \
                 if that is a standby"
            ),
        ),
        "PH001" => (
            Consequence::Failed,
            format!(
                "{doing}: {place} is a copy of the database that its checkpoints belong to, and \
                 transaction ids mean something else here; run `posthaste adopt` once nobody \
                 relays from the original any more"
            ),
        ),
        "PH002" => (
            Consequence::Failed,
            format!(
                "{doing}: {}; set default_transaction_isolation to 'read committed' for the role \
                 and the database, or give the relay connections of its own",
                refusal(said)
            ),
        ),
        "PH003" => (Consequence::Rejected, refusal(said)),
        "PH004" => (Consequence::Fenced, refusal(said)),
        "55P03" => (
            Consequence::Unavailable,
            format!(
                "{doing}: another transaction at {place} holds the lock; look for one that is left open"
            ),
        ),
        "53300" | "57P03" => (
            Consequence::Unavailable,
            format!("{doing}: {place} takes no connection now ({message})"),
        ),
        "53100" => (
            Consequence::Failed,
            format!("{doing}: no room for {place} ({message}); free some space on its disk"),
        ),
        _ => by_class(doing, place, said),
    }
}

fn by_class(doing: &str, place: &str, said: &Said<'_>) -> (Consequence, String) {
    let Said { code, message, .. } = said;
    match code.get(..2).unwrap_or("") {
        // data, constraints
        "22" | "23" | "44" => (Consequence::Rejected, refusal(said)),
        // connection, transaction rolled back, resources, operator, system
        "08" | "40" | "53" | "57" | "58" => {
            (Consequence::Unavailable, format!("{doing}: {place} gave up on it ({message})"))
        }
        // "feature not supported" is how PostgreSQL refuses a seq: generated always
        "42" if *code == "428C9" => {
            (Consequence::Rejected, "leave seq out, the database gives it".to_owned())
        }
        _ => (Consequence::Failed, format!("{doing} at {place}: {message}")),
    }
}

/// Whether only a standby says so. Ours ask whether it is one; of other statements most are refused
/// as they are in any transaction that is read only.
fn is_of_standby(message: &str) -> bool {
    message.starts_with("posthaste: ") || message.ends_with("during recovery")
}

/// The sentence in a refusal of the tables. The message of the server may hold values, so it is
/// used only where it is ours.
fn refusal(said: &Said<'_>) -> String {
    let ours = |text: &str| text.split_once("posthaste: ").map(|(_, rest)| rest.to_owned());
    if let Some(sentence) = ours(said.message).filter(|_| !said.message.starts_with("new row for"))
    {
        return sentence;
    }
    match said.constraint.and_then(ours) {
        Some(sentence) if sentence.starts_with("payload is over") => format!(
            "{sentence}; raise it with posthaste migrate (up to 64 MiB), or store the data \
             elsewhere and send a reference"
        ),
        Some(sentence) => sentence,
        None if said.code == "23502" => {
            format!("{} is missing", said.column.unwrap_or("a column that must be given"))
        }
        None => said.message.to_owned(),
    }
}
