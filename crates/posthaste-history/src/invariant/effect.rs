//! I6: what arrives takes effect once at every consumer that it is for, unless it was given up
//! there; and a sum that is kept of the effects is theirs.
//!
//! A second effect after the inbox entry was taken away is I7. What never arrived is I2.

use std::collections::BTreeSet;

use crate::event::PrunedFrom;
use crate::examination::Examination;
use crate::index::{At, Index};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    let pruned = pruned(index);
    for ((consumer, id), effects) in &index.effects {
        examination.look();
        let is_known = index.committed(id).is_some_and(|one| index.is_for(one, consumer));
        let is_known = is_known && !index.rolled_back.contains_key(id);
        if is_known && effects.len() > 1 && !pruned.contains(&(consumer, id)) {
            let what = format!("message {id} took effect {} times at {consumer}", effects.len());
            let events: Vec<_> = effects.iter().map(|seen| seen.line).collect();
            examination.find(Harm::DoubleEffect, id, what, &events);
        }
    }
    if index.is_at_rest {
        missing(index, examination);
    }
    for sum in &index.kinds.sums {
        examination.look();
        if sum.effects != sum.says {
            let (consumer, effects, says) = (&sum.consumer, sum.effects, sum.says);
            let what =
                format!("the effects of {consumer} add up to {effects}, but its sum says {says}");
            examination.find(Harm::DoubleEffect, consumer, what, &[sum.line]);
        }
    }
}

/// Only where some effect is told: not everybody tells them.
fn missing(index: &Index<'_>, examination: &mut Examination) {
    if index.effects.is_empty() {
        return;
    }
    for ((consumer, id), arrivals) in &index.arrivals {
        let Some(message) = index.committed(id) else { continue };
        let is_excused = message.row.is_none()
            || !index.is_for(message, consumer)
            || index.rolled_back.contains_key(id)
            || index.is_given_up(Some(consumer), id);
        if !is_excused && !index.effects.contains_key(&(consumer, id)) {
            let what = format!("message {id} arrived at {consumer} and never took effect");
            let events: Vec<_> = arrivals.first().iter().map(|seen| seen.line).collect();
            examination.find(Harm::Lost, id, what, &events);
        }
    }
}

/// Messages of which an inbox has forgotten that they were handled.
fn pruned<'h>(index: &Index<'h>) -> BTreeSet<At<'h>> {
    let inboxes = index.kinds.pruned.iter().filter(|pruned| pruned.from == PrunedFrom::Inbox);
    let entries = inboxes.flat_map(|pruned| {
        let consumer = pruned.event.consumer.as_deref().unwrap_or_default();
        pruned.event.ids.iter().map(move |id| (consumer, id.as_str()))
    });
    entries.collect()
}
