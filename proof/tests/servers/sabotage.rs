//! The proofs on servers can fail: a rule that is broken around a seam ends in a broken promise, in
//! the count that the rule is there for.

use std::time::Duration;

use posthaste::Outbox;
use posthaste_history::{Counts, Report, Verdict};
use posthaste_proof::Failure;
use posthaste_proof::chance::Chance;
use posthaste_proof::node::{Death, Sabotage, Step};
use posthaste_proof::process::aborted;
use posthaste_proof::shop::Behaviour;
use posthaste_proof::truth::told;
use posthaste_servers::Direction;
use sqlx::{Connection, Executor, PgConnection};

use super::lines_cut::Lines;
use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{BOOKED, PATIENCE, SOON, consumers, order, relay, state};
use posthaste_proof::site::{Site, writer};

/// How long nothing may move before it is clear that something is missing.
const MISSING: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_skips_is_noticed_on_servers() -> Result<(), Failure> {
    let Some(report) = broken(Sabotage::CursorThatSkips, "relay", None).await? else {
        return Ok(());
    };
    assert!(is_only(&report, |counts| counts.lost), "{}", told(&report));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_order_is_noticed_on_servers() -> Result<(), Failure> {
    let Some(report) = broken(Sabotage::IgnoreOrder, "relay", None).await? else { return Ok(()) };
    let Counts { lost, order_violations, double_effects, .. } = report.counts;
    assert!(order_violations > 0 && lost + double_effects == 0, "{}", told(&report));
    Ok(())
}

/// A relay that settles too early, and dies when it has done so some times: what it says that it
/// has sent waits in its memory, one call after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settling_before_the_confirm_is_noticed_on_servers() -> Result<(), Failure> {
    let death = Death { step: Step::Settle, after: true, number: 5 };
    let Some(report) = broken(Sabotage::SettleBeforeConfirm, "relay", Some(death)).await? else {
        return Ok(());
    };
    assert!(is_only(&report, |counts| counts.lost), "{}", told(&report));
    Ok(())
}

/// A consumer that dies between commit and settlement, and does not remember.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_that_remembers_nothing_is_noticed_on_servers() -> Result<(), Failure> {
    let death = Death { step: Step::SettleDelivery, after: false, number: 3 };
    let Some(report) = broken(Sabotage::CommitBeforeInbox, "consumer", Some(death)).await? else {
        return Ok(());
    };
    assert!(is_only(&report, |counts| counts.double_effects), "{}", told(&report));
    Ok(())
}

/// Whether something was broken, and nothing was counted among what it must not have broken: lost,
/// invented or doubled. The order follows from copies and losses, and is not asked.
fn is_only(report: &Report, count: impl Fn(&Counts) -> u64) -> bool {
    let counts = &report.counts;
    let all = counts.lost + counts.phantom + counts.double_effects;
    count(counts) > 0 && count(counts) == all
}

/// A campaign in which one node is a saboteur. It may also die at some step, where its mistake
/// shows, and an honest one takes its place.
async fn broken(
    sabotage: Sabotage,
    saboteur: &str,
    death: Option<Death>,
) -> Result<Option<Report>, Failure> {
    let chance = Chance::from_environment(271);
    let Some(site) = Site::shared(&chance).await? else { return Ok(None) };
    site.declare().await?;
    let mut crew = Crew::of(&site.world);
    let jobs = |name| if name == "relay" { vec![relay()] } else { consumers().to_vec() };
    for name in ["consumer", "relay"] {
        let mut node = site.world.node(name, jobs(name));
        if name == saboteur {
            (node.sabotage, node.death) = (Some(sabotage), death);
        }
        crew.add_node(node).await?;
    }
    crew.add("writer", [writer()]).await?;
    if death.is_some() {
        let status = crew.member(saboteur)?.end(SOON).await?;
        assert!(aborted(status), "it was to die: {status}");
        crew.add(saboteur, jobs(saboteur)).await?;
    }
    site.world.until(BOOKED, 100, SOON).await?;
    site.end_writers(&mut crew).await?;
    // A machine that is busy must not make what is late look lost.
    site.world.rest(PATIENCE).await?;
    crew.finish_all(&["relay", "consumer"]).await?;
    let truth = site.world.truth().await?;
    assert_eq!(truth.report.verdict, Verdict::Broken, "{sabotage:?} went unnoticed");
    assert!(truth.kept().is_err(), "a broken promise is a failed proof");
    site.world.remove()?;
    Ok(Some(truth.report))
}

/// A database that takes settlements under any token, and a relay that is heard too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_its_fence_is_noticed() -> Result<(), Failure> {
    let chance = Chance::from_environment(272);
    let Some(lines) = Lines::new(&chance).await? else { return Ok(()) };
    for rule in ["l.token = lease_token", "l.settlement < number"] {
        lines.site.weaken("settle", rule, "true").await?;
    }
    let mut crew = lines.silenced(&[Direction::ToServer]).await?;
    lines.site.end_writers(&mut crew).await?;
    lines.site.world.rest(MISSING).await?;
    crew.finish_all(&["relay", "consumer"]).await?;
    let judgement = lines.site.world.truth().await?.kept();
    let broken = judgement.err().ok_or("a fence that is missing went unnoticed")?.to_string();
    assert!(broken.contains("old lease") || broken.contains("broken:"), "{broken}");
    lines.site.world.remove()
}

/// A database whose relay does not look back for what committed late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_looks_back_is_noticed() -> Result<(), Failure> {
    let chance = Chance::from_environment(273);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    site.weaken("read_outbox", "IF late_after < late_through THEN", "IF false THEN").await?;
    let mut late = PgConnection::connect(&site.world.database_url).await?;
    late.execute("begin").await?;
    let outbox = Outbox::new(site.world.database.clone());
    state(&outbox, &mut late, &[order("ann", 1, Behaviour::Good, "late")]).await?;
    let mut crew = site.crew(1).await?;
    site.goes_on(50).await?;
    late.execute("commit").await?;
    site.goes_on(20).await?;
    site.end_writers(&mut crew).await?;
    site.world.rest(MISSING).await?;
    crew.finish_all(&["relay", "consumer"]).await?;
    let report = site.world.truth().await?.report;
    assert!(is_only(&report, |counts| counts.lost), "{}", told(&report));
    site.world.remove()
}

/// Lanes that begin anew instead of where the earlier ones had come to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_inherit_nothing_are_noticed() -> Result<(), Failure> {
    let chance = Chance::from_environment(274);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    let mut crew = site.crew(1).await?;
    site.goes_on(60).await?;
    let divided = "update posthaste.lanes set now = 3, wanted = 3; \
         update posthaste.held set lane = hash % 3";
    site.database.psql(divided).await?;
    site.goes_on(40).await?;
    site.end_writers(&mut crew).await?;
    site.world.rest(MISSING).await?;
    crew.finish_all(&["relay", "consumer"]).await?;
    let copies = site.world.truth().await?.copies;
    assert!(copies >= 60, "all of it was to be sent again: {copies} copies");
    site.world.remove()
}
