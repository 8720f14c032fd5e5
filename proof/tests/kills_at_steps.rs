//! A process that ends itself before and after every step that makes something durable, the first
//! time that it comes to it and a later one; then it is started again and everything has to come
//! to rest with the promise kept.

use std::time::Duration;

use posthaste::core::dead_letter::Origin;
use posthaste::core::lease::{Claim, Leases};
use posthaste_proof::chance::Chance;
use posthaste_proof::node::{Consuming, Death, Step, Writing};
use posthaste_proof::process::aborted;
use posthaste_proof::shop::{Behaviour, Order, TILL};
use posthaste_proof::{Failure, Job, World};
use tokio::time::Instant;

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{PATIENCE, SOON, consumers, order, place, place_due, relay, world};

/// Rejected orders, and as many that fail at first, in each round.
const BAD: usize = 4;

/// At which of its calls a node dies. A checkpoint is loaded once by whoever leads.
fn numbers(step: Step) -> &'static [u64] {
    if step == Step::Load { &[1] } else { &[1, 3] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_may_die_at_every_step() -> Result<(), Failure> {
    let steps = [Step::Acquire, Step::Load, Step::Read, Step::Ready, Step::Publish, Step::Settle];
    die_at_all("relay", vec![relay()], &steps, 91).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_ends_may_die_while_it_gives_its_lease_back() -> Result<(), Failure> {
    let world = world(&Chance::from_environment(92)).await?;
    let mut crew = Crew::of(&world);
    crew.add("owner", [Job::Own]).await?;
    crew.add("consumer", consumers()).await?;
    for after in [false, true] {
        place(&world, &orders()).await?;
        let mut node = world.node("relay", [relay()]);
        node.death = Some(Death { step: Step::Release, after, number: 1 });
        let mut dying = world.start(node).await?;
        world.rest(SOON).await?;
        dying.ask_to_end()?;
        let status = dying.end(SOON).await?;
        assert!(aborted(status), "it was to die: {status}");
    }
    crew.add("relay", [relay()]).await?;
    judged(&world, &mut crew, 2 * BAD).await?;
    world.remove()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_may_die_at_every_step() -> Result<(), Failure> {
    let steps = [
        Step::Receive,
        Step::Begin,
        Step::Accept,
        Step::Commit,
        Step::BeginAttempt,
        Step::RecordFailure,
        Step::Bury,
        Step::SettleDelivery,
    ];
    // More attempts than deaths: an attempt that a process dies of counts, whoever is to blame.
    let settings = Consuming { batch: 4, attempts: 100, ..Consuming::default() };
    let jobs = vec![Job::Till(settings.clone()), Job::Books(settings)];
    die_at_all("consumer", jobs, &steps, 93).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_may_die_at_every_step() -> Result<(), Failure> {
    let steps = [Step::Begin, Step::Enqueue, Step::Commit];
    let writing = Writing { transactions: 12, ..Writing::default() };
    die_at_all("writer", vec![Job::Write(writing)], &steps, 94).await
}

/// One world for all deaths of one kind of node: each death finds work, dies of it, and the next
/// one goes on with what it left. At the end a healthy one finishes.
async fn die_at_all(name: &str, jobs: Vec<Job>, steps: &[Step], seed: u64) -> Result<(), Failure> {
    let world = world(&Chance::from_environment(seed)).await?;
    let mut crew = Crew::of(&world);
    crew.add("owner", [Job::Own]).await?;
    for other in ["relay", "consumer"] {
        if other != name {
            crew.add(other, jobs_of(other)).await?;
        }
    }
    let mut bad = 0;
    for step in steps {
        for &number in numbers(*step) {
            for after in [false, true] {
                let death = Death { step: *step, after, number };
                place(&world, &orders()).await?;
                bad += BAD;
                // So that there is something to read from the side table, again and again.
                for millis in [40, 150, 300, 450, 600] {
                    place_due(&world, Duration::from_millis(millis)).await?;
                }
                if *step == Step::Acquire {
                    lead_for_a_while(&world).await?;
                }
                let mut node = world.node(name, jobs.clone());
                node.death = Some(death);
                let mut dying = world.start(node).await?;
                let status = dying.end(SOON).await.map_err(|e| format!("{death:?}: {e}"))?;
                assert!(aborted(status), "it was to die at {death:?}: {status}");
            }
        }
    }
    crew.add(name, jobs).await?;
    judged(&world, &mut crew, bad).await?;
    world.remove()
}

/// Takes the lease, so that a relay has to claim it more than once.
async fn lead_for_a_while(world: &World) -> Result<(), Failure> {
    let deadline = Instant::now() + SOON;
    let while_it_starts = Duration::from_secs(2);
    loop {
        let claim = world.database.acquire("relay/default/0", "the proof", while_it_starts).await?;
        match claim {
            Claim::Granted(_) => return Ok(()),
            Claim::Held { by, .. } if Instant::now() > deadline => {
                return Err(format!("{by} does not let go of the lease").into());
            }
            Claim::Held { remaining, .. } => tokio::time::sleep(remaining).await,
        }
    }
}

/// Orders of a few customers. Some fail at first and some are rejected, so that consumers count
/// attempts, note failures and bury.
fn orders() -> Vec<Order> {
    let customer = |n: i64| format!("customer {}", n % 4);
    let mut orders: Vec<_> = (0..11).map(|n| order(&customer(n), n, Behaviour::Good, "")).collect();
    for n in 0..BAD {
        orders.insert(4, order(&format!("bad {n}"), 1, Behaviour::Reject, ""));
        orders.insert(9, order(&format!("slow {n}"), 1, Behaviour::FailTwice, ""));
    }
    orders
}

fn jobs_of(name: &str) -> Vec<Job> {
    match name {
        "relay" => vec![relay()],
        _ => consumers().to_vec(),
    }
}

/// Everything comes to rest; the bad orders, and no others, are dead letters.
async fn judged(world: &World, crew: &mut Crew<'_>, bad: usize) -> Result<(), Failure> {
    world.rest(PATIENCE).await?;
    crew.finish_all(&["relay", "consumer", "writer", "owner"]).await?;
    let truth = world.truth().await?;
    truth.kept()?;
    for letter in &truth.dead {
        let order: Order = serde_json::from_slice(letter.payload.as_bytes())?;
        assert_eq!(order.behaviour, Behaviour::Reject, "an innocent was buried: {letter:?}");
        assert_eq!(letter.origin, Origin::Consumer(TILL.to_owned()), "{letter:?}");
    }
    assert_eq!(truth.dead.len(), bad, "each bad order is buried once");
    Ok(())
}
