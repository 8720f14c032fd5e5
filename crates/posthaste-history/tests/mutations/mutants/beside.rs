//! Planted into what lies beside the path of a message: dead letters, reposts, replays, the
//! gateway, isolation.

use posthaste_history::Invariant::{DeadLetters, Gateway, Isolation, PureReplay, Reposts};
use posthaste_history::event::{
    Act, Answer, Outcome, OutcomeKind, Publishing, Replay, ReplayPhase, Request, Response,
};
use posthaste_history::{Event, History};

use super::{Mutant, mutant};
use crate::edit::{
    at_consumer, change, insert_after, insert_last, is_delivered, last, place, remove, remove_all,
};
use crate::run::{MS, digest};
use crate::sample::{SHIPPING, audit};

fn is_buried(event: &Event, id: &str) -> bool {
    matches!(event, Event::Buried(buried) if buried.id == id)
}

fn is_audit(event: &Event, id: &str) -> bool {
    matches!(event, Event::Audit(audit) if audit.id == id)
}

fn response(request: &str, status: u16, id: Option<&str>) -> Response {
    let (request, id) = (request.to_owned(), id.map(str::to_owned));
    Response { request, status, id, retry_after: true }
}

fn answer(history: &mut History, request: &str, to: impl Fn(&mut Response)) {
    let is_it = |event: &Event| matches!(event, Event::Response(one) if one.request == request);
    change(history, is_it, |event| {
        if let Event::Response(response) = event {
            to(response);
        }
    });
}

pub(super) const MUTANTS: &[Mutant] = &[
    mutant("a dead letter says no reason", DeadLetters, |history| {
        change(
            history,
            |event| is_buried(event, "d-standing"),
            |event| {
                if let Event::Buried(buried) = event {
                    buried.reason.clear();
                }
            },
        );
    }),
    mutant("a dead letter is not what was committed", DeadLetters, |history| {
        change(
            history,
            |event| is_buried(event, "e-standing"),
            |event| {
                if let Event::Buried(buried) = event {
                    buried.digest ^= 1;
                }
            },
        );
    }),
    mutant("a dead letter of the relay is gone", DeadLetters, |history| {
        remove(history, |event| matches!(event, Event::DeadLetter(one) if one.id == "d-standing"));
    }),
    mutant("a dead letter of a consumer is gone", DeadLetters, |history| {
        remove(history, |event| matches!(event, Event::DeadLetter(one) if one.id == "e-standing"));
    }),
    mutant("the record of a discard is lost", DeadLetters, |history| {
        remove(history, |event| is_audit(event, "e-discarded"));
    }),
    mutant("a dead letter is discarded twice", DeadLetters, |history| {
        insert_last(history, "operator", audit("d-discarded", None, Act::Discarded));
    }),
    mutant("a dead letter is discarded and still stands", DeadLetters, |history| {
        insert_last(history, "operator", audit("d-standing", None, Act::Discarded));
    }),
    mutant("a delivery is settled before its dead letter is kept", DeadLetters, |history| {
        let buried = place(history, |event| is_buried(event, "e-standing"));
        let answered = place(history, |event| {
            matches!(event, Event::Answered(one)
                if one.id == "e-standing" && one.answer == Answer::DeadLettered)
        });
        history.lines_mut().swap(buried, answered);
    }),
    mutant("a double click reposts twice", Reposts, |history| {
        let place = place(history, |event| is_audit(event, "d-reposted"));
        let again = history.lines()[place].event.clone();
        insert_after(history, place, "operator", [again]);
    }),
    mutant("what was reposted never arrives", Reposts, |history| {
        remove_all(history, |event| at_consumer(event) == Some((SHIPPING, "e-linked-again")));
    }),
    mutant("what was reposted under its own id never arrives", Reposts, |history| {
        remove_all(history, |event| at_consumer(event) == Some((SHIPPING, "d-reposted")));
    }),
    mutant("what was reposted is not handled anew", Reposts, |history| {
        let place = place(history, |event| is_audit(event, "e-same"));
        let late = history.lines_mut().split_off(place + 1);
        let is_it = |event: &Event| at_consumer(event) == Some((SHIPPING, "e-same"));
        history.extend(late.into_iter().filter(|line| !is_it(&line.event)));
    }),
    mutant("what was reposted is another message", Reposts, |history| {
        change(
            history,
            |event| is_delivered(event, SHIPPING, "e-linked-again"),
            |event| {
                if let Event::Delivered(delivered) = event {
                    delivered.digest ^= 1;
                }
            },
        );
    }),
    mutant("a replay changes the state", PureReplay, |history| {
        let last = last(history, |event| matches!(event, Event::Replay(_)));
        if let Event::Replay(replay) = &mut history.lines_mut()[last].event {
            replay.state = 43;
        }
    }),
    mutant("a second replay changes the state", PureReplay, |history| {
        for (phase, state) in [(ReplayPhase::Began, 1), (ReplayPhase::Ended, 2)] {
            let scope = "second".to_owned();
            insert_last(history, "rebuild", Replay { scope, phase, state });
        }
    }),
    mutant("a replay sends something", PureReplay, |history| {
        let place = place(history, |event| matches!(event, Event::Replay(_)));
        let (flight, id) = ("of-replay".to_owned(), "a1".to_owned());
        let replay = Some("orders-by-day".to_owned());
        let events = [
            Publishing { flight: flight.clone(), ids: vec![id.clone()], replay }.into(),
            Outcome { flight, id, outcome: OutcomeKind::Accepted }.into(),
        ];
        insert_after(history, place, "rebuild", events);
    }),
    mutant("what was accepted is not there", Gateway, |history| {
        insert_last(history, "client", response("q9", 202, Some("nowhere")));
    }),
    mutant("something is accepted without an id", Gateway, |history| {
        insert_last(history, "client", response("q9", 202, None));
    }),
    mutant("a repetition becomes another message", Gateway, |history| {
        answer(history, "q1", |response| response.id = Some("a1".to_owned()));
    }),
    mutant("another body is accepted under one key", Gateway, |history| {
        answer(history, "q2", |response| {
            (response.status, response.id) = (200, Some("g0".to_owned()));
        });
    }),
    mutant("what was refused is kept", Gateway, |history| {
        let is_it = |event: &Event| matches!(event, Event::Row(row) if row.id == "a1");
        change(history, is_it, |event| {
            if let Event::Row(row) = event {
                row.request = Some("q3".to_owned());
            }
        });
    }),
    mutant("nobody is told when to come again", Gateway, |history| {
        answer(history, "q3", |response| response.retry_after = false);
    }),
    mutant("a new request takes an old key", Gateway, |history| {
        let (request, key) = ("q8".to_owned(), Some("key-0".to_owned()));
        let digest = digest("another");
        insert_last(history, "client", Request { request, idempotency_key: key, digest });
        insert_last(history, "client", response("q8", 201, Some("a2")));
    }),
    mutant("a key in trouble stops all others", Isolation, |history| {
        late_during_trouble(history, 1);
    }),
    mutant("a key in trouble slows others down", Isolation, |history| {
        late_during_trouble(history, 3);
    }),
];

/// Of the messages that are stated while one key is in trouble, those of each so-many-th
/// transaction arrive after it.
fn late_during_trouble(history: &mut History, share: usize) {
    let until = history.lines().iter().find_map(|line| match &line.event {
        Event::Fault(fault) if fault.key.is_some() => Some(fault.until),
        _ => None,
    });
    let until = until.expect("the sample has it");
    let is_late = |id: &str| {
        let number = id.strip_prefix("during").and_then(|id| id.split('-').next());
        let number = number.and_then(|number| number.parse::<usize>().ok());
        number.is_some_and(|number| number.is_multiple_of(share))
    };
    for line in history.lines_mut() {
        if matches!(&line.event, Event::Delivered(one) if is_late(&one.id)) {
            line.at = line.at.max(until + MS);
        }
    }
}
