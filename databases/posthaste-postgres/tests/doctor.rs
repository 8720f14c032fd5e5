//! What `doctor` finds, each thing shown by making it so.

use posthaste_core::database::Monitor;
use posthaste_core::finding::{Finding, Severity};
use posthaste_postgres::Postgres;

use crate::fixture::Fixture;

async fn bad(fixture: &Fixture) -> Vec<Finding> {
    let mut findings = fixture.database.findings().await;
    findings.retain(|finding| finding.severity > Severity::Good);
    findings
}

#[tokio::test]
async fn a_good_database_has_nothing_against_it() {
    let Some(fixture) = Fixture::new().await else { return };
    assert_eq!(bad(&fixture).await, []);
}

#[tokio::test]
async fn each_thing_that_loses_or_delays_messages_is_found() {
    let Some(fixture) = Fixture::new().await else { return };
    for (make, found, severity) in [
        (
            "alter table posthaste.outbox alter column seq set cache 20",
            "20 numbers at a time",
            Severity::Warning,
        ),
        (
            "insert into posthaste.outbox (seq, topic, kind, payload) overriding system value \
             values (77, 't', 'k', 'x')",
            "behind 77",
            Severity::Warning,
        ),
        (
            "create function public.t() returns trigger language plpgsql as \
             'begin return null; end'; create trigger swallow before insert \
             on posthaste.outbox_p00001 for each row execute function public.t()",
            "trigger swallow",
            Severity::Warning,
        ),
        ("alter table posthaste.held set unlogged", "held is unlogged", Severity::Problem),
        (
            "alter table posthaste.outbox enable row level security",
            "row security",
            Severity::Warning,
        ),
        (
            "insert into posthaste.held (destination, seq, hash, lane, topic, kind, state) \
             values ('default', 77, 0, 0, 't', 'k', 'unroutable')",
            "nobody is bound to 1 messages",
            Severity::Warning,
        ),
        (
            "insert into posthaste.outbox (topic, kind, payload, stated_at) \
             values ('t', 'k', 'x', clock_timestamp() - interval '1 hour')",
            "s old",
            Severity::Warning,
        ),
        (
            "insert into posthaste.dead_letter (side, name, reason, detail, attempts, dead_at) \
             values ('relay', 'default', 'refused', 'no', 1, clock_timestamp())",
            "1 dead letters wait",
            Severity::Notice,
        ),
        (
            "create rule swallow as on insert to posthaste.outbox do instead nothing",
            "rule swallow",
            Severity::Warning,
        ),
        (
            "drop rule if exists swallow on posthaste.outbox; \
             do $$ begin for n in 1..110 loop execute format('create table posthaste.outbox_n%s \
               partition of posthaste.outbox for values from (%s) to (%s)', n, -n, 1 - n); \
             end loop; end $$",
            "114 partitions",
            Severity::Warning,
        ),
        ("alter function posthaste.read_outbox volatile", "not stable any more", Severity::Problem),
        ("update posthaste.cluster set database_oid = 1", "posthaste adopt", Severity::Problem),
        ("delete from posthaste.cluster", "nothing says which database", Severity::Problem),
    ] {
        fixture.sql("alter table posthaste.outbox_p00001 disable trigger all").await;
        fixture.sql(make).await;
        let findings = bad(&fixture).await;
        let said = |finding: &&Finding| {
            let advice = finding.advice.as_deref().unwrap_or("");
            finding.severity == severity && format!("{} {advice}", finding.what).contains(found)
        };
        assert!(findings.iter().find(said).is_some(), "{found}: {findings:?}");
    }
}

#[tokio::test]
async fn settings_that_lose_what_was_acknowledged_are_found() {
    let Some(fixture) = Fixture::new().await else { return };
    let off = "alter database {} set synchronous_commit = off";
    fixture.sql(&off.replace("{}", &fixture.test.name)).await;
    let findings = fixture.second().findings().await;
    let found = findings.iter().any(|finding| {
        finding.severity == Severity::Warning && finding.what.starts_with("synchronous_commit")
    });
    assert!(found, "{findings:?}");
}

#[tokio::test]
async fn a_partition_of_another_role_and_another_isolation_are_found() {
    let Some(fixture) = Fixture::new().await else { return };
    let (name, role) = (&fixture.test.name, format!("{}-other", fixture.test.name));
    let make = format!(
        "create role \"{role}\"; alter table posthaste.outbox_p00002 owner to \"{role}\"; \
         alter database {name} set default_transaction_isolation = 'serializable'"
    );
    fixture.sql(&make).await;
    let said = |findings: &[Finding], found: &str| {
        let said = |it: &Finding| it.severity == Severity::Warning && it.what.contains(found);
        findings.iter().any(said)
    };
    let findings = fixture.second().findings().await;
    assert!(said(&findings, "cannot dump or migrate"), "{findings:?}");
    // Our own sessions choose for themselves; those of a pool of the service's do not.
    assert!(!said(&findings, "transactions are serializable"), "{findings:?}");
    let pool = sqlx::PgPool::connect(&fixture.test.url()).await.expect("connect");
    let findings = Postgres::new(pool).findings().await;
    assert!(said(&findings, "transactions are serializable"), "{findings:?}");
}

#[tokio::test]
async fn checkpoints_of_an_earlier_division_say_nothing_of_what_is_read() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture
        .sql(
            "insert into posthaste.outbox (topic, kind, payload, stated_at) \
             values ('t', 'k', 'x', clock_timestamp() - interval '1 hour'); \
             insert into posthaste.lanes values ('default', 2, 2); \
             insert into posthaste.checkpoint (destination, lane, of, token, through, moved_at) \
             values ('default', 0, 1, '', 0, now()), ('default', 0, 2, '', 1, now()), \
               ('default', 1, 2, '', 1, now())",
        )
        .await;
    let findings = bad(&fixture).await;
    assert!(findings.iter().all(|it| it.subject != "database.reading"), "{findings:?}");
}
