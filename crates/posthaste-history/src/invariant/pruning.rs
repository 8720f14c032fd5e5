//! I21: no row of an outbox goes before its message is sent or given up, no entry of an inbox
//! before its window is over, and no log is kept past its cap in silence.

use std::collections::BTreeMap;

use crate::event::{OutcomeKind, Pruned, PrunedFrom, VerdictKind};
use crate::examination::Examination;
use crate::index::{Index, Seen};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    let done = done(index);
    for pruned in &index.kinds.pruned {
        match pruned.from {
            PrunedFrom::Outbox => {
                for id in &pruned.event.ids {
                    examination.look();
                    let is_done = done.get(id.as_str()).is_some_and(|place| *place < pruned.place);
                    if !is_done {
                        let what = format!("message {id} left the outbox before it was sent");
                        examination.find(Harm::Lost, id, what, &[pruned.line]);
                    }
                }
            }
            PrunedFrom::Inbox => inbox(index, pruned, examination),
        }
    }
    for held in &index.kinds.log_held {
        examination.look();
        if held.bytes > held.cap && !held.alarmed {
            let reader = &held.reader;
            let what = format!("the log kept for {reader} is past its cap, and nobody was told");
            examination.find(Harm::Other, reader, what, &[held.line]);
        }
    }
}

/// Where in the history messages were done with: sent, given up, or an operator's business.
fn done<'h>(index: &Index<'h>) -> BTreeMap<&'h str, usize> {
    let mut done = BTreeMap::new();
    let mut note = |id: &'h str, place: usize| {
        done.entry(id).and_modify(|known: &mut usize| *known = place.min(*known)).or_insert(place);
    };
    for outcome in index.kinds.outcomes.iter().filter(|one| one.outcome == OutcomeKind::Accepted) {
        note(&outcome.event.id, outcome.place);
    }
    for settlement in index.kinds.settlements.iter().filter(|one| one.applied) {
        let verdicts = settlement.event.verdicts.iter();
        let over =
            verdicts.filter(|one| matches!(one.verdict, VerdictKind::Sent | VerdictKind::Dead));
        over.for_each(|verdict| note(&verdict.id, settlement.place));
    }
    index.kinds.buried.iter().for_each(|buried| note(&buried.event.id, buried.place));
    index.kinds.audits.iter().for_each(|audit| note(&audit.event.id, audit.place));
    done
}

fn inbox<'h>(index: &Index<'h>, pruned: &Seen<'h, Pruned>, examination: &mut Examination) {
    let Some(consumer) = pruned.event.consumer.as_deref() else { return };
    let consumers = index.kinds.consumers.iter().filter(|one| one.event.consumer == consumer);
    let Some(window) = consumers.filter_map(|one| one.window).max() else { return };
    for id in &pruned.event.ids {
        let effects = index.effects.get(&(consumer, id.as_str())).into_iter().flatten();
        let Some(effect) = effects.into_iter().find(|effect| effect.place < pruned.place) else {
            continue;
        };
        examination.look();
        if pruned.line.at.saturating_sub(effect.line.at) < window {
            let what = format!("{consumer} forgot message {id} before its window was over");
            examination.find(Harm::Other, id, what, &[effect.line, pruned.line]);
        }
    }
}
