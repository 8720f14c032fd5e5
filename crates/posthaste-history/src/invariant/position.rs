//! I20: no checkpoint of a lane, and no position reported to a log, passes an entry that was read
//! and has no verdict yet; and neither ever falls.
//!
//! Settlements are taken in the order of the history. An entry that was not read yet is none of
//! their business: a transaction that commits late may have a lower position.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, Line};
use crate::examination::Examination;
use crate::index::Index;
use crate::violation::Harm;

/// What is known of a lane.
#[derive(Default)]
struct Lane<'h> {
    /// Entries without a verdict, by position.
    open: BTreeMap<u64, (&'h str, &'h Line)>,
    places: BTreeMap<&'h str, u64>,
    checkpoint: u64,
    confirmed: u64,
}

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    let mut lanes: BTreeMap<&str, Lane<'_>> = BTreeMap::new();
    let mut settled = BTreeSet::new();
    for line in index.lines {
        let (name, position, is_log) = match &line.event {
            Event::Read(read) => {
                let lane = lanes.entry(&read.lane).or_default();
                for entry in read.entries.iter().filter(|one| !settled.contains(one.id.as_str())) {
                    lane.open.entry(entry.position).or_insert((&entry.id, line));
                    lane.places.insert(&entry.id, entry.position);
                }
                continue;
            }
            Event::Settlement(settlement) if settlement.applied => {
                let lane = lanes.entry(&settlement.lane).or_default();
                for verdict in &settlement.verdicts {
                    settled.insert(verdict.id.as_str());
                    if let Some(position) = lane.places.remove(verdict.id.as_str()) {
                        lane.open.remove(&position);
                    }
                }
                let Some(checkpoint) = settlement.checkpoint else { continue };
                (settlement.lane.as_str(), checkpoint, false)
            }
            Event::Confirmed(confirmed) => (confirmed.lane.as_str(), confirmed.position, true),
            _ => continue,
        };
        examination.look();
        let lane = lanes.entry(name).or_default();
        let reached = if is_log { &mut lane.confirmed } else { &mut lane.checkpoint };
        let what = if is_log { "the position reported to the log" } else { "the checkpoint" };
        if position < *reached {
            let what = format!("{what} of lane {name} falls from {reached} to {position}");
            examination.find(Harm::Other, name, what, &[line]);
        }
        *reached = position.max(*reached);
        if let Some((_, (id, read))) = lane.open.range(..=position).next() {
            let what = format!("{what} of lane {name} passes message {id}, which has no verdict");
            examination.find(Harm::Lost, id, what, &[read, line]);
        }
    }
}
