//! One violation is planted into a valid history at a time; each is found as what it is, and
//! nothing else is found with it.

mod edit;
mod files;
mod floors;
mod mutants;
mod run;
mod sample;

use std::collections::BTreeSet;

use posthaste_history::{Counts, Floors, Invariant, Report, Verdict, check};

use crate::mutants::Mutant;
use crate::sample::sample;

/// What a report says is broken.
fn told(report: &Report) -> Vec<String> {
    report.witnesses().map(|witness| format!("{}: {witness}", witness.invariant)).collect()
}

#[test]
fn a_valid_history_is_kept_and_every_invariant_is_looked_at() {
    for seed in 0..50 {
        let report = check(&sample(seed), &Floors::default());
        assert_eq!(told(&report), [""; 0], "seed {seed}");
        assert_eq!(report.verdict, Verdict::Kept);
        for finding in &report.invariants {
            assert!(finding.looked_at > 0, "{} is not looked at", finding.label);
        }
    }
}

#[test]
fn each_planted_violation_is_found_as_what_it_is_and_as_nothing_else() {
    let mut wrong = Vec::new();
    for seed in 0..4 {
        let valid = sample(seed);
        for Mutant { name, invariant, plant } in mutants::all() {
            let mut history = valid.clone();
            plant(&mut history);
            let report = check(&history, &Floors::default());
            let found: Vec<Invariant> = report.broken().map(|one| one.invariant).collect();
            if found != [*invariant] || report.verdict != Verdict::Broken {
                wrong.push(format!("{name}, seed {seed}, {invariant:?}: {:#?}", told(&report)));
            }
            for witness in report.witnesses() {
                assert!(witness.what.len() < 200, "a witness is one sentence: {witness}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_invariant_has_mutants_and_no_two_have_one_name() {
    let names: BTreeSet<&str> = mutants::all().map(|mutant| mutant.name).collect();
    assert_eq!(names.len(), mutants::all().count());
    for invariant in Invariant::ALL {
        let number = mutants::all().filter(|mutant| mutant.invariant == *invariant).count();
        assert!(number >= 2, "{invariant:?} has {number}");
    }
}

#[test]
fn copies_are_absorbed_and_counted() {
    let report = check(&sample(1), &Floors::default());
    // Two messages at both consumers after a relay, one after a consumer, one after its window.
    let copies = 4 + 1 + 1;
    // What comes again because it was asked for: twice each of five messages, and one repost.
    let asked = 2 * 5 + 1;
    let Counts { repeated, duplicates_absorbed, .. } = report.counts;
    assert_eq!((repeated, duplicates_absorbed), (copies + asked, copies + asked));
}
