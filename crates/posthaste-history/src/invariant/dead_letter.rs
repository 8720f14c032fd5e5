//! I8: a dead letter is kept whole before its source is settled, and leaves only by a recorded act
//! of an operator.
//!
//! More reposts than there were dead letters are I9.

use std::collections::BTreeSet;

use crate::event::{Act, Answer, VerdictKind};
use crate::examination::Examination;
use crate::index::{By, Index};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    contents(index, examination);
    sources(index, examination);
    if index.is_at_rest {
        conservation(index, examination);
    }
}

fn contents(index: &Index<'_>, examination: &mut Examination) {
    for buried in &index.kinds.buried {
        examination.look();
        let id = &buried.id;
        let is_altered = index.committed(id).is_some_and(|message| message.digest != buried.digest);
        let what = match buried.reason.trim().is_empty() {
            true => format!("the dead letter of message {id} says no reason"),
            false if is_altered => {
                format!("the dead letter of message {id} is not what was committed")
            }
            false => continue,
        };
        examination.find(Harm::Other, id, what, &[buried.line]);
    }
}

/// Whoever is told that a message is given up finds it among the dead letters.
fn sources(index: &Index<'_>, examination: &mut Examination) {
    for answered in &index.kinds.answers {
        if answered.answer != Answer::DeadLettered {
            continue;
        }
        examination.look();
        let by = (Some(answered.consumer.as_str()), answered.id.as_str());
        let burials = index.burials.get(&by).into_iter().flatten();
        if !burials.into_iter().any(|buried| buried.place < answered.place) {
            let (id, consumer) = (&answered.id, &answered.consumer);
            let what = format!(
                "{consumer} settled message {id} as given up before it was among the dead letters"
            );
            examination.find(Harm::Lost, id, what, &[answered.line]);
        }
    }
    for settlement in index.kinds.settlements.iter().filter(|one| one.applied) {
        for verdict in &settlement.event.verdicts {
            if verdict.verdict != VerdictKind::Dead {
                continue;
            }
            examination.look();
            let by = (None, verdict.id.as_str());
            let is_kept = index.burials.contains_key(&by) || index.standing.contains_key(&by);
            if !is_kept && !index.audits.contains_key(&by) {
                let id = &verdict.id;
                let what = format!("message {id} was given up and is not among the dead letters");
                examination.find(Harm::Lost, id, what, &[settlement.line]);
            }
        }
    }
}

/// What was buried still stands, or an act says where it went.
fn conservation(index: &Index<'_>, examination: &mut Examination) {
    let all: BTreeSet<By<'_>> = index
        .burials
        .keys()
        .chain(index.standing.keys())
        .chain(index.audits.keys())
        .copied()
        .collect();
    for by in all {
        let burials = index.burials.get(&by).map_or(&[][..], Vec::as_slice);
        let stands = index.standing.get(&by);
        let audits = index.audits.get(&by).map_or(&[][..], Vec::as_slice);
        let count = |act| audits.iter().filter(|audit| audit.act == act).count();
        let (reposted, discarded) = (count(Act::Reposted), count(Act::Discarded));
        let left = usize::from(stands.is_some()) + reposted + discarded;
        // Not everybody notes when something is buried; then what is known of it says so.
        if burials.is_empty() {
            continue;
        }
        examination.look();
        let id = by.1;
        if left < burials.len() {
            let what = format!("the dead letter of message {id} is gone without a recorded act");
            let events: Vec<_> = burials.last().iter().map(|seen| seen.line).collect();
            examination.find(Harm::Lost, id, what, &events);
        } else if left > burials.len() && reposted <= burials.len() {
            let what = format!("more became of the dead letter of message {id} than there was");
            let events: Vec<_> = audits.last().iter().map(|seen| seen.line).collect();
            examination.find(Harm::Other, id, what, &events);
        }
    }
}
