//! Too little of something makes a history invalid, however well it went; and what a history says
//! nothing of is not looked at.

use posthaste_history::event::{Event, Format};
use posthaste_history::{Floors, History, Invariant, Report, State, Verdict, check};

use crate::edit::{copy, effect, insert_after, insert_last, is_answered, place};
use crate::sample::{SHIPPING, sample};

#[test]
fn a_history_below_a_floor_is_invalid_and_one_at_it_is_not() {
    let history = sample(1);
    let counts = check(&history, &Floors::default()).counts;
    let hit = counts.faults_that_hit * 100 / counts.faults;
    let rate = counts.failovers * 60_000_000_000 / counts.nanoseconds;
    assert!(counts.acknowledged > 100 && hit > 0 && rate > 0 && counts.repeated > 0, "{counts:?}");
    let floors = |more: [u64; 4]| Floors {
        acknowledged: counts.acknowledged + more[0],
        faults_that_hit: hit + more[1],
        failovers_per_minute: rate + more[2],
        duplicates: counts.repeated + more[3],
    };
    assert_eq!(check(&history, &floors([0; 4])).verdict, Verdict::Kept);
    for place in 0..4 {
        let mut more = [0; 4];
        more[place] = 1;
        let report = check(&history, &floors(more));
        assert_eq!((report.verdict, report.shortfalls.len()), (Verdict::Invalid, 1), "{place}");
        assert_eq!(report.shortfalls[0].found + 1, report.shortfalls[0].floor);
    }
}

#[test]
fn what_is_broken_is_broken_also_below_a_floor() {
    let mut history = sample(2);
    insert_last(&mut history, SHIPPING, effect(SHIPPING, "a3"));
    let report = check(&history, &Floors { acknowledged: 1_000_000, ..Floors::default() });
    assert_eq!((report.verdict, report.shortfalls.len()), (Verdict::Broken, 1));
}

#[test]
fn an_empty_history_proves_nothing() {
    let report = check(&History::new(), &Floors::default());
    assert_eq!(report.verdict, Verdict::Invalid);
    assert!(report.invariants.iter().all(|finding| finding.state == State::NotLookedAt));
    assert_eq!(report.invariants.len(), Invariant::ALL.len());
}

#[test]
fn a_history_that_never_came_to_rest_says_nothing_of_loss() {
    let mut history = sample(3);
    history.lines_mut().retain(|line| !matches!(line.event, Event::Rest(_)));
    let report = check(&history, &Floors::default());
    assert_eq!(report.verdict, Verdict::Kept);
    for invariant in [Invariant::NoLoss, Invariant::NoPhantom] {
        assert_eq!(report.of(invariant).map(|one| one.state), Some(State::NotLookedAt));
    }
}

#[test]
fn copies_without_known_faults_are_not_judged() {
    let mut history = sample(3);
    flags(&mut history, |format| format.faults_known = false);
    let place = place(&history, |event| is_answered(event, SHIPPING, "a2"));
    insert_after(&mut history, place, SHIPPING, copy(SHIPPING, "a2"));
    let report = check(&history, &Floors::default());
    assert_eq!(report.verdict, Verdict::Kept);
    let copies = report.of(Invariant::BoundedDuplicates).map(|one| one.state);
    assert_eq!(copies, Some(State::NotLookedAt));
}

/// What the version line says.
fn flags(history: &mut History, change: impl Fn(&mut Format)) {
    for line in history.lines_mut() {
        if let Event::Format(format) = &mut line.event {
            change(format);
        }
    }
}

#[test]
fn without_fencing_a_key_may_jump_one_batch_for_each_fault() {
    let mut history = sample(0);
    flags(&mut history, |format| format.fenced = false);
    let jump = |history: &mut History| {
        let place = place(history, |event| is_answered(event, SHIPPING, "z3"));
        let back_and_forth = copy(SHIPPING, "z0").into_iter().chain(copy(SHIPPING, "z3"));
        insert_after(history, place, SHIPPING, back_and_forth);
    };
    // One fault of a relay and batches of four so far.
    for _ in 0..4 {
        jump(&mut history);
    }
    let state = |report: &Report| report.of(Invariant::CleanRewind).map(|one| one.state);
    assert_eq!(state(&check(&history, &Floors::default())), Some(State::Kept));
    jump(&mut history);
    assert_eq!(state(&check(&history, &Floors::default())), Some(State::Broken));
}
