//! From a history to a report.

use crate::examination::Examination;
use crate::floors::Floors;
use crate::history::History;
use crate::index::{Index, Message};
use crate::invariant::{Invariant, failovers, hits};
use crate::report::{Counts, Report};

/// Says whether the promise was kept in this history, and if not, where; and whether enough
/// happened for that to mean something.
pub fn check(history: &History, floors: &Floors) -> Report {
    let index = Index::of(history);
    let examinations: Vec<Examination> =
        Invariant::ALL.iter().map(|invariant| invariant.examine(&index)).collect();
    let faults: Vec<_> = index.kinds.faults.iter().map(|fault| fault.event).collect();
    let counts = counted(&index);
    let report = Report::new(counts, &examinations, &faults, |counts| floors.shortfalls(counts));
    Report { unknown_events: history.unknown().clone(), torn_lines: history.torn(), ..report }
}

fn counted(index: &Index<'_>) -> Counts {
    let moments = || index.lines.iter().map(|line| line.at);
    let span = moments().max().zip(moments().min()).map_or(0, |(last, first)| last - first);
    let mut counts = Counts {
        events: index.lines.len() as u64,
        nanoseconds: span,
        rolled_back: index.rolled_back.len() as u64,
        faults: index.kinds.faults.len() as u64,
        faults_that_hit: hits(index),
        failovers: failovers(index),
        ..Counts::default()
    };
    for message in index.messages.values() {
        counts.acknowledged += u64::from(message.acknowledged.is_some());
        if message.is_committed() {
            counts.committed += u64::from(message.row.is_some() || !index.is_at_rest);
            fate(index, message, &mut counts);
        }
    }
    counts
}

/// What became of a committed message.
fn fate<'h>(index: &Index<'h>, message: &Message<'h>, counts: &mut Counts) {
    let mut audience = index.audience(message).peekable();
    let has_audience = audience.peek().is_some();
    let (mut arrived, mut took_effect) = (has_audience, has_audience);
    let mut is_dead = !has_audience && index.is_given_up(None, message.id);
    for consumer in audience {
        let at = (consumer, message.id);
        let arrivals = index.arrivals.get(&at).map_or(0, |all| all.len() as u64);
        let effects = index.effects.get(&at).map_or(0, |all| all.len() as u64);
        arrived &= arrivals > 0;
        took_effect &= effects > 0;
        let is_done = arrivals > 0 && effects > 0;
        is_dead |= !is_done && index.is_given_up(Some(consumer), message.id);
        let repeated = arrivals.saturating_sub(1);
        counts.repeated += repeated;
        counts.duplicates_absorbed += repeated.saturating_sub(effects.saturating_sub(1));
    }
    counts.delivered += u64::from(arrived);
    counts.effects += u64::from(took_effect);
    counts.dead_letters += u64::from(is_dead);
}
