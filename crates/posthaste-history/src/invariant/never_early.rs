//! I15: no message arrives before it is due by the database's clock, and one that was taken back
//! before it was due never arrives.

use std::collections::BTreeMap;

use crate::event::Act;
use crate::examination::Examination;
use crate::index::Index;
use crate::violation::Harm;

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    for delivered in &index.kinds.deliveries {
        let due = index.committed(&delivered.id).and_then(|message| message.due);
        let (Some(due), Some(now)) = (due, delivered.database_time) else { continue };
        examination.look();
        if now < due {
            let (id, consumer) = (&delivered.id, &delivered.consumer);
            let early = (due - now).div_ceil(1_000_000);
            let what = format!("message {id} arrived at {consumer} {early} ms before it was due");
            examination.find(Harm::Other, id, what, &[delivered.line]);
        }
    }
    let mut arrived = BTreeMap::new();
    for delivered in &index.kinds.deliveries {
        arrived.entry(delivered.id.as_str()).or_insert(delivered.line);
    }
    for audit in index.kinds.audits.iter().filter(|audit| audit.act == Act::Cancelled) {
        examination.look();
        let id = audit.id.as_str();
        if let Some(arrival) = arrived.get(id) {
            let what = format!("message {id} was taken back and arrived");
            examination.find(Harm::Phantom, id, what, &[audit.line, arrival]);
        }
    }
}
