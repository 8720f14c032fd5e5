//! Examples of single steps; the properties over whole histories are in `tests/frontier.rs`.

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
    for token in ["", "v1;42", "v1;42;10:20:10,14", "v1;42;10:20:10,14;17;12:25:19"] {
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
