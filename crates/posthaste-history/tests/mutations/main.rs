//! One violation is planted into a valid history at a time; each is found, as what it is, and
//! nothing else is found with it.

mod mutants;
mod sample;

use posthaste_history::{DeadLetter, Report, Verdict, Violation, check};

use crate::mutants::{MUTANTS, Mutant};
use crate::sample::sample;

/// The four counts of violations.
fn counts(report: &Report) -> [u64; 4] {
    [report.lost, report.phantom, report.order_violations, report.double_effects]
}

/// The variant's name.
fn kind(violation: &Violation) -> String {
    let shown = format!("{violation:?}");
    shown.split([' ', '{']).next().unwrap_or_default().to_owned()
}

#[test]
fn a_valid_history_is_kept_and_its_counts_agree() {
    for seed in 0..50 {
        let history = sample(seed);
        let report = check(&history);
        assert_eq!(report.verdict, Verdict::Kept, "{:?}", report.witnesses);
        assert_eq!(counts(&report), [0; 4]);
        assert_eq!(report.committed, history.committed.len() as u64);
        assert_eq!(report.rolled_back, history.rolled_back.len() as u64);
        assert_eq!((report.delivered, report.effects), (report.committed, report.committed));
        assert!(report.duplicates_absorbed > 0, "the sample has duplicates");
    }
}

#[test]
fn each_planted_violation_is_found_as_what_it_is_and_as_nothing_else() {
    for Mutant { name, plant, counts: expected, kind: expected_kind } in MUTANTS {
        for seed in 0..20 {
            let mut history = sample(seed);
            plant(&mut history);
            let report = check(&history);
            assert_eq!(report.verdict, Verdict::Broken, "{name}, seed {seed}");
            assert_eq!(counts(&report), *expected, "{name}, seed {seed}: {:?}", report.witnesses);
            let kinds: Vec<String> = report.witnesses.iter().map(kind).collect();
            assert!(kinds.iter().all(|kind| kind == expected_kind), "{name}: {kinds:?}");
            for witness in &report.witnesses {
                assert!(witness.to_string().len() < 200, "a witness is one sentence: {witness}");
            }
        }
    }
}

#[test]
fn more_copies_are_absorbed_and_counted() {
    let mut history = sample(1);
    let before = check(&history).duplicates_absorbed;
    let again = history.deliveries[0].clone();
    history.deliveries.extend([again.clone(), again]);
    let report = check(&history);
    assert_eq!((report.verdict, report.duplicates_absorbed), (Verdict::Kept, before + 2));
}

#[test]
fn a_dead_letter_accounts_for_what_did_not_take_effect() {
    let mut history = sample(2);
    let id = history.committed[3].id.clone();
    history.effects.retain(|effect| effect.id != id || effect.consumer != "shipping");
    assert_eq!(check(&history).verdict, Verdict::Broken);
    history.dead_letters.push(DeadLetter { id: id.clone(), consumer: Some("shipping".to_owned()) });
    let report = check(&history);
    assert_eq!((report.verdict, report.dead_letters), (Verdict::Kept, 1));
    assert_eq!(report.effects, report.committed - 1);

    history.deliveries.retain(|delivered| delivered.id != id);
    history.effects.retain(|effect| effect.id != id);
    assert_eq!(check(&history).verdict, Verdict::Broken, "billing has not given up on it");
    history.dead_letters[0].consumer = None;
    let report = check(&history);
    assert_eq!((report.verdict, report.dead_letters), (Verdict::Kept, 1));
}

#[test]
fn what_ran_at_the_same_time_has_no_order() {
    let mut history = sample(3);
    for message in &mut history.committed {
        (message.stated, message.committed) = (1, 2);
    }
    history.deliveries.reverse();
    assert_eq!(check(&history).verdict, Verdict::Kept);
}

#[test]
fn an_empty_history_is_kept_and_a_report_survives_json() {
    let report = check(&posthaste_history::History::default());
    assert_eq!((report.verdict, report.committed), (Verdict::Kept, 0));
    let mut history = sample(4);
    history.effects.remove(0);
    let report = check(&history);
    let json = serde_json::to_string(&report).expect("a report is plain data");
    assert!(json.contains(r#""verdict":"broken""#), "{json}");
    assert_eq!(serde_json::from_str::<Report>(&json).expect("it was written by us"), report);
    let json = serde_json::to_string(&history).expect("a history is plain data");
    assert_eq!(check(&serde_json::from_str(&json).expect("it was written by us")), check(&history));
}
