//! I16: attempts are counted up over every crash, a message is given up after the allowed number,
//! and no sooner tried again than the shortest wait says.

use std::collections::BTreeMap;

use crate::event::{Act, Answer, Answered, ConsumerStarted, Handling, VerdictKind};
use crate::examination::Examination;
use crate::index::{Index, Seen, grouped};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    relays(index, examination);
    let settings: BTreeMap<&str, &ConsumerStarted> =
        index.kinds.consumers.iter().map(|one| (one.event.consumer.as_str(), one.event)).collect();
    let entered = grouped(&index.kinds.handling, |one| (one.consumer.as_str(), one.id.as_str()));
    for ((consumer, id), entered) in entered {
        examination.look();
        let settings = settings.get(consumer).copied();
        counted(index, consumer, id, &entered, examination);
        limited(index, consumer, id, &entered, settings, examination);
        let answers = index.answers.get(&(consumer, id)).map_or(&[][..], Vec::as_slice);
        if let Some(backoff) = settings.and_then(|settings| settings.backoff) {
            spaced(id, &entered, answers, backoff, examination);
        }
    }
}

/// The series of failed attempts of each message, as settlements tell it.
fn relays(index: &Index<'_>, examination: &mut Examination) {
    let limit = index.kinds.relays.iter().filter_map(|relay| relay.attempts).max();
    let mut latest = BTreeMap::new();
    for settlement in index.kinds.settlements.iter().filter(|one| one.applied) {
        for verdict in &settlement.event.verdicts {
            if !matches!(verdict.verdict, VerdictKind::Retry | VerdictKind::Dead) {
                continue;
            }
            examination.look();
            let (id, attempts) = (verdict.id.as_str(), verdict.attempts);
            // A message that is reposted begins anew.
            let audits = index.audits.get(&(None, id)).into_iter().flatten();
            let acts = audits
                .filter(|audit| audit.act == Act::Reposted && audit.place < settlement.place)
                .count();
            let before = latest.insert((id, acts), (attempts, settlement.line));
            let before = before.filter(|(before, _)| attempts <= *before);
            // What is refused for ever is given up at once.
            let is_over = verdict.verdict == VerdictKind::Retry
                && limit.is_some_and(|limit| attempts >= limit);
            if let Some((before, line)) = before.filter(|_| verdict.verdict == VerdictKind::Retry) {
                let what = format!("message {id} has failed {attempts} times after {before} times");
                examination.find(Harm::Other, id, what, &[line, settlement.line]);
            } else if is_over {
                let what = format!("message {id} is tried again after {attempts} failed attempts");
                examination.find(Harm::Other, id, what, &[settlement.line]);
            }
        }
    }
}

fn counted(
    index: &Index<'_>,
    consumer: &str,
    id: &str,
    entered: &[Seen<'_, Handling>],
    examination: &mut Examination,
) {
    for pair in entered.windows(2) {
        let [before, after] = pair else { continue };
        let is_new = reposted(index, consumer, id, before.place, after.place);
        let (Some(first), Some(second)) = (before.attempt, after.attempt) else { continue };
        if second <= first && !is_new {
            let what = format!("{consumer} counts attempt {second} of message {id} after {first}");
            examination.find(Harm::Other, id, what, &[before.line, after.line]);
        }
    }
}

fn limited(
    index: &Index<'_>,
    consumer: &str,
    id: &str,
    entered: &[Seen<'_, Handling>],
    settings: Option<&ConsumerStarted>,
    examination: &mut Examination,
) {
    let Some(limit) = settings.and_then(|settings| settings.attempts) else { return };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if let Some(over) = entered.get(limit)
        && !reposted(index, consumer, id, 0, over.place)
    {
        let what = format!("{consumer} tried message {id} more often than {limit} times");
        examination.find(Harm::Other, id, what, &[over.line]);
    }
}

/// Whether an operator sent it on its way again between these places.
fn reposted(index: &Index<'_>, consumer: &str, id: &str, from: usize, to: usize) -> bool {
    let audits = [None, Some(consumer)].map(|by| index.audits.get(&(by, id)));
    let mut audits = audits.into_iter().flatten().flatten();
    audits.any(|audit| audit.act == Act::Reposted && audit.place > from && audit.place < to)
}

fn spaced(
    id: &str,
    entered: &[Seen<'_, Handling>],
    answers: &[Seen<'_, Answered>],
    backoff: u64,
    examination: &mut Examination,
) {
    for failed in answers.iter().filter(|answered| answered.answer == Answer::Retried) {
        let next = entered.iter().find(|handling| handling.place > failed.place);
        let Some(next) = next else { continue };
        let waited = next.line.at.saturating_sub(failed.line.at);
        if waited < backoff {
            let what = format!(
                "message {id} was tried again after {} ms, and {} ms are the shortest wait",
                waited / 1_000_000,
                backoff / 1_000_000
            );
            examination.find(Harm::Other, id, what, &[failed.line, next.line]);
        }
    }
}
