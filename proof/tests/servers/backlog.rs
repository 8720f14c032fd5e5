//! A backlog drains in bounded memory, whatever its length. `POSTHASTE_BACKLOG` sets that; the
//! README of the proofs has the command for a million.

use std::io::Write;
use std::time::Duration;

use posthaste::RelayOptions;
use posthaste_proof::chance::Chance;
use posthaste_proof::node::Relaying;
use posthaste_proof::{Failure, Job, Process};
use tokio::time::Instant;

use posthaste_proof::rig::number;
use posthaste_proof::site::{ORDERS, Site};

/// The variable that sets the length of the backlog.
const VARIABLE: &str = "POSTHASTE_BACKLOG";

/// Messages unless the variable says otherwise.
const MESSAGES: u64 = 60_000;

/// Most kilobytes of a relay, at any time.
const MOST_KB: u64 = 64 * 1024;

/// Longest time for a thousand messages.
const THOUSAND: Duration = Duration::from_millis(2500);

/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Messages that were sent, as the relay's settlements say.
const SENT: &str = "select cast(coalesce(sum(sent), 0) as bigint) from posthaste_batch";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_drains_in_bounded_memory() -> Result<(), Failure> {
    let chance = Chance::from_environment(291);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    let named = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    let messages: u64 = named.unwrap_or(MESSAGES);
    site.declare().await?;
    let insert = format!(
        "insert into posthaste.outbox (topic, kind, key, payload) \
         select 'orders', 'order.placed', 'customer ' || (n % 1000), \
         json_build_object('number', n, 'note', repeat('note ', 20))::text \
         from generate_series(1, {messages}) n"
    );
    site.database.psql(&insert).await?;
    let begun = Instant::now();
    let window = RelayOptions::default().window_messages;
    let relaying = Relaying { window, lease_ms: 5000, ..Relaying::default() };
    let relay = site.world.launch("relay", [Job::Relay(relaying)]).await?;
    let patience = THOUSAND * u32::try_from(messages / 1000 + 10)?;
    site.world.until(SENT, i64::try_from(messages)?, patience).await?;
    let took = begun.elapsed();
    let most = peak_kb(&relay)?;
    relay.finish(Duration::from_secs(30)).await?;
    let report = format!(
        "{messages} messages in {took:.1?}, {:.0} a second; the relay had at most {} MiB\n",
        (messages as f64) / took.as_secs_f64(),
        most / 1024
    );
    std::io::stdout().lock().write_all(report.as_bytes())?;
    assert!(most < MOST_KB, "the relay had {most} kB at some time");
    assert_eq!(number(&site.world, SENT).await?, i64::try_from(messages)?, "each once");
    until_depth(&site, messages).await?;
    site.world.remove()
}

/// Waits until the queue holds exactly these, and sees that it stays so.
async fn until_depth(site: &Site, messages: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let depth = site.depth(ORDERS).await.unwrap_or(0);
        if depth == messages {
            return Ok(());
        }
        if depth > messages || Instant::now() > deadline {
            return Err(format!("the queue holds {depth}, not {messages}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The most memory that a process ever had, in kilobytes.
fn peak_kb(process: &Process) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|rest| rest.trim().strip_suffix("kB")).ok_or("no VmHWM")?;
    Ok(kb.trim().parse()?)
}
