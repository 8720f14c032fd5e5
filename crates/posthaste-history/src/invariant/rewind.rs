//! I4b: after a repetition the messages of a key go on in the order of their first arrivals, step
//! by step. A jump forward shows that two relays interleave.
//!
//! Where the broker shuts out a relay whose time is over there is none; elsewhere a key may have
//! as many as one batch for each fault so far that can bring another relay to work.

use std::collections::BTreeMap;

use crate::event::Delivered;
use crate::event::FaultTarget;
use crate::examination::Examination;
use crate::index::{Index, Seen};
use crate::violation::Harm;

/// The arrivals of a key at a consumer.
#[derive(Default)]
struct Line<'h> {
    ranks: BTreeMap<&'h str, u64>,
    current: u64,
    jumps: u64,
    rewound: Option<Seen<'h, Delivered>>,
}

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    let batch = index.kinds.relays.iter().filter_map(|relay| relay.batch).max();
    if batch.is_none() && !index.format.fenced {
        return;
    }
    let batch = batch.filter(|_| !index.format.fenced).unwrap_or(0);
    let mut moments: Vec<u64> = index
        .kinds
        .faults
        .iter()
        .filter(|one| brings_another(one.target))
        .map(|one| one.from)
        .collect();
    moments.sort_unstable();
    let mut lines: BTreeMap<(&str, &str, &str), Line<'_>> = BTreeMap::new();
    for delivered in &index.kinds.deliveries {
        let (consumer, id) = (delivered.consumer.as_str(), delivered.id.as_str());
        let Some(message) = index.committed(id) else { continue };
        let Some(key) = message.key else { continue };
        if index.is_out_of_line(consumer, message) {
            continue;
        }
        examination.look();
        let line = lines.entry((consumer, message.topic, key)).or_default();
        let next = line.ranks.len() as u64 + 1;
        let rank = *line.ranks.entry(id).or_insert(next);
        if rank > line.current + 1 {
            line.jumps += 1;
            let faults = moments.partition_point(|from| *from <= delivered.line.at) as u64;
            if line.jumps > batch.saturating_mul(faults) {
                let what =
                    format!("key {key} at {consumer} jumps to message {id} after a repetition");
                let before = line.rewound.map(|seen| seen.line);
                let events: Vec<_> = before.into_iter().chain([delivered.line]).collect();
                examination.find(Harm::Order, key, what, &events);
            }
        }
        if rank <= line.current {
            line.rewound = Some(*delivered);
        }
        line.current = rank;
    }
}

fn brings_another(target: FaultTarget) -> bool {
    matches!(
        target,
        FaultTarget::Relay | FaultTarget::Broker | FaultTarget::Database | FaultTarget::Several
    )
}
