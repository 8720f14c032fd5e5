//! Examples of single steps; the properties over whole histories are in `tests/frontier.rs`.

use proptest::prelude::*;

use super::*;
use crate::outbox::ReadLimit;

fn snapshot(text: &str) -> Snapshot {
    text.parse().expect("a snapshot")
}

fn rows(list: &[(u64, u64)]) -> Vec<Row<()>> {
    list.iter().map(|&(seq, xid)| Row { seq, xid, hash: 0, bytes: 10, body: () }).collect()
}

fn limit(messages: usize) -> ReadLimit {
    ReadLimit { messages, bytes: usize::MAX }
}

fn frontier(token: &str) -> Frontier {
    Frontier::parse(&Checkpoint::new(token)).expect("a checkpoint")
}

#[test]
fn a_snapshot_sees_what_had_ended() {
    let snapshot = snapshot("10:20:10,14,19");
    for (xid, seen) in [(0, true), (9, true), (10, false), (11, true), (14, false), (20, false)] {
        assert_eq!(snapshot.sees(xid), seen, "{xid}");
    }
    assert!(
        !snapshot.sees(u64::MAX) && Snapshot::BEGINNING.sees(0) && !Snapshot::BEGINNING.sees(1)
    );
}

#[test]
fn snapshots_read_and_print_as_postgresql_does() {
    for text in ["1:1:", "10:20:10,14,19", "744:744:", "18446744073709551615:18446744073709551615:"]
    {
        assert_eq!(snapshot(text).to_string(), text);
    }
    for text in [
        "",
        ":",
        "::",
        "1:1",
        "1:1:1",
        "0:1:",
        "2:1:",
        "1:5:3,2",
        "1:5:2,2",
        "1:5:5",
        "3:5:2",
        "1:5:2,",
        "1:5:,2",
        "+1:5:",
        "1:5:+2",
        "1: 5:",
        "1:5:2:",
        "1:18446744073709551616:",
        "a:b:c",
    ] {
        assert!(text.parse::<Snapshot>().is_err(), "{text:?}");
    }
}

#[test]
fn a_snapshot_with_more_transactions_than_any_server_runs_is_refused() {
    let list: Vec<u64> = (1..=65_537).collect();
    assert!(Snapshot::new(1, 100_000, list[..65_536].to_vec()).is_ok());
    assert!(Snapshot::new(1, 100_000, list).is_err());
}

#[test]
fn checkpoints_read_back() {
    for token in [
        "",
        "v1;42",
        "v1;42;10:20:10,14",
        "v1;42;10:20:10,14;17;12:25:19",
        "v1;42;floor=42",
        "v1;42;10:20:10,14;floor=30",
        "v1;42;10:20:10,14;17;12:25:19;floor=3;adopting=42",
        "v1;0;adopting=9",
        "v1;9;5:8:;inherits=9/5:9:|42/7:7:/17/12:25:19/floor=3|0",
        "v1;9;5:8:;adopting=40;inherits=9/5:9:|42/7:7:",
    ] {
        assert_eq!(frontier(token).checkpoint().as_str(), token);
    }
    assert_eq!(frontier(""), Frontier::start());
}

#[test]
fn a_checkpoint_that_is_not_one_says_what_to_do() {
    let parse = |token: &str| Frontier::parse(&Checkpoint::new(token));
    assert_eq!(parse("v2;42;whatever"), Err(BadCheckpoint::Newer { found: 2 }));
    for token in [
        "1",
        "v1;",
        "42",
        "v0;1",
        "x",
        "v1;-1",
        "v1;042",
        "v1;4;",
        "v1;4;1:1",
        "v1;4;1:1:;3",
        ";",
        "v1;4;1:1:;0;1:2:",
        "v1;4;1:1:;4;1:2:",
        "v1;4;1:1:;3;1:2:;",
        "v1;4;1:1:;3;1:2:;9",
        "v1;4;1:1:;3;1:2:;floor=3",
        "v1;floor=4",
        "v1;4;floor=5",
        "v1;4;floor=0",
        "v1;4;floor=04",
        "v1;4;floor=4;adopting=4",
        "v1;4;adopting=3",
        "v1;4;adopting=9;floor=4",
        "v1;4;adopting=9;adopting=9",
        "v1;4;inherits=",
        "v1;4;inherits=4|",
        "v1;4;inherits=4/adopting=9",
        "v1;4;inherits=4;floor=4",
    ] {
        let error = parse(token).expect_err(token).to_string();
        assert!(error.contains("reset"), "{token}: {error}");
    }
}

#[test]
fn late_rows_go_first_and_new_ones_fill_the_limit() {
    let before = frontier("v1;10;5:8:5,6");
    let plan = before.plan();
    assert!(plan.wants(3, 5) && plan.wants(10, 8) && plan.wants(11, 2));
    assert!(!plan.wants(3, 4) && !plan.wants(10, 7));
    let step = before.advance(&snapshot("6:12:6"), rows(&[(3, 5), (9, 8), (11, 7)]), limit(9));
    let step = step.expect("rows as planned");
    assert_eq!(step.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 9, 11]);
    assert_eq!(step.next.checkpoint().as_str(), "v1;11;6:12:6");
    assert!(!step.more);
}

#[test]
fn late_rows_that_a_limit_cut_are_finished_against_their_snapshot() {
    let before = frontier("v1;10;5:8:5,6");
    let cut = before.advance(&snapshot("6:12:6"), rows(&[(3, 5), (4, 5)]), limit(2));
    let cut = cut.expect("rows as planned");
    assert_eq!(cut.next.checkpoint().as_str(), "v1;10;5:8:5,6;4;6:12:6");
    assert!(cut.more);
    let plan = cut.next.plan();
    assert!(plan.new.is_none() && plan.wants(5, 5) && !plan.wants(4, 5));
    assert!(!plan.wants(5, 6), "it ended after the snapshot that is being finished");
    let sent = |seq, xid| cut.next.has_sent(seq, xid, 0);
    assert!(sent(4, 5) && !sent(5, 5) && !sent(4, 6));

    let rest = cut.next.advance(&snapshot("12:15:"), rows(&[(5, 5)]), limit(2));
    let rest = rest.expect("rows as planned");
    assert_eq!(rest.next.checkpoint().as_str(), "v1;10;6:12:6");
    assert!(rest.more, "new rows have not been looked for");
}

#[test]
fn late_rows_up_to_the_frontier_are_not_a_cut() {
    let before = frontier("v1;4;5:8:5,6");
    let step = before.advance(&snapshot("6:12:6"), rows(&[(3, 5), (4, 5)]), limit(2));
    let step = step.expect("rows as planned");
    assert_eq!(step.next.checkpoint().as_str(), "v1;4;6:12:6");
    assert!(step.more);
}

#[test]
fn a_cut_by_bytes_is_a_cut() {
    let before = frontier("v1;10;5:8:5,6");
    let found = || rows(&[(3, 5), (4, 5), (11, 9)]);
    let at = |bytes| {
        let limit = ReadLimit { messages: 9, bytes };
        before.advance(&snapshot("6:12:6"), found(), limit).expect("rows as planned")
    };
    assert_eq!(at(0).next.checkpoint().as_str(), "v1;10;5:8:5,6;3;6:12:6");
    assert_eq!(at(10).rows.len(), 1);
    assert_eq!(at(11).next.checkpoint().as_str(), "v1;10;6:12:6");
    assert!(at(11).more && at(20).more && !at(21).more);
    assert_eq!(at(21).next.checkpoint().as_str(), "v1;11;6:12:6");
}

#[test]
fn rows_that_do_not_fit_are_an_error() {
    let before = frontier("v1;10;5:8:5,6");
    let advance = |list: &[(u64, u64)]| before.advance(&snapshot("6:12:6"), rows(list), limit(2));
    assert_eq!(advance(&[(3, 4)]), Err(Misread::OutOfPlace { seq: 3, xid: 4 }));
    assert_eq!(advance(&[(11, 5), (3, 5)]), Err(Misread::OutOfPlace { seq: 3, xid: 5 }));
    assert_eq!(advance(&[(3, 5), (3, 5)]), Err(Misread::OutOfPlace { seq: 3, xid: 5 }));
    assert_eq!(advance(&[(3, 6)]), Err(Misread::Unseen { seq: 3, xid: 6 }));
    let many = [(3, 5), (4, 5), (5, 5)];
    assert_eq!(advance(&many), Err(Misread::PastLimit { found: 3, limit: 2 }));
}

#[test]
fn one_writer_needs_the_frontier_alone() {
    let mut frontier = Frontier::start();
    for (found, token) in [(vec![1, 2], "v1;2"), (vec![5], "v1;5"), (vec![], "v1;5")] {
        assert!(frontier.plan().late.is_none_or(|late| !late.wants(1, 0)));
        let found: Vec<_> = found.into_iter().map(|seq| (seq, 0)).collect();
        let step = frontier.advance(&Snapshot::BEGINNING, rows(&found), limit(2));
        frontier = step.expect("rows as planned").next;
        assert_eq!(frontier.checkpoint().as_str(), token);
    }
}

#[test]
fn a_checkpoint_with_more_lanes_than_there_can_be_is_refused() {
    let token =
        |lanes: usize| Checkpoint::new(format!("v1;4;inherits={}", vec!["4"; lanes].join("|")));
    assert!(Frontier::parse(&token(64)).is_ok() && Frontier::parse(&token(65)).is_err());
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let parts = (1..6u64, 0..12u64, prop::collection::btree_set(0..12u64, 0..6));
    parts.prop_map(|(xmin, length, running)| {
        let running = running.into_iter().filter(|id| *id < length).map(|id| xmin + id);
        Snapshot::new(xmin, xmin + length, running.collect()).expect("a snapshot")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_meet_sees_what_both_see(a in snapshots(), b in snapshots()) {
        let meet = a.meet(&b);
        for xid in 0..40 {
            prop_assert_eq!(meet.sees(xid), a.sees(xid) && b.sees(xid), "{}", xid);
        }
        prop_assert_eq!(meet.to_string().parse(), Ok(meet.clone()));
        prop_assert!(a.covers(&meet) && b.covers(&meet) && a.covers(&a));
    }

    #[test]
    fn a_snapshot_that_covers_another_sees_whatever_it_sees(a in snapshots(), b in snapshots()) {
        let sees = (0..40).all(|xid| a.sees(xid) || !b.sees(xid));
        if a.covers(&b) {
            prop_assert!(sees);
        } else {
            // The same in other words is the only thing that is not recognised.
            prop_assert!(!sees || (a.xmax()..b.xmax()).all(|id| b.in_progress().contains(&id)));
        }
    }
}

#[test]
fn a_meet_of_two_long_snapshots_is_a_snapshot() {
    let ids = |odd: u64| (1..=65_536).map(|id| 2 * id + odd).collect();
    let [a, b] = [0, 1].map(|odd| Snapshot::new(2, 200_000, ids(odd)).expect("a snapshot"));
    let meet = a.meet(&b);
    assert_eq!(meet.to_string().parse(), Ok(meet.clone()));
    assert!(meet.in_progress().len() == Snapshot::MAX_IN_PROGRESS && meet.xmax() == 65_538);
    assert!(a.covers(&meet) && b.covers(&meet));
}

#[test]
fn an_adoption_reads_up_to_its_floor_without_a_snapshot() {
    let before = frontier("v1;10;5:8:5,6;4;6:12:6").adopt(20);
    assert_eq!(before.checkpoint().as_str(), "v1;10;5:8:5,6;4;6:12:6;adopting=20");
    let plan = before.plan();
    assert_eq!(plan.new, Some(NewRows { after: 10, through: Some(20) }));
    assert!(plan.wants(3, 5) && plan.wants(20, 900) && !plan.wants(21, 1) && !plan.wants(3, 7));

    // Row 3 was caught up with before, row 4 was not, and no snapshot here says so.
    let young = snapshot("3:3:");
    let step = before.advance(&young, rows(&[(3, 5), (4, 6), (9, 900)]), limit(3));
    let step = step.expect("rows as planned");
    assert_eq!(step.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [4, 9]);
    assert_eq!(step.next.checkpoint().as_str(), "v1;10;5:8:5,6;floor=9;adopting=20");
    assert!(step.more && step.next.plan().late.is_some_and(|late| late.after == 9));

    let past = step.next.advance(&young, rows(&[(21, 4)]), limit(3));
    assert_eq!(past, Err(Misread::OutOfPlace { seq: 21, xid: 4 }));
    let rest = step.next.advance(&young, rows(&[(12, 901), (20, 2)]), limit(3));
    let rest = rest.expect("rows as planned");
    assert_eq!(rest.next.checkpoint().as_str(), "v1;20;floor=20");
    assert!(rest.more, "rows above the floor have not been looked for");
}

#[test]
fn below_a_floor_no_row_is_late() {
    let before = frontier("v1;20;floor=20");
    assert_eq!(before.plan(), Plan { late: None, new: Some(NewRows { after: 20, through: None }) });
    let step = before.advance(&snapshot("3:9:4"), rows(&[(22, 5)]), limit(3));
    let next = step.expect("rows as planned").next;
    assert_eq!(next.checkpoint().as_str(), "v1;22;3:9:4;floor=20");
    assert!(next.plan().wants(21, 4) && !next.plan().wants(20, 900));
    assert!(next.has_sent(20, 900, 0) && !next.has_sent(21, 4, 0));
}

#[test]
fn an_adoption_with_nothing_to_read_is_at_its_end() {
    assert_eq!(Frontier::start().adopt(0), Frontier::start());
    assert_eq!(frontier("v1;20;floor=20").adopt(20), frontier("v1;20;floor=20"));
    let step = Frontier::start().adopt(7).advance(&snapshot("3:3:"), rows(&[]), limit(3));
    let step = step.expect("rows as planned");
    assert!(step.more && step.next == frontier("v1;7;floor=7"));
}

#[test]
fn an_adoption_only_goes_up() {
    let adopting = frontier("v1;10;5:8:5,6").adopt(20);
    assert_eq!(adopting.clone().adopt(30), frontier("v1;10;5:8:5,6;adopting=30"));
    assert_eq!(adopting.clone().adopt(15), adopting);
    assert_eq!(frontier("v1;10;5:8:5,6").adopt(3).adopting(), Some(10));
    assert_eq!(frontier("v1;9;5:8:;inherits=9/5:9:|42/7:7:").adopt(3).adopting(), Some(42));
}

fn inherit(old: &[&str]) -> Result<Frontier, BadInheritance> {
    Frontier::inherit(&old.iter().map(|token| frontier(token)).collect::<Vec<_>>())
}

#[test]
fn a_new_lane_begins_where_all_old_ones_had_been() {
    let begun = inherit(&["v1;10;5:12:6", "v1;8;7:15:7,13;5;9:20:"]).expect("a division");
    let token = "v1;8;5:12:6,7;inherits=10/5:12:6|8/7:15:7,13/5/9:20:";
    assert_eq!(begun.checkpoint().as_str(), token);
    // Row 9 was sent by lane 0, row 5 by lane 1, each for its own keys only.
    assert!(begun.has_sent(9, 11, 4) && !begun.has_sent(9, 11, 3));
    assert!(begun.has_sent(5, 7, 3) && !begun.has_sent(5, 6, 0));

    let found = [(5, 7, 3), (6, 6, 2), (9, 11, 2), (9 + 1, 11, 3), (11, 19, 0)];
    let found = found.map(|(seq, xid, hash)| Row { seq, xid, hash, bytes: 1, body: () });
    let step = begun.advance(&snapshot("20:21:"), found.into(), limit(5)).expect("as planned");
    assert_eq!(step.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [6, 10, 11]);
    assert_eq!(step.next.checkpoint().as_str(), "v1;11;20:21:");
}

#[test]
fn old_lanes_are_kept_until_all_that_they_saw_is_seen() {
    let begun = inherit(&["v1;10;5:12:5,6", "v1;8;6:15:6"]).expect("a division");
    let next = |snapshot: &str| {
        let found =
            [(10, 11, 1)].map(|(seq, xid, hash)| Row { seq, xid, hash, bytes: 1, body: () });
        let step = begun.advance(&snapshot.parse().expect("a snapshot"), found.into(), limit(1));
        step.expect("rows as planned").next
    };
    assert!(next("5:15:5").inheriting() && next("6:14:6").inheriting());
    assert!(!next("6:15:6").inheriting() && !next("15:15:").inheriting());
}

#[test]
fn old_lanes_are_forgotten_even_if_their_last_rows_are_gone() {
    let begun = inherit(&["v1;10;5:12:6", "v1;8;5:12:6"]).expect("a division");
    let step = begun.advance::<()>(&snapshot("12:12:"), Vec::new(), limit(5)).expect("no rows");
    assert_eq!(step.next.checkpoint().as_str(), "v1;10;12:12:");
}

#[test]
fn old_lanes_of_another_cluster_are_forgotten_at_the_floor() {
    let before = frontier("v1;8;7:7:;adopting=20;inherits=10/500:900:|8/7:7:");
    let step = before.advance::<()>(&snapshot("3:3:"), Vec::new(), limit(5)).expect("no rows");
    assert_eq!(step.next.checkpoint().as_str(), "v1;20;floor=20");
}

#[test]
fn lanes_that_are_equal_divide_without_a_trace() {
    for token in ["v1;10;5:8:5,6;4;6:12:6", "v1;9;adopting=40;inherits=9/5:9:|42", ""] {
        assert_eq!(inherit(&[token]), Ok(frontier(token)));
        assert_eq!(inherit(&[token, token, token]), Ok(frontier(token)));
    }
}

#[test]
fn lanes_divide_while_some_have_adopted_and_some_not() {
    let old = ["v1;30;3:9:4;floor=20", "v1;10;5:8:5,6;floor=3;adopting=20", "v1;20;floor=20"];
    let begun = inherit(&old).expect("a division");
    assert_eq!(begun.floor(), 3);
    assert_eq!((begun.through(), begun.adopting()), (10, Some(20)));
    assert_eq!(begun.seen(), &snapshot("5:8:5,6"), "the others compare no row up to there");
    assert!(begun.has_sent(9, 900, 0) && !begun.has_sent(9, 900, 1) && begun.has_sent(9, 900, 2));
}

#[test]
fn lanes_that_cannot_be_inherited_from_say_why() {
    let heir = "v1;9;5:8:;inherits=9/5:9:|42/7:7:";
    let still = Err(BadInheritance::StillInheriting { lane: 1 });
    assert_eq!(inherit(&["v1;9;5:8:", heir]), still);
    assert_eq!(inherit(&["v1;9;floor=9", "v1;9;floor=8"]), Err(BadInheritance::Apart { lane: 1 }));
    assert_eq!(inherit(&["v1;9;floor=9", "", "v1;8"]), Err(BadInheritance::Apart { lane: 1 }));
    assert_eq!(inherit(&[]), Err(BadInheritance::Count { found: 0 }));
    assert_eq!(inherit(&["v1;9"; 65]), Err(BadInheritance::Count { found: 65 }));
}
