//! What `doctor` has to say about a database: is it there, is it ours, will a commit last, and what
//! may this role do.

use std::sync::Arc;

use posthaste_core::StoreError;
use posthaste_core::finding::{Finding, Severity};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, FromRow, Row as _};

use crate::checkup;
use crate::connect::transport;
use crate::schema::{self, VERSION};
use crate::store::Store;

const SUBJECT: &str = "database";

pub(crate) fn good(subject: &str, what: impl Into<String>) -> Finding {
    Finding::new(Severity::Good, subject, what)
}

pub(crate) fn problem(error: &StoreError) -> Finding {
    let severity = if error.is_transient() { Severity::Warning } else { Severity::Problem };
    Finding::new(severity, SUBJECT, error.to_string())
}

/// Looks at the server, then at what is in the schema; stops at what hides the rest.
pub(crate) async fn findings(store: &Arc<Store>) -> Vec<Finding> {
    let mut findings = vec![transport(&store.pool.connect_options())];
    if let Err(error) = store.at_length().during(look(store, &mut findings)).await {
        findings.push(problem(&error));
    }
    findings
}

async fn look(store: &Arc<Store>, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
    let mut connection = match store.lend().await {
        Ok(connection) => connection,
        Err(error) => {
            findings.push(Finding::new(Severity::Problem, SUBJECT, error.to_string()));
            return Ok(());
        }
    };
    findings.extend(server(store, &mut connection).await?);
    let found = version(store, &mut connection).await;
    schema::refuse_other(found.map_err(store.failed("looking at the schema"))?)?;
    findings.push(good(SUBJECT, format!("the schema has version {VERSION}, as needed")));
    findings.extend(checkup::findings(store, &mut connection).await);
    Ok(())
}

/// The version of the schema, asked in single steps; see [`ask`].
async fn version(store: &Store, connection: &mut PgConnection) -> Result<Option<u32>, sqlx::Error> {
    // The name of a schema holds nothing that could end the text.
    let there = format!(
        "select exists (select 1 from pg_catalog.pg_class c \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = '{}' and c.relname = 'schema_version')",
        store.namespace.name()
    );
    let there = ask(&mut *connection, there).await?;
    if !there.first().ok_or(sqlx::Error::RowNotFound)?.try_get::<bool, _>(0)? {
        return Ok(None);
    }
    let highest = "select coalesce(max(version), 0) from posthaste.schema_version";
    let highest = ask(connection, store.namespace.text(highest).into_owned()).await?;
    let highest: i32 = highest.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
    Ok(Some(u32::try_from(highest.max(0)).unwrap_or(u32::MAX)))
}

/// What one setting of the server means; `None` if it is as it should be.
fn durability(name: &str, value: &str) -> Option<Finding> {
    let warn = |severity, what: &str, advice: &str| {
        Some(Finding::new(severity, "database.durability", what).advise(advice))
    };
    match (name, value) {
        ("fsync", "off") => warn(
            Severity::Warning,
            "fsync is off: a crash of the machine can damage the database and lose all of it",
            "set fsync = on, unless this is a database for tests",
        ),
        ("full_page_writes", "off") => warn(
            Severity::Warning,
            "full_page_writes is off: a crash of the machine can damage pages",
            "set full_page_writes = on, unless the file system writes pages whole",
        ),
        ("synchronous_commit", "off") => warn(
            Severity::Warning,
            "synchronous_commit is off for this role: what was committed in the last moments \
             before a crash is lost, messages and what they tell of alike",
            "set synchronous_commit = on for the roles of writers and consumers",
        ),
        _ => None,
    }
}

async fn server(store: &Store, connection: &mut PgConnection) -> Result<Vec<Finding>, StoreError> {
    let failed = store.failed("looking at the server");
    let rows = ask(
        &mut *connection,
        "select current_setting('server_version'), current_setting('server_version_num')::int4, \
         pg_is_in_recovery(), extract(epoch from clock_timestamp())::float8"
            .to_owned(),
    );
    let rows = rows.await.map_err(&failed)?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let (version, number, standby, ahead): (String, i32, bool, f64) =
        FromRow::from_row(row).map_err(&failed)?;
    let mut findings = vec![good(SUBJECT, format!("{} is PostgreSQL {version}", store.place()))];
    if number < 140_000 {
        let what = format!("PostgreSQL {version} is too old");
        let finding = Finding::new(Severity::Problem, SUBJECT, what);
        findings.push(finding.advise("Posthaste needs PostgreSQL 14 or later"));
    }
    if standby {
        let what = format!("{} is a standby, on which nothing can be relayed", store.place());
        let finding = Finding::new(Severity::Problem, SUBJECT, what);
        findings.push(finding.advise("name the primary in the URL"));
    }
    findings.push(clock(ahead));
    let before = findings.len();
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        for row in ask(&mut *connection, format!("show {name}")).await.map_err(&failed)? {
            findings.extend(durability(name, row.try_get(0).map_err(&failed)?));
        }
    }
    if findings.len() == before {
        findings.push(good("database.durability", "a commit survives a crash of the machine"));
    }
    findings.push(pooling(store, connection).await);
    Ok(findings)
}

/// Nothing is decided by comparing two clocks, but people compare what they show.
fn clock(server: f64) -> Finding {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let here = since.unwrap_or_default().as_secs_f64();
    let apart = (server - here).abs();
    if apart < 5.0 {
        return good("database.clock", "the clocks of the server and of this machine agree");
    }
    let what = format!("the clock of the server and that of this machine are {apart:.0} s apart");
    Finding::new(Severity::Notice, "database.clock", what)
        .advise("set both by NTP; Posthaste goes by the clock of the server")
}

/// Whether something between us and the server lends out its connections: a new one of ours is
/// then an old one of the server.
async fn pooling(store: &Store, connection: &mut PgConnection) -> Finding {
    let subject = "database.pooling";
    let is_lent = match is_lent(store, connection).await {
        Ok(is_lent) => is_lent,
        Err(error) => return problem(&store.error("looking for a pooler", error)),
    };
    match (is_lent, store.session.is_lasting()) {
        (false, true) => good(subject, "connections reach the server itself"),
        (_, false) => Finding::new(
            Severity::Notice,
            subject,
            "the URL says that PgBouncer pools transactions: commits of other processes are seen \
             within a second instead of at once",
        ),
        (true, true) => Finding::new(
            Severity::Warning,
            subject,
            "a pooler between this process and the server lends out connections",
        )
        .advise(
            "if it pools transactions, add pgbouncer=true to the URL or name the server itself",
        ),
    }
}

async fn is_lent(store: &Store, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let now = ask(connection, "select clock_timestamp()::text".to_owned()).await?;
    let now: &str = now.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
    let mut fresh = (*store.pool.connect_options()).clone().connect().await?;
    let question = format!(
        "select coalesce((select backend_start < '{now}'::timestamptz \
         from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())), false)"
    );
    let older = ask(&mut fresh, question).await;
    fresh.close().await?;
    older?.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
}

/// Asks in one step, which works through every pooler.
pub(crate) async fn ask(
    connection: &mut PgConnection,
    question: String,
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(question)).fetch_all(connection).await
}
