//! I7: an inbox entry outlives every copy that can still come; one that comes later is refused, so
//! that it does not take effect again in silence.
//!
//! Whether the entry went too early is I21.

use crate::event::{Answer, PrunedFrom};
use crate::examination::Examination;
use crate::index::Index;
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    for pruned in index.kinds.pruned.iter().filter(|one| one.from == PrunedFrom::Inbox) {
        let Some(consumer) = pruned.event.consumer.as_deref() else { continue };
        for id in &pruned.event.ids {
            examination.look();
            let at = (consumer, id.as_str());
            let effects = index.effects.get(&at).map_or(&[][..], Vec::as_slice);
            if let [_, .., last] = effects {
                let what = format!(
                    "message {id} took effect again at {consumer} after its inbox entry was gone"
                );
                examination.find(Harm::DoubleEffect, id, what, &[pruned.line, last.line]);
                continue;
            }
            let arrivals = index.arrivals.get(&at).into_iter().flatten();
            let Some(late) = arrivals.into_iter().find(|seen| seen.place > pruned.place) else {
                continue;
            };
            let answers = index.answers.get(&at).into_iter().flatten();
            let answer = answers.into_iter().find(|answered| answered.place > late.place);
            if answer.is_some_and(|answered| answered.answer != Answer::Refused) {
                let what = format!(
                    "a copy of message {id} was not refused at {consumer} after its inbox entry \
                     was gone"
                );
                examination.find(Harm::Other, id, what, &[pruned.line, late.line]);
            }
        }
    }
}
