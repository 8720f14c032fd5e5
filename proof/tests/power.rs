//! Power cuts, by the program that makes them: it needs a namespace of its own for its disks.

use std::process::Command;

use posthaste_proof::Failure;
use posthaste_proof::campaign::Campaign;
use posthaste_servers::skip;
use serde_json::Value;

/// Runs a short campaign in another process; nothing, after saying so, if it cannot be run here.
async fn cut(campaign: Campaign, cycles: u64, options: &[&str]) -> Result<Option<Value>, Failure> {
    if let Some(reason) = campaign.missing() {
        skip(&reason);
        return Ok(None);
    }
    let mut prove = Command::new(env!("CARGO_BIN_EXE_posthaste-prove"));
    prove.args([campaign.name(), "--json", "--cycles", &cycles.to_string()]).args(options);
    let output = tokio::task::spawn_blocking(move || prove.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().ok_or_else(|| format!("{}: {told}", output.status))?;
    Ok(Some(serde_json::from_str(last)?))
}

async fn kept(campaign: Campaign, cycles: u64) -> Result<(), Failure> {
    let Some(outcome) = cut(campaign, cycles, &[]).await? else { return Ok(()) };
    assert_eq!(outcome["verdict"], "kept", "{outcome}");
    assert_eq!(outcome["cycles"], cycles, "{outcome}");
    Ok(())
}

/// A disk that says that it has what it has not: whoever trusts it loses something.
async fn broken(campaign: Campaign, cycles: u64) -> Result<(), Failure> {
    let Some(outcome) = cut(campaign, cycles, &["--lying-disk"]).await? else { return Ok(()) };
    assert_eq!(outcome["verdict"], "broken", "{outcome}");
    let detail = outcome["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("committed, "), "the judge has to say so: {detail}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sqlite_file_survives_power_cuts() -> Result<(), Failure> {
    kept(Campaign::PowerSqlite, 15).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_file_survives_power_cuts() -> Result<(), Failure> {
    kept(Campaign::PowerBus, 15).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_server_survives_power_cuts() -> Result<(), Failure> {
    kept(Campaign::PowerPostgres, 4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sqlite_file_on_a_lying_disk_is_noticed() -> Result<(), Failure> {
    broken(Campaign::PowerSqlite, 4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_file_on_a_lying_disk_is_noticed() -> Result<(), Failure> {
    broken(Campaign::PowerBus, 4).await
}
