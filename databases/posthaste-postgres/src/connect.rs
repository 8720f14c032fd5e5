//! Connections of our own: a pool whose sessions are set up for our statements, and what there is
//! to say about the way to the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use posthaste_core::finding::{Finding, Severity};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use tokio::time::timeout;

use crate::lent::READY_WITHIN;
use crate::options::Options;

/// A connection that lay unused for this long is asked whether it still lives before it is lent.
/// Asking each time would cost a round trip for every transaction.
const FRESH: Duration = Duration::from_secs(2);

/// How long that may take before the connection is closed and another one made.
const FRESH_WITHIN: Duration = Duration::from_secs(3);

/// What can be relied on from one statement to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// Connections of our own, whose settings we make.
    Own,
    /// Connections of the service's pool, whose settings are the service's.
    Foreign,
    /// PgBouncer lends a connection of the server for one transaction: nothing lasts longer, and
    /// statements that are prepared and run in two steps have to stand in a transaction.
    Pooled,
}

impl Session {
    /// Whether prepared statements last.
    pub(crate) fn is_lasting(self) -> bool {
        self != Self::Pooled
    }
}

/// What our statements run under: only our own and PostgreSQL's names, every row visible or an
/// error, and no wait for a lock without end. `scope` is `session` or `local`.
pub(crate) fn settings(scope: &str, lock_timeout: Duration) -> String {
    let mut text = format!(
        "set {scope} search_path = pg_catalog, pg_temp; set {scope} row_security = off; \
         set {scope} idle_in_transaction_session_timeout = '60s'"
    );
    if !lock_timeout.is_zero() {
        let millis = lock_timeout.as_millis().clamp(1, 86_400_000);
        text.push_str(&format!("; set {scope} lock_timeout = {millis}"));
    }
    text
}

/// Gives a transaction back what the role, the database or the server is set to.
pub(crate) const USUAL_SETTINGS: &str = "set local search_path to default; \
     set local row_security to default; set local idle_in_transaction_session_timeout to default; \
     set local lock_timeout to default";

/// Of sessions of our own: what is carried out as single statements has to see what was committed
/// before each of its steps, and writes, whatever the role or the database is set to. Comes after
/// the question what that is.
const OUR_TRANSACTIONS: &str = "select current_setting('default_transaction_isolation') as usual; \
     set session default_transaction_isolation = 'read committed'; \
     set session default_transaction_read_only = off; ";

/// The isolation of the service's transactions, as the role or the database is set to; what the
/// last connection was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usual(Arc<AtomicU8>);

impl Usual {
    const LEVELS: [(&str, &str); 4] = [
        ("read committed", "begin isolation level read committed"),
        ("read uncommitted", "begin isolation level read uncommitted"),
        ("repeatable read", "begin isolation level repeatable read"),
        ("serializable", "begin isolation level serializable"),
    ];

    fn note(&self, level: &str) {
        let found = (0..).zip(Self::LEVELS).find(|(_, (name, _))| *name == level);
        self.0.store(found.map_or(0, |(place, _)| place), Ordering::Relaxed);
    }

    /// The statement that begins such a transaction.
    pub(crate) fn begin(&self) -> &'static str {
        Self::LEVELS[usize::from(self.0.load(Ordering::Relaxed)) % Self::LEVELS.len()].1
    }
}

/// Lets the server notice as well that nobody is there any more, and end what it began for them:
/// by itself it would keep their locks for hours. It asks a silent client every half minute.
fn keep_alive(answer_within: Duration) -> String {
    let millis = answer_within.as_millis().min(86_400_000);
    format!(
        "; set session tcp_keepalives_idle = 30; set session tcp_keepalives_interval = 10; \
         set session tcp_keepalives_count = 3; set session tcp_user_timeout = {millis}"
    )
}

/// What is said of a connection that does not answer. The pool closes it at once.
fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer came"))
}

/// A pool of our own.
pub(crate) fn pool(
    connect: PgConnectOptions,
    session: Session,
    options: &Options,
    usual: &Usual,
) -> PgPool {
    let set_up = [
        OUR_TRANSACTIONS.to_owned(),
        settings("session", options.lock_timeout),
        keep_alive(options.answer_within),
    ];
    let (set_up, usual) = (set_up.join(""), usual.clone());
    let pool = PgPoolOptions::new()
        .max_connections(options.connections.max(2))
        .acquire_timeout(options.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, lent| {
            Box::pin(async move {
                if lent.idle_for < FRESH {
                    return Ok(true);
                }
                match timeout(FRESH_WITHIN, connection.ping()).await {
                    Ok(lives) => lives.map(|()| true),
                    Err(_) => Err(silent()),
                }
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                let outside = timeout(READY_WITHIN, is_outside_of_transactions(connection));
                outside.await.unwrap_or_else(|_| Err(silent()))
            })
        });
    let pool = match session {
        Session::Pooled => pool,
        Session::Own | Session::Foreign => pool.after_connect(move |connection, _| {
            let (set_up, usual) = (sqlx::AssertSqlSafe(set_up.clone()), usual.clone());
            Box::pin(async move {
                use sqlx::Row as _;
                let told = sqlx::raw_sql(set_up).fetch_all(connection).await?;
                let told = told.first().ok_or(sqlx::Error::RowNotFound)?;
                usual.note(told.try_get("usual")?);
                Ok(())
            })
        }),
    };
    pool.connect_lazy_with(connect)
}

/// Whether a connection that comes back is outside of transactions. The driver believes so even if
/// somebody dropped a `begin` half way; the next borrower would then work inside that transaction
/// and lose what it commits. A transaction keeps the time at which it began.
async fn is_outside_of_transactions(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    use sqlx::Row as _;
    let outside = sqlx::raw_sql("select now() = statement_timestamp() as outside");
    let outside = sqlx::Executor::fetch_one(connection, outside).await?;
    let outside: bool = outside.try_get("outside")?;
    if !outside {
        tracing::debug!("closing a connection that was given back inside a transaction");
    }
    Ok(outside)
}

/// Where the server is, for people.
pub(crate) fn place(connect: &PgConnectOptions) -> String {
    let database = connect.get_database().unwrap_or(connect.get_username());
    match connect.get_socket() {
        Some(socket) => format!("database {database} at {}", socket.display()),
        None => format!("database {database} at {}:{}", connect.get_host(), connect.get_port()),
    }
}

/// Whether the server is on this machine.
pub(crate) fn is_here(connect: &PgConnectOptions) -> bool {
    let host = connect.get_host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    connect.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What there is to say about the way to the server.
pub(crate) fn transport(connect: &PgConnectOptions) -> Finding {
    let place = place(connect);
    let subject = "database.transport";
    if is_here(connect) {
        return Finding::new(Severity::Good, subject, format!("{place} is on this machine"));
    }
    let (severity, what) = match connect.get_ssl_mode() {
        PgSslMode::VerifyFull => {
            let what = format!("the certificate of {place} is verified");
            return Finding::new(Severity::Good, subject, what);
        }
        PgSslMode::VerifyCa => (
            Severity::Warning,
            format!("any certificate of a known CA is taken for that of {place}"),
        ),
        PgSslMode::Require => (
            Severity::Warning,
            format!("{place} is reached encrypted, but whoever answers for it is believed"),
        ),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => {
            (Severity::Warning, format!("passwords and messages may go to {place} in the clear"))
        }
    };
    Finding::new(severity, subject, what)
        .advise("leave sslmode out or set it to verify-full; sslrootcert=FILE names an own CA")
}
