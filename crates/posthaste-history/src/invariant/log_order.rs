//! I4c: where the history says that relays tail the log, first arrivals of a key come in the order
//! of positions.
//!
//! Only of messages of which neither was committed before the other was stated: of the others I4a
//! says it.

use std::collections::BTreeMap;

use crate::examination::Examination;
use crate::index::{Index, Message};
use crate::invariant::order::{first_arrivals, set_aside};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    if !index.format.log_order {
        return;
    }
    let set_aside = set_aside(index);
    let mut furthest: BTreeMap<(&str, &str, &str), (u64, &Message<'_>)> = BTreeMap::new();
    for (delivered, message, key) in first_arrivals(index) {
        let Some(position) = message.row.and_then(|row| row.position) else { continue };
        let consumer = delivered.consumer.as_str();
        if index.is_out_of_line(consumer, message) || set_aside.contains(message.id) {
            continue;
        }
        examination.look();
        let line = (consumer, message.topic, key);
        let (reached, by) = furthest.entry(line).or_insert((position, message));
        if position < *reached && !message.precedes(by) {
            let (id, by) = (message.id, by.id);
            let what = format!(
                "message {id} of key {key} at {consumer} comes after {by}, which stands behind \
                 it in the log"
            );
            examination.find(Harm::Order, id, what, &[delivered.line]);
        }
        if position > *reached {
            (*reached, *by) = (position, message);
        }
    }
}
