//! Seeds of both modes keep the promise, come by every place, and do the same again.

use posthaste_simulator::{Campaign, Mode, Scenario, run};

/// Enough to come by every place.
const SEEDS: u64 = 600;

#[test]
fn every_seed_keeps_the_promise_and_all_places_are_come_by() {
    let sum = Campaign::new(0, SEEDS).run();
    if let Some((seed, violation)) = sum.failed {
        panic!("{violation}\ncargo xtask prove simulate --seed {seed}");
    }
    assert_eq!(sum.differed, None);
    let missing: Vec<&str> = sum.markers.missing().iter().map(|it| it.sentence()).collect();
    assert!(missing.is_empty(), "no seed came to: {missing:#?}");
    assert!(sum.messages > SEEDS * 20, "worlds with {} messages prove little", sum.messages);
}

#[test]
fn a_seed_does_the_same_whoever_else_runs() {
    for seed in 0..20 {
        for mode in [Mode::Safety, Mode::Liveness] {
            let scenario = Scenario::new(seed, Some(mode));
            let [one, other] = [(); 2].map(|()| run(scenario.clone(), None));
            assert_eq!((one.digest, one.events), (other.digest, other.events), "seed {seed}");
        }
    }
}

#[test]
fn seeds_differ() {
    let digests = (0..20).map(|seed| run(Scenario::new(seed, None), None).digest);
    assert_eq!(digests.collect::<std::collections::BTreeSet<_>>().len(), 20);
}
