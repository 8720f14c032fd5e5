//! What `doctor` has to say about a database: is it there, is it ours, will a commit last.

use std::fs;
use std::path::Path;

use posthaste_core::StoreError;
use posthaste_core::finding::{Finding, Severity};
use posthaste_core::limits::PAYLOAD_BYTES_DEFAULT;
use sqlx::sqlite::SqliteConnection;

use crate::number;
use crate::schema::{self, VERSION};
use crate::store::Store;

const SUBJECT: &str = "database";

fn good(what: String) -> Finding {
    Finding::new(Severity::Good, SUBJECT, what)
}

/// Looks at the file, then at what is in it; stops at the first thing that hides the rest.
pub(crate) async fn findings(store: &Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    let path = store.path();
    findings.extend(unwritable(&path));
    let failed = store.failed("opening the database");
    let mut connection = match store.pool.acquire().await.map_err(&failed) {
        Ok(connection) => connection,
        Err(error) => {
            findings.push(Finding::new(Severity::Problem, SUBJECT, error.to_string()));
            return findings;
        }
    };
    match look(store, &mut connection).await {
        Ok(more) => findings.extend(more),
        Err(error) => findings.push(problem(&failed(error))),
    }
    findings
}

fn problem(error: &StoreError) -> Finding {
    let severity = if error.is_transient() { Severity::Warning } else { Severity::Problem };
    Finding::new(severity, SUBJECT, error.to_string())
}

/// A file or folder that its permissions close for writing.
fn unwritable(path: &Path) -> Option<Finding> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let closed = [Some(path), folder].into_iter().flatten().find(|place| {
        fs::metadata(place).is_ok_and(|metadata| metadata.permissions().readonly())
    })?;
    let what = format!("{} is read-only", closed.display());
    Some(Finding::new(Severity::Problem, SUBJECT, what).advise(
        "give the user of the relay and of the application the right to write the file and its \
         folder",
    ))
}

async fn look(
    store: &Store,
    connection: &mut SqliteConnection,
) -> Result<Vec<Finding>, sqlx::Error> {
    let version: String =
        sqlx::query_scalar("select sqlite_version()").fetch_one(&mut *connection).await?;
    let found = schema::version(&mut *connection).await?;
    let path = store.path().display().to_string();
    let mut findings = vec![good(format!("{path} opens with SQLite {version}"))];
    findings.push(journal(&mut *connection).await?);
    findings.push(durability(&mut *connection).await?);
    match schema::refuse_other(found) {
        Ok(()) => {
            findings.push(good(format!("the schema has version {VERSION}, as needed")));
            findings.push(payload_limit(store, &mut *connection).await?);
            findings.extend(waiting(connection).await?);
        }
        Err(error) => findings.push(problem(&error)),
    }
    Ok(findings)
}

async fn journal(connection: &mut SqliteConnection) -> Result<Finding, sqlx::Error> {
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(connection).await?;
    Ok(match mode.as_str() {
        "wal" => good("journal mode is wal".to_owned()),
        "off" | "memory" => Finding::new(
            Severity::Problem,
            SUBJECT,
            format!("journal mode is {mode}: a crash can damage the file"),
        )
        .advise("run `posthaste migrate`, which switches the file to wal"),
        _ => Finding::new(
            Severity::Notice,
            SUBJECT,
            format!("journal mode is {mode}: readers and the writer wait for one another"),
        )
        .advise("run `posthaste migrate`, which switches the file to wal"),
    })
}

async fn durability(connection: &mut SqliteConnection) -> Result<Finding, sqlx::Error> {
    let level: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(connection).await?;
    Ok(match level {
        2 | 3 => good("a commit of this program survives a power cut (synchronous is FULL)".into()),
        _ => Finding::new(
            Severity::Warning,
            SUBJECT,
            "the last commits of this program can vanish in a power cut (synchronous is not FULL)",
        )
        .advise("run `PRAGMA synchronous = FULL` on every connection that writes"),
    })
}

async fn payload_limit(
    store: &Store,
    connection: &mut SqliteConnection,
) -> Result<Finding, sqlx::Error> {
    let table: Option<i64> =
        sqlx::query_scalar("select value from posthaste_setting where name = 'payload_limit'")
            .fetch_optional(connection)
            .await?;
    let table = table.unwrap_or(number::signed(PAYLOAD_BYTES_DEFAULT));
    let ours = number::signed(store.limits().payload());
    Ok(if ours > table {
        Finding::new(
            Severity::Warning,
            SUBJECT,
            format!("payload_limit is {ours} bytes, but the table refuses more than {table}"),
        )
        .advise("run `posthaste migrate` with the same payload_limit")
    } else {
        good(format!("payloads may have up to {table} bytes"))
    })
}

async fn waiting(connection: &mut SqliteConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = Vec::new();
    let (dead, reposted): (i64, i64) = sqlx::query_as(
        "select coalesce(sum(state = 'dead'), 0), coalesce(sum(state = 'reposted'), 0) \
         from posthaste_dead_letter",
    )
    .fetch_one(&mut *connection)
    .await?;
    for (count, wait) in [
        (dead, "dead letters wait for a decision"),
        (reposted, "dead letters were reposted and wait for their consumers"),
    ] {
        if count > 0 {
            let finding = Finding::new(Severity::Notice, SUBJECT, format!("{count} {wait}"));
            findings.push(finding.advise("look at them with `posthaste dead list`"));
        }
    }
    let routes: Vec<String> = sqlx::query_scalar(
        "select printf('nobody is bound to %d messages of topic %s, kind %s', \
           count(*), topic, kind) from posthaste_held where state = 'unroutable' \
         group by destination, topic, kind order by count(*) desc limit 10",
    )
    .fetch_all(&mut *connection)
    .await?;
    findings.extend(routes.into_iter().map(|what| {
        Finding::new(Severity::Warning, SUBJECT, what)
            .advise("bind a queue to the topic; the messages are sent when one appears")
    }));
    let oldest: Option<i64> = sqlx::query_scalar(concat!(
        "select (",
        now!(),
        " - cast(stated_at as integer)) / 1000 from posthaste_outbox where seq > coalesce( \
         (select min(position) from posthaste_checkpoint), 0) \
         and (due_at is null or due_at <= ",
        now!(),
        ") order by seq limit 1"
    ))
    .fetch_optional(connection)
    .await?;
    if let Some(age) = oldest {
        let severity = if age > 60 { Severity::Warning } else { Severity::Good };
        let what = format!("the oldest message that was not read yet is {age} seconds old");
        let finding = Finding::new(severity, SUBJECT, what);
        findings.push(match severity {
            Severity::Warning => finding.advise("look whether a relay runs: `posthaste status`"),
            _ => finding,
        });
    }
    Ok(findings)
}
