//! The reading rule of [`posthaste_core::frontier`] against a model of a database with concurrent
//! writers, and the mutants of the rule, each of which the same properties catch.

mod heirs;
mod history;
mod model;
mod mutants;
mod reader;
mod rule;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::heirs::{Heir, Slips};
use crate::history::{History, histories, moving_histories, one_writer_histories};
use crate::reader::{Markers, Violation, run};
use crate::rule::{Exact, Rule};

const CASES: u32 = 3_000;

fn runner(seed: u8) -> TestRunner {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    TestRunner::new_with_rng(config, rng)
}

fn kept<R: Rule>(strategy: impl Strategy<Value = History>) {
    let outcome = runner(1).run(&strategy, |history| {
        run::<R>(&history, &mut Markers::default())
            .map_err(|violation| TestCaseError::fail(format!("{violation:?}")))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn every_committed_row_is_sent_once_and_in_order() {
    kept::<Exact>(histories(1));
}

#[test]
fn a_cached_sequence_costs_order_but_no_row() {
    kept::<Exact>(histories(4));
}

#[test]
fn one_writer_needs_no_snapshot() {
    kept::<Exact>(one_writer_histories());
}

#[test]
fn lanes_and_clusters_change_at_any_moment() {
    kept::<Exact>(moving_histories());
}

/// The properties say nothing if the histories never come to the difficult places.
#[test]
fn the_histories_reach_every_corner_of_the_rule() {
    let seen = markers(histories(1));
    for (name, count) in seen.all() {
        assert!(count >= 20, "{name} happened only {count} times in 1500 histories");
    }
    let seen = markers(moving_histories());
    for (name, count) in seen.all().into_iter().chain(seen.moves()) {
        assert!(count >= 20, "{name} happened only {count} times in 1500 moving histories");
    }
}

fn markers(histories: impl Strategy<Value = History>) -> Markers {
    let mut seen = Markers::default();
    let mut runner = runner(2);
    for _ in 0..1_500 {
        let history = histories.new_tree(&mut runner).expect("a history").current();
        run::<Exact>(&history, &mut seen).expect("the rule holds");
    }
    seen
}

/// Runs a mutant of adoption or inheritance, as [`caught`] does.
fn caught_moving<S: Slips>(expected: Violation, also: &[Violation]) {
    caught_in::<Heir<S>>(moving_histories(), expected, also);
}

/// Runs a mutant until it breaks the property that it is expected to break; on the way there it may
/// break one of `also`, but no other.
fn caught<R: Rule>(expected: Violation, also: &[Violation]) {
    caught_in::<R>(histories(1), expected, also);
}

fn caught_in<R: Rule>(
    histories: impl Strategy<Value = History>,
    expected: Violation,
    also: &[Violation],
) {
    let mut runner = runner(3);
    for case in 1..=CASES {
        let history = histories.new_tree(&mut runner).expect("a history").current();
        let Err(violation) = run::<R>(&history, &mut Markers::default()) else { continue };
        if violation.kind == expected {
            return;
        }
        assert!(also.contains(&violation.kind), "case {case} broke {violation:?}");
    }
    panic!("{CASES} histories did not tell this mutant from the rule");
}

#[test]
fn a_mutant_that_leaves_nothing_out_keeps_every_property() {
    kept::<mutants::Unchanged>(histories(1));
}

#[test]
fn an_id_cursor_loses_rows() {
    caught::<mutants::IdCursor>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn an_id_cursor_that_waits_for_the_oldest_transaction_still_loses_rows() {
    caught::<mutants::IdCursorBelowXmin>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn a_cursor_of_transaction_ids_breaks_the_order_of_a_key() {
    caught::<mutants::TransactionCursor>(Violation::OutOfOrder, &[]);
}

#[test]
fn a_snapshot_without_a_frontier_loses_what_the_limit_cut() {
    caught::<mutants::SnapshotAlone>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn late_rows_under_a_limit_of_their_own_are_lost() {
    caught::<mutants::LateLimitOfItsOwn>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn new_rows_ahead_of_late_ones_break_the_order_of_a_key() {
    caught::<mutants::NewBeforeLate>(Violation::OutOfOrder, &[]);
}

#[test]
fn two_snapshots_in_one_reading_lose_rows_if_the_second_is_kept() {
    caught::<mutants::SecondSnapshotKept>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn two_snapshots_in_one_reading_double_rows_if_the_first_is_kept() {
    caught::<mutants::FirstSnapshotKept>(Violation::Copy, &[Violation::OutOfOrder]);
}

#[test]
fn late_rows_that_were_cut_are_lost_if_the_snapshot_moves_on() {
    caught::<mutants::CutForgotten>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn late_rows_finished_against_another_snapshot_lose_rows() {
    caught::<mutants::FinishedAgainstAnother>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn a_catching_up_that_is_not_stored_doubles_rows() {
    caught::<mutants::CatchingUpNotStored>(Violation::Copy, &[Violation::OutOfOrder]);
}

#[test]
fn a_frontier_that_follows_the_last_row_falls() {
    caught::<mutants::FrontierFollowsLastRow>(Violation::FrontierFell, &[]);
}

#[test]
fn a_moving_mutant_that_leaves_nothing_out_keeps_every_property() {
    kept::<Heir<heirs::Nothing>>(moving_histories());
}

#[test]
fn an_adoption_without_a_floor_doubles_rows() {
    caught_moving::<heirs::FloorIgnored>(Violation::Copy, &[]);
}

#[test]
fn an_adoption_that_reads_past_its_floor_loses_rows() {
    caught_moving::<heirs::NewWithoutEnd>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn an_adoption_that_asks_a_snapshot_loses_rows() {
    caught_moving::<heirs::SnapshotAsked>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn an_adoption_that_forgets_what_was_caught_up_with_doubles_rows() {
    caught_moving::<heirs::CatchingUpForgotten>(Violation::Copy, &[]);
}

#[test]
fn an_adoption_that_begins_again_doubles_rows() {
    caught_moving::<heirs::AdoptionBegunAgain>(Violation::Copy, &[]);
}

#[test]
fn an_adoption_that_forgets_the_old_lanes_doubles_rows() {
    caught_moving::<heirs::AdoptedWithoutOldLanes>(Violation::Copy, &[]);
}

#[test]
fn old_lanes_that_are_not_asked_double_rows() {
    caught_moving::<heirs::OldLanesIgnored>(Violation::Copy, &[]);
}

#[test]
fn old_lanes_that_are_forgotten_at_their_number_double_rows() {
    caught_moving::<heirs::DroppedAtNumber>(Violation::Copy, &[]);
}

#[test]
fn old_lanes_that_are_forgotten_at_their_snapshot_double_rows() {
    caught_moving::<heirs::DroppedAtSnapshot>(Violation::Copy, &[]);
}

#[test]
fn a_lane_that_begins_at_the_highest_number_loses_rows() {
    let also = [Violation::OutOfOrder, Violation::FrontierFell];
    caught_moving::<heirs::HighestNumber>(Violation::Lost, &also);
}

#[test]
fn a_lane_that_begins_with_one_of_the_snapshots_loses_rows() {
    caught_moving::<heirs::OneSnapshot>(Violation::Lost, &[Violation::OutOfOrder]);
}

#[test]
fn an_old_lane_told_by_the_count_of_now_doubles_rows() {
    caught_moving::<heirs::CountOfNow>(Violation::Copy, &[Violation::Lost, Violation::OutOfOrder]);
}
