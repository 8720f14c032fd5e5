//! Deliberate mistakes are noticed. Those that take many seeds are left to `cargo xtask prove
//! sabotage`, which tries all of them.

use posthaste_simulator::{Campaign, Mode, Sabotage, Scenario, shrink};

/// A budget that a build without optimisation gets through quickly.
const QUICK: u64 = 400;

#[test]
fn each_mistake_that_shows_soon_is_noticed_within_its_budget() {
    let quick = Sabotage::ALL.iter().copied().filter(|sabotage| sabotage.budget() <= QUICK);
    let mut tried = 0;
    for sabotage in quick {
        let campaign = Campaign { sabotage: Some(sabotage), ..Campaign::new(0, sabotage.budget()) };
        let sum = campaign.run();
        assert!(sum.failed.is_some(), "{sabotage} is not noticed in {} seeds", sum.seeds);
        tried += 1;
    }
    assert!(tried >= 18, "only {tried} mistakes show soon");
}

#[test]
fn names_of_mistakes_read_back() {
    for &sabotage in Sabotage::ALL {
        assert_eq!(sabotage.name().parse(), Ok(sabotage));
    }
    assert!("nonsense".parse::<Sabotage>().is_err());
}

#[test]
fn a_failing_world_is_made_small() {
    let sabotage = Some(Sabotage::SettledBeforeConfirm);
    let sum = Campaign { sabotage, ..Campaign::new(0, 100) }.run();
    let (seed, violation) = sum.failed.expect("it is noticed");
    let whole = Scenario::new(seed, None);
    let (small, verdict) = shrink(whole.clone(), sabotage).expect("it fails again");
    assert_eq!(verdict.violation.map(|it| it.what), Some(violation.what));
    assert!(small.size() < whole.size(), "{}", small.size());
    assert!(!verdict.notes.is_empty());
    assert!(shrink(Scenario::new(0, Some(Mode::Liveness)), None).is_none());
}
