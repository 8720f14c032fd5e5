//! One violation is planted into a valid history at a time; each is found as what it is, and
//! nothing else is found with it.

mod run;
mod sample;

use posthaste_history::{Floors, Report, Verdict, check};

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
