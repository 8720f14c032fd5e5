//! I5: where the history holds every fault, each copy has one that explains it.
//!
//! A fault before the broker (at a relay, the broker, a database) can put one more copy of a
//! message into the broker; a fault behind it (at a consumer, the broker, a database) can have each
//! of these arrive once more. Only faults count of which some part lies between the first sight of
//! a message and the copy. So with b faults before and c behind, a message arrives at most
//! (1 + b) (1 + c) times. What a consumer asked to come again, and what an operator reposted, is no
//! copy. Messages that were never committed are I3.

use std::collections::BTreeMap;

use crate::event::{Act, Answer, Delivered, Fault, FaultTarget};
use crate::examination::Examination;
use crate::index::{Index, Message, Seen, Spans};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    if !index.format.faults_known {
        return;
    }
    let mut faults: BTreeMap<&str, Faults> = BTreeMap::new();
    for ((consumer, id), arrivals) in &index.arrivals {
        let faults = faults.entry(consumer).or_insert_with(|| Faults::of(index, consumer));
        let Some(message) = index.committed(id).filter(|one| index.is_for(one, consumer)) else {
            continue;
        };
        examination.look();
        let Some(last) = arrivals.last() else { continue };
        let wanted = asked(index, consumer, id) + reposted(index, consumer, id);
        let copies = (arrivals.len() as u64 - 1).saturating_sub(wanted);
        let bound = faults.bound(first_sight(message, arrivals), last.line.at);
        if copies > bound {
            let what = format!(
                "message {id} arrived at {consumer} {} times, and the faults explain {bound} \
                 copies",
                arrivals.len()
            );
            let events: Vec<_> = arrivals.iter().map(|seen| seen.line).collect();
            examination.find(Harm::Other, id, what, &events);
        }
    }
}

fn first_sight(message: &Message<'_>, arrivals: &[Seen<'_, Delivered>]) -> u64 {
    let noted = message.stating.or(message.acknowledged).map(|line| line.at);
    noted.or(arrivals.first().map(|seen| seen.line.at)).unwrap_or(0)
}

/// When there were faults before the broker, and behind it for one consumer.
struct Faults {
    before: Spans,
    behind: Spans,
}

impl Faults {
    fn of(index: &Index<'_>, consumer: &str) -> Self {
        let faults = |is_so: &dyn Fn(&Fault) -> bool| {
            let faults = index.kinds.faults.iter().filter(|fault| is_so(fault));
            Spans::of(faults.map(|fault| (fault.from, fault.until)))
        };
        Self {
            before: faults(&|fault| is_anywhere(fault) || fault.target == FaultTarget::Relay),
            behind: faults(&|fault| {
                let is_its = fault.name.as_deref().is_none_or(|name| name == consumer);
                let is_there = matches!(fault.target, FaultTarget::Consumer | FaultTarget::Handler);
                is_anywhere(fault) || is_there && is_its
            }),
        }
    }

    /// How many copies the faults of this time explain.
    fn bound(&self, from: u64, to: u64) -> u64 {
        let (before, behind) = (self.before.within(from, to), self.behind.within(from, to));
        (1 + before).saturating_mul(1 + behind) - 1
    }
}

/// Whether it is felt before the broker and behind it.
fn is_anywhere(fault: &Fault) -> bool {
    matches!(fault.target, FaultTarget::Broker | FaultTarget::Database | FaultTarget::Several)
}

/// How often the consumer asked for it to come again.
fn asked<'h>(index: &Index<'h>, consumer: &'h str, id: &'h str) -> u64 {
    let answers = index.answers.get(&(consumer, id)).into_iter().flatten();
    let again = |answer| matches!(answer, Answer::Retried | Answer::Released);
    answers.filter(|answered| again(answered.answer)).count() as u64
}

/// How often an operator sent it on its way again under its own id.
fn reposted<'h>(index: &Index<'h>, consumer: &'h str, id: &'h str) -> u64 {
    let audits = [None, Some(consumer)].map(|by| index.audits.get(&(by, id)));
    let audits = audits.into_iter().flatten().flatten();
    audits.filter(|audit| audit.act == Act::Reposted && audit.new_id.is_none()).count() as u64
}

/// How many faults met something on its way: a message that was seen before the fault was over
/// and that arrived after it had begun.
pub(crate) fn hits(index: &Index<'_>) -> u64 {
    let mut lasts: BTreeMap<&str, u64> = BTreeMap::new();
    for ((_, id), arrivals) in &index.arrivals {
        let last = arrivals.last().map_or(0, |seen| seen.line.at);
        lasts.entry(id).and_modify(|known| *known = last.max(*known)).or_insert(last);
    }
    let ways = lasts.into_iter().filter_map(|(id, last)| {
        let message = index.committed(id)?;
        let noted = message.stating.or(message.acknowledged);
        Some((noted.map_or(last, |line| line.at.min(last)), last))
    });
    let ways = Spans::of(ways);
    let faults = index.kinds.faults.iter();
    faults.filter(|fault| ways.within(fault.from, fault.until) > 0).count() as u64
}
