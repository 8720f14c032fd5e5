//! I2: what was committed is there, arrives wherever it is to go or is given up visibly, and at the
//! end nothing waits and nothing is left over.
//!
//! What arrived and took no effect is I6. A request that the gateway accepted is I14. What an
//! operator reposted is I9.

use std::collections::BTreeSet;

use crate::examination::Examination;
use crate::index::{Index, Message};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    if !index.is_at_rest {
        return;
    }
    let waiting: BTreeSet<&str> = index.kinds.pending.iter().map(|one| one.id.as_str()).collect();
    for message in index.messages.values() {
        match (message.row, message.acknowledged) {
            (None, Some(acknowledged)) => {
                examination.look();
                let id = message.id;
                let what = format!("message {id} was acknowledged as committed and is not there");
                examination.find(Harm::Lost, id, what, &[acknowledged]);
            }
            (Some(_), _) if waiting.contains(message.id) => {}
            (Some(_), _) => arrival(index, message, examination),
            (None, None) => {}
        }
    }
    for pending in &index.kinds.pending {
        examination.look();
        let what = format!("message {} still waits in {}", pending.id, pending.place);
        examination.find(Harm::Other, &pending.id, what, &[pending.line]);
    }
    for leftover in &index.kinds.leftovers {
        examination.look();
        examination.find(Harm::Other, &leftover.what, leftover.what.clone(), &[leftover.line]);
    }
}

fn arrival<'h>(index: &Index<'h>, message: &Message<'h>, examination: &mut Examination) {
    examination.look();
    let id = message.id;
    if index.rolled_back.contains_key(id) {
        return;
    }
    let lines: Vec<_> =
        message.acknowledged.or(message.row.map(|row| row.line)).into_iter().collect();
    let mut audience = index.audience(message).peekable();
    if audience.peek().is_none() && !index.is_given_up(None, id) {
        let what = format!("message {id} was committed and nobody was there to receive its topic");
        examination.find(Harm::Lost, id, what, &lines);
    }
    for consumer in audience {
        let has_arrived = index.arrivals.contains_key(&(consumer, id));
        if !has_arrived && !index.is_given_up(Some(consumer), id) {
            let what = format!("message {id} was committed and never arrived at {consumer}");
            examination.find(Harm::Lost, id, what, &lines);
        }
    }
}
