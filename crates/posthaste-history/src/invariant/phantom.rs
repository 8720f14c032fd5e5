//! I3: nothing arrives or takes effect that was not committed, as it was committed and for whom;
//! and no two messages share an identity.
//!
//! What was rolled back is I1. What a repost made of a dead letter is I9.

use std::collections::BTreeSet;

use crate::event::Line;
use crate::examination::Examination;
use crate::index::Index;
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    if !index.is_at_rest {
        return;
    }
    let mut ids = BTreeSet::new();
    for row in &index.kinds.rows {
        if !ids.insert(row.id.as_str()) {
            let what = format!("two committed messages have the id {}", row.id);
            examination.find(Harm::Phantom, &row.id, what, &[row.line]);
        }
    }
    for seen in &index.kinds.deliveries {
        arrival(index, &seen.consumer, &seen.id, seen.digest, seen.line, examination);
    }
    for seen in &index.kinds.effects {
        arrival(index, &seen.consumer, &seen.id, seen.digest, seen.line, examination);
    }
}

fn arrival(
    index: &Index<'_>,
    consumer: &str,
    id: &str,
    digest: u64,
    line: &Line,
    examination: &mut Examination,
) {
    examination.look();
    if index.rolled_back.contains_key(id) || index.reposted_as.contains_key(id) {
        return;
    }
    let what = match index.committed(id) {
        Some(message) if message.row.is_none() && message.topic.is_empty() => return,
        Some(message) if index.is_for(message, consumer) => {
            if message.digest == digest || is_edited(index, id, digest) {
                return;
            }
            format!("message {id} at {consumer} is not what was committed")
        }
        _ => format!("message {id} arrived at {consumer} and was never committed for it"),
    };
    examination.find(Harm::Phantom, id, what, &[line]);
}

/// Whether an operator has made this of the message.
fn is_edited(index: &Index<'_>, id: &str, digest: u64) -> bool {
    let audits = index.kinds.audits.iter();
    audits.filter(|audit| audit.id == id).any(|audit| audit.after == Some(digest))
}
