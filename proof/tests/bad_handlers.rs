//! Handlers that fail, panic, end the process or never return: each attempt is counted durably,
//! after the last one the message is a dead letter with its reason, and those that were handled
//! together with it take effect once.

use posthaste::core::dead_letter::{DeadLetter, Origin};
use posthaste_proof::chance::Chance;
use posthaste_proof::node::Consuming;
use posthaste_proof::process::aborted;
use posthaste_proof::shop::{Behaviour, Order, TILL};
use posthaste_proof::truth::Truth;
use posthaste_proof::{Failure, Job, World};

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{order, place, relay, world};

/// How often a message is tried.
const ATTEMPTS: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_fail_are_buried_after_their_attempts() -> Result<(), Failure> {
    let truth = campaign(61, &[Behaviour::Fail, Behaviour::FailTwice]).await?;
    reasons(&truth, Behaviour::Fail, "exhausted", ATTEMPTS, "the drawer is stuck");
    assert_eq!(truth.dead.len(), 4, "only those that always fail: {:?}", truth.dead);
    assert!(truth.dead.iter().all(|letter| letter.history.len() >= 2), "{:?}", truth.dead);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_are_rejected_are_buried_at_once() -> Result<(), Failure> {
    let truth = campaign(62, &[Behaviour::Reject]).await?;
    reasons(&truth, Behaviour::Reject, "rejected", 1, "not for this till");
    assert_eq!(truth.dead.len(), 4, "{:?}", truth.dead);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_the_failure_of_its_message_alone() -> Result<(), Failure> {
    let truth = campaign(63, &[Behaviour::Panic]).await?;
    reasons(&truth, Behaviour::Panic, "exhausted", ATTEMPTS, "the drawer fell out");
    assert_eq!(truth.dead.len(), 4, "{:?}", truth.dead);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_never_returns_is_ended_and_counted() -> Result<(), Failure> {
    let truth = campaign(64, &[Behaviour::Hang]).await?;
    reasons(&truth, Behaviour::Hang, "exhausted", ATTEMPTS, "took longer than");
    assert_eq!(truth.dead.len(), 4, "{:?}", truth.dead);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_ends_the_process_is_found_and_buried_and_no_other() -> Result<(), Failure> {
    let truth = campaign(65, &[Behaviour::Abort, Behaviour::AbortOnce]).await?;
    reasons(&truth, Behaviour::Abort, "exhausted", ATTEMPTS, "process ended");
    assert_eq!(truth.dead.len(), 4, "only those that always abort: {:?}", truth.dead);
    Ok(())
}

/// Sends good orders of ten customers and, in between, four of each bad behaviour; revives the
/// consumer whenever it ends.
async fn campaign(seed: u64, bad: &[Behaviour]) -> Result<Truth, Failure> {
    let mut chance = Chance::from_environment(seed);
    let world = world(&chance).await?;
    let mut orders: Vec<Order> = (0..60).map(good).collect();
    for n in 0..4 {
        for behaviour in bad {
            let place = usize::try_from(chance.below(orders.len() as u64))?;
            orders.insert(place, order(&format!("customer {n}"), 1000 + n, *behaviour, ""));
        }
    }
    place(&world, &orders).await?;
    let mut crew = Crew::of(&world);
    let settings = Consuming { attempts: ATTEMPTS, handler_timeout_ms: 250, batch: 16 };
    crew.add("owner", [Job::Own]).await?;
    crew.add("consumer", [Job::Till(settings.clone()), Job::Books(settings)]).await?;
    crew.add("relay", [relay()]).await?;
    let ended = crew.rest_reviving().await?;
    crew.finish_all(&["relay", "consumer", "owner"]).await?;
    let fatal = bad.contains(&Behaviour::Abort);
    assert_eq!(!ended.is_empty(), fatal, "{ended:?}");
    assert!(ended.iter().all(|(name, how)| name == "consumer" && aborted(*how)), "{ended:?}");
    let truth = world.truth().await?;
    truth.kept()?;
    entries_fit_attempts(&world, &truth)?;
    world.remove()?;
    Ok(truth)
}

fn good(n: i64) -> Order {
    order(&format!("customer {}", n % 10), n, Behaviour::Good, "")
}

/// Every dead letter is one of the behaviour, of the till, whole, with its reason and its count.
fn reasons(truth: &Truth, behaviour: Behaviour, reason: &str, attempts: u32, says: &str) {
    for letter in &truth.dead {
        let DeadLetter { origin, payload, .. } = letter;
        let order: Order = serde_json::from_slice(payload.as_bytes()).expect("an order, whole");
        assert_eq!(order.behaviour, behaviour, "an innocent was buried: {letter:?}");
        assert_eq!(*origin, Origin::Consumer(TILL.to_owned()));
        assert_eq!((letter.reason.as_str(), letter.attempts), (reason, attempts), "{letter:?}");
        assert!(letter.detail.contains(says), "{letter:?}");
    }
}

/// The handler was entered once for each counted attempt, and perhaps once more in the batch that
/// the message came in with, which is rolled back without counting.
fn entries_fit_attempts(world: &World, truth: &Truth) -> Result<(), Failure> {
    for letter in &truth.dead {
        let entered = u32::try_from(world.evidence.attempts(&letter.id)?)?;
        let expected = letter.attempts..=letter.attempts + 1;
        assert!(expected.contains(&entered), "entered {entered} times: {letter:?}");
    }
    Ok(())
}
