//! I9: a dead letter is reposted once, and then arrives or is given up again; under another id it
//! is linked to the original and carries the same.

use crate::event::Act;
use crate::event::Audit;
use crate::examination::Examination;
use crate::index::{Index, Seen};
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    for (by, audits) in &index.audits {
        let reposts: Vec<_> =
            audits.iter().filter(|audit| audit.act == Act::Reposted).copied().collect();
        let Some(last) = reposts.last().copied() else { continue };
        examination.look();
        let burials = index.burials.get(by).map_or(0, Vec::len);
        if burials > 0 && reposts.len() > burials {
            let id = by.1;
            let what = format!(
                "message {id} was reposted {} times, and given up {burials} times",
                reposts.len()
            );
            let events: Vec<_> = reposts.iter().map(|seen| seen.line).collect();
            examination.find(Harm::Other, id, what, &events);
        }
        if index.is_at_rest {
            lineage(index, last, examination);
        }
    }
}

/// What became of the message that was reposted last.
fn lineage<'h>(index: &Index<'h>, audit: Seen<'h, Audit>, examination: &mut Examination) {
    let id = audit.event.id.as_str();
    let sent = audit.event.new_id.as_deref().unwrap_or(id);
    let consumers: Vec<&str> = match audit.event.consumer.as_deref() {
        Some(consumer) => vec![consumer],
        None => {
            index.committed(id).into_iter().flat_map(|message| index.audience(message)).collect()
        }
    };
    for consumer in consumers {
        let arrivals = index.arrivals.get(&(consumer, sent)).map_or(&[][..], Vec::as_slice);
        let arrival = arrivals.iter().find(|seen| seen.place > audit.place);
        let is_buried_again = [None, Some(consumer)].into_iter().any(|by| {
            let burials = index.burials.get(&(by, sent)).into_iter().flatten();
            index.standing.contains_key(&(by, sent))
                || burials.into_iter().any(|buried| buried.place > audit.place)
        });
        match arrival {
            None if !is_buried_again => {
                let what = format!("message {id} was reposted and never arrived at {consumer}");
                examination.find(Harm::Lost, id, what, &[audit.line]);
            }
            Some(arrival) if sent != id && !is_same(index, id, arrival.digest) => {
                let what = format!("what {consumer} got as the repost {sent} is not message {id}");
                examination.find(Harm::Phantom, id, what, &[audit.line, arrival.line]);
            }
            _ => {}
        }
    }
}

/// Whether it is the message, or what an operator has made of it.
fn is_same(index: &Index<'_>, id: &str, digest: u64) -> bool {
    let audits = index.kinds.audits.iter().filter(|audit| audit.id == id);
    let mut made = audits.filter_map(|audit| audit.after);
    index.committed(id).is_none_or(|message| message.digest == digest)
        || made.any(|after| after == digest)
}
