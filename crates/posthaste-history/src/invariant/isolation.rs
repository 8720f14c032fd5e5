//! I22: while one key is in trouble, of what is stated with other keys as much arrives as before:
//! at least 80 percent of the share that arrived in as long a time before.
//!
//! Only where at least [`ENOUGH`] messages of other keys were stated in both times.

use crate::examination::Examination;
use crate::index::{Index, Message};
use crate::violation::Harm;

/// Fewer messages say nothing about a rate.
const ENOUGH: u64 = 20;
/// In hundredths, how much of the rate has to remain.
const REMAINS: u64 = 80;

/// What happened to the other keys in a time.
#[derive(Default)]
struct Time {
    stated: u64,
    arrived: u64,
}

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    for fault in &index.kinds.faults {
        let Some(key) = fault.event.key.as_deref() else { continue };
        let length = fault.until.saturating_sub(fault.from);
        let before = time(index, key, fault.from.saturating_sub(length), fault.from);
        let during = time(index, key, fault.from, fault.until);
        if before.stated < ENOUGH || during.stated < ENOUGH {
            continue;
        }
        examination.look();
        // arrived / stated, as fractions of whole numbers.
        let remains = during.arrived * before.stated * 100;
        if remains < before.arrived * during.stated * REMAINS {
            let what = format!(
                "during {} of key {key}, {} of {} messages of other keys arrived, and {} of {} \
                 before",
                fault.kind, during.arrived, during.stated, before.arrived, before.stated
            );
            examination.find(Harm::Other, key, what, &[fault.line]);
        }
    }
}

fn time(index: &Index<'_>, key: &str, from: u64, until: u64) -> Time {
    let is_within = |at: u64| from <= at && at < until;
    let mut time = Time::default();
    let others = index.messages.values().filter(|one| one.is_committed() && one.key != Some(key));
    for message in others.filter(|one| one.due.is_none()) {
        if !message.stating.is_some_and(|line| is_within(line.at)) {
            continue;
        }
        time.stated += 1;
        time.arrived += u64::from(has_arrived(index, message, until));
    }
    time
}

fn has_arrived(index: &Index<'_>, message: &Message<'_>, until: u64) -> bool {
    index.audience(message).all(|consumer| {
        let arrivals = index.arrivals.get(&(consumer, message.id)).and_then(|all| all.first());
        arrivals.is_some_and(|first| first.line.at < until)
    })
}
