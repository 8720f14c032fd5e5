//! Planted into what arrives, and in which order: order, copies, due times, attempts, windows.

use posthaste_history::Invariant::{
    Attempts, BlockedKey, BoundedDuplicates, CleanRewind, LogOrder, NeverEarly, Order, Pruning,
    WindowEdge,
};
use posthaste_history::event::{
    Act, Answer, Fault, FaultTarget, Handling, Pruned, PrunedFrom, Settlement, VerdictKind,
};
use posthaste_history::{Event, History};

use super::{Mutant, mutant};
use crate::edit::{
    answered, change, copy, effect, insert_after, is_answered, is_delivered, last, place, remove,
    swap,
};
use crate::run::MS;
use crate::sample::{BILLING, SHIPPING};

/// Lets copies arrive after a message was answered.
fn copies_after(history: &mut History, consumer: &str, after: &str, id: &str, number: usize) {
    let place = place(history, |event| is_answered(event, consumer, after));
    for _ in 0..number {
        insert_after(history, place, consumer, copy(consumer, id));
    }
}

fn is_retry(event: &Event, id: &str, attempts: u32) -> bool {
    let Event::Settlement(Settlement { verdicts, .. }) = event else { return false };
    verdicts
        .iter()
        .any(|one| one.id == id && one.verdict == VerdictKind::Retry && one.attempts == attempts)
}

fn is_handling(event: &Event, consumer: &str, id: &str, attempt: u32) -> bool {
    let attempt = Some(attempt);
    matches!(event, Event::Handling(one)
        if one.consumer == consumer && one.id == id && one.attempt == attempt)
}

pub(super) const MUTANTS: &[Mutant] = &[
    mutant("two messages of one key change places", Order, |history| {
        swap(history, SHIPPING, "a1", "a2");
    }),
    mutant("two messages change places at the other consumer", Order, |history| {
        swap(history, BILLING, "a3", "a4");
    }),
    mutant("a message is overtaken by all others of its key", Order, |history| {
        for pair in ["a0", "a1", "a2", "a3", "a4", "a5"].windows(2) {
            if pair[1] == "a1" {
                continue;
            }
            swap(history, SHIPPING, pair[0], pair[1]);
        }
    }),
    mutant("messages that were refused for a while change places", Order, |history| {
        swap(history, BILLING, "r0", "r1");
    }),
    mutant("an old message comes again between two new ones", CleanRewind, |history| {
        copies_after(history, SHIPPING, "z3", "z0", 1);
    }),
    mutant("an old message comes again at the other consumer", CleanRewind, |history| {
        copies_after(history, BILLING, "z4", "z1", 1);
    }),
    mutant("two of one moment change places against the log", LogOrder, |history| {
        swap(history, SHIPPING, "c0", "c1");
    }),
    mutant("the log says another order than the arrivals", LogOrder, |history| {
        let positions = ["c0", "c1"].map(|id| {
            let place = place(history, |event| matches!(event, Event::Row(row) if row.id == id));
            match &history.lines()[place].event {
                Event::Row(row) => (place, row.position),
                _ => (place, None),
            }
        });
        let [(first, one), (second, other)] = positions;
        for (place, position) in [(first, other), (second, one)] {
            if let Event::Row(row) = &mut history.lines_mut()[place].event {
                row.position = position;
            }
        }
    }),
    mutant("the next of a key comes while one is tried again", BlockedKey, |history| {
        let place = place(history, |event| is_answered(event, SHIPPING, "a1"));
        let failed = [answered(SHIPPING, "a1", Answer::Retried)];
        insert_after(history, place, SHIPPING, failed);
    }),
    mutant("the next of a key comes while the relay tries again", BlockedKey, |history| {
        remove(history, |event| is_delivered(event, SHIPPING, "r1"));
        remove(history, |event| is_answered(event, SHIPPING, "r1"));
        let place = place(history, |event| is_retry(event, "r0", 1));
        insert_after(history, place, SHIPPING, copy(SHIPPING, "r1"));
    }),
    mutant("a parked key goes on without a decision", BlockedKey, |history| {
        let node = "operator";
        let is_it = |event: &Event| {
            matches!(event, Event::Audit(audit)
                if audit.id == "d-reposted" && audit.act == Act::Reposted)
        };
        remove(history, |event| is_delivered(event, SHIPPING, "d-follower"));
        remove(history, |event| is_answered(event, SHIPPING, "d-follower"));
        let place = place(history, is_it) - 1;
        insert_after(history, place, node, copy(SHIPPING, "d-follower"));
        for line in &mut history.lines_mut()[place + 1..=place + 2] {
            line.node = SHIPPING.to_owned();
        }
    }),
    mutant("a copy that no fault explains", BoundedDuplicates, |history| {
        copies_after(history, SHIPPING, "a2", "a2", 1);
    }),
    mutant("more copies than the faults explain", BoundedDuplicates, |history| {
        copies_after(history, SHIPPING, "z2", "z2", 3);
    }),
    mutant("the fault that explains copies did not happen", BoundedDuplicates, |history| {
        remove(history, |event| matches!(event, Event::Fault(one) if one.id == "pause-of-relay"));
    }),
    mutant("the fault was somewhere else", BoundedDuplicates, |history| {
        let is_it =
            |event: &Event| matches!(event, Event::Fault(one) if one.id == "kill-of-consumers");
        change(history, is_it, |event| {
            if let Event::Fault(Fault { target, .. }) = event {
                *target = FaultTarget::Writer;
            }
        });
    }),
    mutant("the fault was at another time", BoundedDuplicates, |history| {
        let is_it =
            |event: &Event| matches!(event, Event::Fault(one) if one.id == "kill-of-consumers");
        change(history, is_it, |event| {
            if let Event::Fault(fault) = event {
                (fault.from, fault.until) = (1, 2);
            }
        });
    }),
    mutant("a late copy is not refused", WindowEdge, |history| {
        let last = last(history, |event| is_answered(event, SHIPPING, "a1"));
        history.lines_mut()[last].event = answered(SHIPPING, "a1", Answer::Completed);
    }),
    mutant("a late copy takes effect again", WindowEdge, |history| {
        let last = last(history, |event| is_delivered(event, SHIPPING, "a1"));
        insert_after(history, last, SHIPPING, [effect(SHIPPING, "a1")]);
    }),
    mutant("a message comes before it is due", NeverEarly, |history| {
        change(
            history,
            |event| is_delivered(event, SHIPPING, "due"),
            |event| {
                if let Event::Delivered(delivered) = event {
                    delivered.database_time = delivered.database_time.map(|time| time - 200 * MS);
                }
            },
        );
    }),
    mutant("a message comes a nanosecond early", NeverEarly, |history| {
        let is_it = |event: &Event| matches!(event, Event::Row(row) if row.id == "due");
        let due = place(history, is_it);
        let due = match &history.lines()[due].event {
            Event::Row(row) => row.due,
            _ => None,
        };
        change(
            history,
            |event| is_delivered(event, BILLING, "due"),
            |event| {
                if let Event::Delivered(delivered) = event {
                    delivered.database_time = due.map(|due| due - 1);
                }
            },
        );
    }),
    mutant("a message comes that was taken back", NeverEarly, |history| {
        let place = place(history, |event| is_answered(event, SHIPPING, "due"));
        insert_after(history, place, SHIPPING, copy(SHIPPING, "cancelled"));
    }),
    mutant("the relay forgets an attempt", Attempts, |history| {
        change(
            history,
            |event| is_retry(event, "r0", 2),
            |event| {
                if let Event::Settlement(settlement) = event {
                    settlement.verdicts[0].attempts = 1;
                }
            },
        );
    }),
    mutant("the relay tries more often than it may", Attempts, |history| {
        change(
            history,
            |event| is_retry(event, "r0", 2),
            |event| {
                if let Event::Settlement(settlement) = event {
                    settlement.verdicts[0].attempts = 3;
                }
            },
        );
    }),
    mutant("a consumer forgets an attempt", Attempts, |history| {
        change(
            history,
            |event| is_handling(event, SHIPPING, "h0", 2),
            |event| {
                if let Event::Handling(handling) = event {
                    handling.attempt = Some(1);
                }
            },
        );
    }),
    mutant("a consumer tries once too often", Attempts, |history| {
        let (consumer, id) = (SHIPPING.to_owned(), "e-standing".to_owned());
        let place = place(history, |event| is_handling(event, SHIPPING, "e-standing", 3));
        let once_more = Handling { consumer, id, attempt: Some(4) };
        insert_after(history, place, SHIPPING, [once_more.into()]);
    }),
    mutant("a message is tried again at once", Attempts, |history| {
        let failed = place(history, |event| is_answered(event, SHIPPING, "h0"));
        let at = history.lines()[failed].at + MS;
        let again = place(history, |event| is_handling(event, SHIPPING, "h0", 2));
        history.lines_mut()[again].at = at;
    }),
    mutant("an inbox forgets too early", Pruning, |history| {
        let place = place(history, |event| is_answered(event, BILLING, "a3"));
        let (from, consumer) = (PrunedFrom::Inbox, Some(BILLING.to_owned()));
        let pruned = Pruned { from, consumer, ids: vec!["a3".to_owned()] };
        insert_after(history, place, BILLING, [pruned.into()]);
    }),
];
