//! I4a: by first arrival, what was committed before another of its topic and key was stated comes
//! first, at every consumer.
//!
//! One pass with the latest stating of each key. Messages that left their place in the line are
//! not asked to keep it: those with a due time, those given up, set aside or touched by an
//! operator. One that was known to fail when it was passed is I4d.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Delivered;
use crate::event::VerdictKind;
use crate::examination::Examination;
use crate::index::{Index, Message, Seen};
use crate::invariant::blocked_key;
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    let blocked: BTreeSet<_> =
        blocked_key::passed(index).iter().map(|one| (one.consumer, one.id)).collect();
    let set_aside = set_aside(index);
    let mut latest: BTreeMap<(&str, &str, &str), (&Message<'_>, Seen<'_, Delivered>)> =
        BTreeMap::new();
    for (delivered, message, key) in first_arrivals(index) {
        if message.stated.is_none() {
            continue;
        }
        examination.look();
        let consumer = delivered.consumer.as_str();
        let line = (consumer, message.topic, key);
        let (late, earlier) = latest.entry(line).or_insert((message, delivered));
        let (id, by) = (message.id, late.id);
        let is_excused = index.is_out_of_line(consumer, message)
            || set_aside.contains(id)
            || blocked.contains(&(consumer, id));
        if message.precedes(late) && !is_excused {
            let topic = message.topic;
            let what = format!(
                "message {id} of key {key} on {topic} was overtaken by the later {by} at {consumer}"
            );
            examination.find(Harm::Order, id, what, &[earlier.line, delivered.line]);
        }
        if message.stated > late.stated {
            (*late, *earlier) = (message, delivered);
        }
    }
}

/// The first arrival of each committed message with a key at each consumer, in order.
pub(super) fn first_arrivals<'i, 'h>(
    index: &'i Index<'h>,
) -> impl Iterator<Item = (Seen<'h, Delivered>, &'i Message<'h>, &'h str)> {
    let mut seen = BTreeSet::new();
    index.kinds.deliveries.iter().filter_map(move |delivered| {
        let message = index.committed(&delivered.id)?;
        let key = message.key?;
        seen.insert((&delivered.consumer, &delivered.id)).then_some((*delivered, message, key))
    })
}

/// Messages that waited for somebody to be bound to them: nothing of their key waits for them.
pub(super) fn set_aside<'h>(index: &Index<'h>) -> BTreeSet<&'h str> {
    let verdicts = index.kinds.settlements.iter().flat_map(|one| &one.event.verdicts);
    let set_aside = verdicts.filter(|verdict| verdict.verdict == VerdictKind::SetAside);
    set_aside.map(|verdict| verdict.id.as_str()).collect()
}
