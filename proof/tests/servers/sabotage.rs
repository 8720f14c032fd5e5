//! The proofs on servers can fail: a rule that is broken around a seam ends in a broken promise, in
//! the count that the rule is there for.

use posthaste_history::{Report, Verdict};
use posthaste_proof::chance::Chance;
use posthaste_proof::node::Sabotage;
use posthaste_proof::truth::told;
use posthaste_proof::{Failure, Job};
use std::time::Duration;

use super::site::Site;
use crate::crew::Crew;
use crate::rig::{BOOKED, SOON, consumers};

/// How long nothing may move before it is clear that something is missing.
const MISSING: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_skips_is_noticed_on_servers() -> Result<(), Failure> {
    let Some(report) = broken(Sabotage::CursorThatSkips, "relay").await? else { return Ok(()) };
    assert!(report.lost > 0 && report.phantom + report.double_effects == 0, "{}", told(&report));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_order_is_noticed_on_servers() -> Result<(), Failure> {
    let Some(report) = broken(Sabotage::IgnoreOrder, "relay").await? else { return Ok(()) };
    let Report { lost, order_violations, double_effects, .. } = report;
    assert!(order_violations > 0 && lost + double_effects == 0, "{}", told(&report));
    Ok(())
}

/// Relays that settle too early and are killed then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settling_before_the_confirm_is_noticed_on_servers() -> Result<(), Failure> {
    let Some(report) = broken(Sabotage::SettleBeforeConfirm, "relay").await? else {
        return Ok(());
    };
    assert!(report.lost > 0 && report.phantom + report.double_effects == 0, "{}", told(&report));
    Ok(())
}

/// Consumers that are killed between commit and settlement, and do not remember.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_that_remembers_nothing_is_noticed_on_servers() -> Result<(), Failure> {
    let Some(report) = broken(Sabotage::CommitBeforeInbox, "consumer").await? else {
        return Ok(());
    };
    assert!(report.double_effects > 0 && report.lost + report.phantom == 0, "{}", told(&report));
    Ok(())
}

/// A campaign in which some nodes are saboteurs, and are killed now and then.
async fn broken(sabotage: Sabotage, saboteur: &str) -> Result<Option<Report>, Failure> {
    let chance = Chance::from_environment(271);
    let Some(site) = Site::shared(&chance).await? else { return Ok(None) };
    site.declare().await?;
    let mut crew = Crew::of(&site.world);
    for (name, jobs) in [("consumer", consumers().to_vec()), ("relay", vec![crate::rig::relay()])] {
        let mut node = site.world.node(name, jobs);
        node.sabotage = (name == saboteur).then_some(sabotage);
        crew.add_node(node).await?;
    }
    crew.add("writer", [Job::clone(&super::site::writer())]).await?;
    for kill in 1..=4 {
        site.world.until(BOOKED, 40 * kill, SOON).await?;
        crew.kill(saboteur)?;
        crew.restart(saboteur).await?;
    }
    site.end_writers(&mut crew).await?;
    site.world.rest(MISSING).await?;
    crew.finish_all(&["relay", "consumer"]).await?;
    let truth = site.world.truth().await?;
    assert_eq!(truth.report.verdict, Verdict::Broken, "{sabotage:?} went unnoticed");
    assert!(truth.kept().is_err(), "a broken promise is a failed proof");
    site.world.remove()?;
    Ok(Some(truth.report))
}
