//! Planted into what is there: atomicity, loss, phantoms, effects.

use posthaste_history::Event;
use posthaste_history::Invariant::{Atomicity, NoLoss, NoPhantom, OneEffect};
use posthaste_history::event::{Answer, Commit, CommitAnswer, Leftover, Pending, Row, Transaction};

use super::{Mutant, mutant};
use crate::edit::{
    answered, at_consumer, change, copy, delivered, effect, insert_after, insert_last,
    is_delivered, is_effect, last, place, remove, remove_all,
};
use crate::run::digest;
use crate::sample::{BILLING, SHIPPING};

fn row(id: &str, topic: &str) -> Row {
    Row {
        id: id.to_owned(),
        topic: topic.to_owned(),
        key: None,
        digest: digest(id),
        position: None,
        transaction: None,
        stated: None,
        committed: None,
        due: None,
        request: None,
    }
}

pub(super) const MUTANTS: &[Mutant] = &[
    mutant("a state change has a message too few", Atomicity, |history| {
        let is_it = |event: &Event| matches!(event, Event::Transaction(one) if one.id == "t-a1");
        change(history, is_it, |event| {
            if let Event::Transaction(one) = event {
                one.messages += 1;
            }
        });
    }),
    mutant("a state change is there without any message", Atomicity, |history| {
        insert_last(history, "truth", Transaction { id: "alone".to_owned(), messages: 2 });
    }),
    mutant("a message is there without its state change", Atomicity, |history| {
        remove(history, |event| matches!(event, Event::Transaction(one) if one.id == "t-a1"));
    }),
    mutant("a message that was rolled back is there", Atomicity, |history| {
        insert_last(history, "truth", row("gone-0", "orders"));
    }),
    mutant("a message that was rolled back arrives", Atomicity, |history| {
        let place = place(history, |event| is_delivered(event, SHIPPING, "z0"));
        insert_after(history, place, SHIPPING, copy(SHIPPING, "gone-1"));
    }),
    mutant("a message that was rolled back takes effect", Atomicity, |history| {
        insert_last(history, SHIPPING, effect(SHIPPING, "gone-1"));
    }),
    mutant("what was acknowledged is not there", NoLoss, |history| {
        let (ids, answer) = (vec!["vanished".to_owned()], CommitAnswer::Committed);
        insert_last(history, "writer", Commit { transaction: None, ids, answer });
    }),
    mutant("what was acknowledged is not there any more", NoLoss, |history| {
        remove(history, |event| matches!(event, Event::Row(row) if row.id == "a3"));
    }),
    mutant("a message is missing at one consumer", NoLoss, |history| {
        remove_all(history, |event| at_consumer(event) == Some((SHIPPING, "a3")));
    }),
    mutant("a message is missing at both consumers", NoLoss, |history| {
        remove_all(history, |event| at_consumer(event).is_some_and(|(_, id)| id == "a4"));
    }),
    mutant("only an arrival is missing", NoLoss, |history| {
        remove(history, |event| is_delivered(event, BILLING, "a2"));
    }),
    mutant("nobody listens to a topic", NoLoss, |history| {
        insert_last(history, "truth", row("lonely", "elsewhere"));
    }),
    mutant("a message still waits", NoLoss, |history| {
        let (id, place) = ("a5".to_owned(), "the side table".to_owned());
        insert_last(history, "truth", Pending { id, place });
    }),
    mutant("something is left in the broker", NoLoss, |history| {
        let what = "the broker holds 3 messages for shipping".to_owned();
        insert_last(history, "truth", Leftover { what });
    }),
    mutant("a message that nobody committed arrives", NoPhantom, |history| {
        let place = place(history, |event| is_delivered(event, SHIPPING, "z0"));
        insert_after(history, place, SHIPPING, copy(SHIPPING, "invented"));
    }),
    mutant("an effect comes out of nothing", NoPhantom, |history| {
        insert_last(history, SHIPPING, effect(SHIPPING, "invented"));
    }),
    mutant("a message whose commit failed arrives", NoPhantom, |history| {
        let place = place(history, |event| is_delivered(event, SHIPPING, "z0"));
        insert_after(history, place, SHIPPING, copy(SHIPPING, "unknown-1"));
    }),
    mutant("a message arrives at somebody it was not for", NoPhantom, |history| {
        insert_last(history, "stranger", delivered("stranger", "a1"));
    }),
    mutant("a byte is another one on arrival", NoPhantom, |history| {
        change(
            history,
            |event| is_delivered(event, SHIPPING, "a2"),
            |event| {
                if let Event::Delivered(delivered) = event {
                    delivered.digest ^= 1;
                }
            },
        );
    }),
    mutant("a byte is another one in a copy", NoPhantom, |history| {
        let last = last(history, |event| is_delivered(event, BILLING, "b1"));
        if let Event::Delivered(delivered) = &mut history.lines_mut()[last].event {
            delivered.digest ^= 1 << 40;
        }
    }),
    mutant("a byte is another one in an effect", NoPhantom, |history| {
        change(
            history,
            |event| is_effect(event, BILLING, "a2"),
            |event| {
                if let Event::Effect(effect) = event {
                    effect.digest ^= 1 << 63;
                }
            },
        );
    }),
    mutant("two messages have one identity", NoPhantom, |history| {
        let again = place(history, |event| matches!(event, Event::Row(row) if row.id == "a1"));
        let again = history.lines()[again].clone();
        insert_last(history, "truth", again.event);
    }),
    mutant("an effect happens twice", OneEffect, |history| {
        insert_last(history, SHIPPING, effect(SHIPPING, "a3"));
    }),
    mutant("a copy takes effect", OneEffect, |history| {
        let last = last(history, |event| is_delivered(event, SHIPPING, "b0"));
        insert_after(history, last, SHIPPING, [effect(SHIPPING, "b0")]);
    }),
    mutant("an effect happens three times at both consumers", OneEffect, |history| {
        for consumer in [SHIPPING, BILLING, SHIPPING, BILLING] {
            insert_last(history, consumer, effect(consumer, "a4"));
        }
    }),
    mutant("an effect is missing", OneEffect, |history| {
        remove(history, |event| is_effect(event, BILLING, "a5"));
    }),
    mutant("a delivery is settled and nothing was done", OneEffect, |history| {
        remove(history, |event| is_effect(event, SHIPPING, "z1"));
        insert_last(history, SHIPPING, answered(SHIPPING, "z1", Answer::Completed));
    }),
    mutant("a sum says more than its effects", OneEffect, |history| {
        change(
            history,
            |event| matches!(event, Event::Sum(_)),
            |event| {
                if let Event::Sum(sum) = event {
                    sum.says += 7;
                }
            },
        );
    }),
    mutant("a sum says less than its effects", OneEffect, |history| {
        let is_it = |event: &Event| matches!(event, Event::Sum(sum) if sum.consumer == SHIPPING);
        change(history, is_it, |event| {
            if let Event::Sum(sum) = event {
                sum.says -= 1;
            }
        });
    }),
];
