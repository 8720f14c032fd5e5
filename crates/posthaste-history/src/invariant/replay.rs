//! I10: a replay leaves the state as it was and sends nothing.

use crate::event::ReplayPhase;
use crate::examination::Examination;
use crate::index::{Index, grouped};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    for (scope, ends) in grouped(&index.kinds.replays, |replay| replay.scope.as_str()) {
        let began = ends.iter().find(|one| one.phase == ReplayPhase::Began);
        let ended = ends.iter().rev().find(|one| one.phase == ReplayPhase::Ended);
        let (Some(began), Some(ended)) = (began, ended) else { continue };
        examination.look();
        if began.state != ended.state {
            let what = format!("replaying {scope} has changed the state");
            examination.find(Harm::Other, scope, what, &[began.line, ended.line]);
        }
    }
    for publishing in &index.kinds.publishing {
        let Some(scope) = publishing.event.replay.as_deref() else { continue };
        examination.look();
        let what = format!("replaying {scope} has sent {} messages", publishing.ids.len());
        examination.find(Harm::Phantom, scope, what, &[publishing.line]);
    }
}
