//! The proofs can fail: each rule that is broken around a seam, with the same processes and the
//! same judge, ends in a broken promise, in the count that the rule is there for.

use std::time::Duration;

use posthaste_history::Verdict;
use posthaste_proof::chance::Chance;
use posthaste_proof::node::{Death, Sabotage, Step};
use posthaste_proof::process::aborted;
use posthaste_proof::shop::{Behaviour, Order};
use posthaste_proof::truth::told;
use posthaste_proof::{Failure, Job};

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{SOON, consumers, order, place, relay, world};

/// How long nothing may move before it is clear that something is missing: longer than a lock.
const MISSING: Duration = Duration::from_secs(3);

/// Violations by what they are counted as: lost, phantom, order, double.
type Counts = [u64; 4];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settling_before_the_bus_has_confirmed_loses_messages() -> Result<(), Failure> {
    let death = Death { step: Step::Settle, after: true, number: 1 };
    let [lost, phantom, order, double] =
        broken(Sabotage::SettleBeforeConfirm, "relay", Some(death)).await?;
    assert!(lost > 0 && [phantom, order, double] == [0; 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_skips_loses_messages() -> Result<(), Failure> {
    let [lost, phantom, order, double] = broken(Sabotage::CursorThatSkips, "relay", None).await?;
    assert!(lost > 0 && [phantom, order, double] == [0; 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ignoring_the_order_of_a_key_is_seen() -> Result<(), Failure> {
    let [lost, phantom, order, double] = broken(Sabotage::IgnoreOrder, "relay", None).await?;
    assert!(order > 0 && [lost, phantom, double] == [0; 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invented_messages_are_seen() -> Result<(), Failure> {
    let [lost, phantom, order, double] = broken(Sabotage::InventMessage, "relay", None).await?;
    assert!(phantom > 0 && [lost, order, double] == [0; 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settling_deliveries_before_the_commit_loses_effects() -> Result<(), Failure> {
    let death = Death { step: Step::Commit, after: false, number: 2 };
    let [lost, phantom, order, double] =
        broken(Sabotage::AckBeforeCommit, "consumer", Some(death)).await?;
    assert!(lost > 0 && [phantom, order, double] == [0; 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_that_remembers_nothing_doubles_effects() -> Result<(), Failure> {
    let death = Death { step: Step::SettleDelivery, after: false, number: 3 };
    let [lost, phantom, _, double] =
        broken(Sabotage::CommitBeforeInbox, "consumer", Some(death)).await?;
    assert!(double > 0 && [lost, phantom] == [0; 2]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redelivery_under_another_id_is_seen() -> Result<(), Failure> {
    let [lost, phantom, _, _] = broken(Sabotage::NewIdentity, "consumer", None).await?;
    assert!(phantom > 0 && lost == 0);
    Ok(())
}

/// Runs a small campaign with a saboteur among the nodes, which may also die at some step and is
/// then replaced by an honest one. Returns what the judge counts.
async fn broken(
    sabotage: Sabotage,
    saboteur: &str,
    death: Option<Death>,
) -> Result<Counts, Failure> {
    let world = world(&Chance::from_environment(101)).await?;
    for _ in 0..3 {
        place(&world, &orders()).await?;
    }
    let mut crew = Crew::of(&world);
    crew.add("owner", [Job::Own]).await?;
    for (name, jobs) in [("consumer", consumers().to_vec()), ("relay", vec![relay()])] {
        if name != saboteur {
            crew.add(name, jobs).await?;
            continue;
        }
        let mut node = world.node(name, jobs);
        (node.sabotage, node.death) = (Some(sabotage), death);
        crew.add_node(node).await?;
    }
    if death.is_some() {
        let status = crew.member(saboteur)?.end(SOON).await?;
        assert!(aborted(status), "it was to die: {status}");
        let jobs = if saboteur == "relay" { vec![relay()] } else { consumers().to_vec() };
        crew.add(saboteur, jobs).await?;
    }
    world.rest(MISSING).await?;
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    let truth = world.truth().await?;
    let verdict = truth.report.verdict;
    let counts = truth.report.counts;
    assert_eq!(verdict, Verdict::Broken, "{sabotage:?} went unnoticed: {}", told(&truth.report));
    assert!(truth.kept().is_err(), "a broken promise is a failed proof");
    world.remove()?;
    Ok([counts.lost, counts.phantom, counts.order_violations, counts.double_effects])
}

fn orders() -> Vec<Order> {
    (0..40).map(|n| order(&format!("customer {}", n % 5), n, Behaviour::Good, "")).collect()
}
