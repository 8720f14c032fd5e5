//! Relays and consumers that are replaced one after the other under load, as a rollout does it:
//! nothing is sent twice, no handler runs again.

use std::collections::BTreeMap;

use posthaste_history::Event;
use posthaste_proof::chance::Chance;
use posthaste_proof::node::Relaying;
use posthaste_proof::{Failure, Job};

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{SOON, consumers};
use posthaste_proof::site::{Site, moment};

/// How often each node is replaced.
const ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_makes_no_copies() -> Result<(), Failure> {
    let mut chance = Chance::from_environment(231);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    site.declare().await?;
    let mut crew = Crew::of(&site.world);
    // Slow to believe that another one is gone: a busy machine must not look like a fault.
    let patient = Relaying { lease_ms: 5000, lanes: Some(4), ..Relaying::default() };
    for number in 1..=2 {
        crew.add(&format!("consumer {number}"), consumers()).await?;
        crew.add(&format!("relay {number}"), [Job::Relay(patient.clone())]).await?;
    }
    site.add_writers(&mut crew).await?;
    for _ in 0..ROUNDS {
        for name in ["relay 1", "consumer 1", "relay 2", "consumer 2"] {
            moment(&mut chance, 400).await;
            let process = crew.member(name)?;
            process.ask_to_end()?;
            let status = process.end(SOON).await?;
            assert!(status.success(), "the {name} ended with {status}");
            crew.restart(name).await?;
        }
        site.goes_on(20).await?;
    }
    let truth = site.judged(crew, 200).await?;
    assert_eq!(truth.copies, 0, "an orderly end makes no copies");
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    let mut entered: BTreeMap<String, usize> = BTreeMap::new();
    for line in site.world.evidence.lines()? {
        if let Event::Handling(handling) = line.event {
            *entered.entry(handling.id).or_default() += 1;
        }
    }
    let twice: Vec<_> = entered.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "handlers ran again after an orderly end: {twice:?}");
    site.world.remove()
}
