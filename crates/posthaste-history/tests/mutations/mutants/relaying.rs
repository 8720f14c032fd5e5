//! Planted into what relays do: failover, fencing, stops, positions, pruning.

use posthaste_history::Invariant::{Failover, Fencing, Position, Pruning, Shutdown};
use posthaste_history::event::{
    Confirmed, LeaseAct, LogHeld, Pruned, PrunedFrom, Read, ReadEntry, Settlement,
};
use posthaste_history::{Event, History};

use super::{Mutant, mutant};
use crate::edit::{change, delay, insert_after, insert_last, last, place, remove};
use crate::run::{LANE, MS, TTL};
use crate::sample::SHIPPING;

fn settles(event: &Event, id: &str) -> bool {
    matches!(event, Event::Settlement(one)
        if one.applied && one.verdicts.iter().any(|verdict| verdict.id == id))
}

fn reads(event: &Event, id: &str) -> bool {
    let Event::Read(read) = event else { return false };
    read.entries.iter().any(|entry| entry.id == id)
}

fn is_refused(event: &Event) -> bool {
    matches!(event, Event::Settlement(one) if !one.applied)
}

fn is_lease(event: &Event, act: LeaseAct) -> bool {
    matches!(event, Event::Lease(lease) if lease.act == act)
}

fn settlement(event: &mut Event) -> &mut Settlement {
    match event {
        Event::Settlement(settlement) => settlement,
        _ => panic!("it was looked for"),
    }
}

/// The second time that a lease was granted: to the other relay.
fn takeover(history: &History) -> usize {
    let granted = |line: &posthaste_history::Line| is_lease(&line.event, LeaseAct::Granted);
    let mut all = history.lines().iter().enumerate().filter(|(_, line)| granted(line));
    all.nth(1).expect("the sample has two").0
}

pub(super) const MUTANTS: &[Mutant] = &[
    mutant("nothing arrives for seconds after a kill", Failover, |history| {
        let is_it = |event: &Event| matches!(event, Event::Fault(one) if one.id == "kill-of-relay");
        let place = place(history, is_it);
        delay(history, place, 3_000 * MS);
    }),
    mutant("it takes a little longer than it may", Failover, |history| {
        let is_it = |event: &Event| matches!(event, Event::Fault(one) if one.id == "kill-of-relay");
        let place = place(history, is_it);
        delay(history, place, 1_100 * MS);
    }),
    mutant("an old token settles", Fencing, |history| {
        change(history, is_refused, |event| settlement(event).applied = true);
    }),
    mutant("a token is lowered", Fencing, |history| {
        change(history, |event| settles(event, "z3"), |event| settlement(event).token = 1);
    }),
    mutant("a repetition is carried out", Fencing, |history| {
        let place = place(history, |event| settles(event, "a4"));
        let again = history.lines()[place].event.clone();
        insert_after(history, place, "relay-1", [again]);
    }),
    mutant("a settlement comes out of turn", Fencing, |history| {
        change(history, |event| settles(event, "a4"), |event| settlement(event).number = Some(1));
    }),
    mutant("two hold one lease", Fencing, |history| {
        let place = takeover(history);
        if let Event::Lease(lease) = &mut history.lines_mut()[place].event {
            lease.database_time = lease.database_time.map(|time| time - TTL);
        }
    }),
    mutant("a new holder gets the old token", Fencing, |history| {
        let place = takeover(history);
        if let Event::Lease(lease) = &mut history.lines_mut()[place].event {
            lease.token -= 1;
        }
    }),
    mutant("something is read after the stop", Shutdown, |history| {
        let place = place(history, |event| matches!(event, Event::Stopping(_)));
        let node = history.lines()[place].node.clone();
        let entries = vec![ReadEntry { id: "a0".to_owned(), position: 1 }];
        insert_after(history, place, &node, [Read { lane: LANE.to_owned(), entries }.into()]);
    }),
    mutant("a flight is left open", Shutdown, |history| {
        let last = last(history, |event| matches!(event, Event::Outcome(_)));
        history.lines_mut().remove(last);
    }),
    mutant("a delivery is left open", Shutdown, |history| {
        let last = last(history, |event| {
            matches!(event, Event::Answered(one)
            if one.consumer == SHIPPING)
        });
        history.lines_mut().remove(last);
    }),
    mutant("a lease is left to expire", Shutdown, |history| {
        remove(history, |event| is_lease(event, LeaseAct::Released));
    }),
    mutant("a lease is taken after the stop", Shutdown, |history| {
        let released = last(history, |event| is_lease(event, LeaseAct::Released));
        let mut line = history.lines()[released].clone();
        let Event::Lease(lease) = &mut line.event else { return };
        (lease.act, lease.token) = (LeaseAct::Granted, lease.token + 1);
        let again = [line.event.clone(), history.lines()[released].event.clone()];
        insert_after(history, released, &line.node, again);
    }),
    mutant("a stop fails", Shutdown, |history| {
        change(
            history,
            |event| matches!(event, Event::Stopped(_)),
            |event| {
                if let Event::Stopped(stopped) = event {
                    stopped.exit = 1;
                }
            },
        );
    }),
    mutant("a stop takes too long", Shutdown, |history| {
        let last = last(history, |event| matches!(event, Event::Stopping(_)));
        delay(history, last, 11_000 * MS);
    }),
    mutant("a checkpoint falls", Position, |history| {
        change(
            history,
            |event| settles(event, "a4"),
            |event| {
                settlement(event).checkpoint = Some(1);
            },
        );
    }),
    mutant("a checkpoint passes what has no verdict", Position, |history| {
        change(history, |event| settles(event, "a4"), |event| settlement(event).verdicts.clear());
    }),
    mutant("one of several has no verdict", Position, |history| {
        change(
            history,
            |event| settles(event, "c0"),
            |event| {
                settlement(event).verdicts.retain(|verdict| verdict.id != "c0");
            },
        );
    }),
    mutant("a position is reported too early", Position, |history| {
        let place = place(history, |event| reads(event, "a4"));
        let Event::Read(read) = &history.lines()[place].event else { return };
        let position = read.entries[0].position;
        let confirmed = Confirmed { lane: LANE.to_owned(), position };
        insert_after(history, place, "relay-1", [confirmed.into()]);
    }),
    mutant("a reported position falls", Position, |history| {
        let last = last(history, |event| matches!(event, Event::Confirmed(_)));
        if let Event::Confirmed(confirmed) = &mut history.lines_mut()[last].event {
            confirmed.position = 0;
        }
    }),
    mutant("a row goes before it is sent", Pruning, |history| {
        let place = place(
            history,
            |event| matches!(event, Event::Publishing(one) if one.ids.iter().any(|id| id == "a4")),
        );
        let (from, ids) = (PrunedFrom::Outbox, vec!["a4".to_owned()]);
        insert_after(history, place, "relay-1", [Pruned { from, consumer: None, ids }.into()]);
    }),
    mutant("a row goes that was never sent", Pruning, |history| {
        let (from, ids) = (PrunedFrom::Outbox, vec!["gone-0".to_owned()]);
        insert_last(history, "relay-1", Pruned { from, consumer: None, ids });
    }),
    mutant("a log grows past its cap in silence", Pruning, |history| {
        let reader = "relay".to_owned();
        insert_last(history, "database", LogHeld { reader, bytes: 101, cap: 100, alarmed: false });
    }),
    mutant("an alarm is not raised", Pruning, |history| {
        let is_it = |event: &Event| matches!(event, Event::LogHeld(held) if held.alarmed);
        change(history, is_it, |event| {
            if let Event::LogHeld(held) = event {
                held.alarmed = false;
            }
        });
    }),
];
